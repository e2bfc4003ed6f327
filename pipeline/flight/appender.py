"""Appends to a file, and outlives a full disk."""

import errno
import os
from pathlib import Path

FULL = {errno.ENOSPC, errno.EDQUOT}


class Appender:
    """What a full disk refuses is kept in memory, in order, and written with the next `write` that finds room.

    Bytes go to the file in the order given and none twice, whatever part of a write the disk took: nothing is torn but
    by a kill or a power cut.
    """

    def __init__(self, path: Path):
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._waiting = b""

    def write(self, data: bytes) -> None:
        self._waiting += data
        try:
            while self._waiting:
                self._waiting = self._waiting[os.write(self._file, self._waiting) :]
        except OSError as error:
            if error.errno not in FULL:
                raise

    def sync(self) -> None:
        """What the disk has taken is on the medium."""
        try:
            os.fsync(self._file)
        except OSError as error:
            if error.errno not in FULL:
                raise

    def close(self) -> None:
        self.write(b"")
        os.close(self._file)
