"""Appends to a file, and outlives a full disk."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.checkpoint import durable
from pipeline.config import FULL


class Appender:
    """What a full disk refuses is kept in memory, in order, and written with the next `write` that finds room.

    Bytes go to the file in the order given and none twice, whatever part of a write the disk took: nothing is torn but
    by a kill or a power cut.
    """

    def __init__(self, path: Path):
        self._path, self._waiting = path, b""
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def write(self, data: bytes) -> None:
        self._waiting += data
        with self._outliving():
            while self._waiting:
                # By `map`, Python looks for signals before the call and after its result is kept, and not in between: a
                # Ctrl-C there would have what is written be written again.
                (taken,) = map(os.write, [self._file], [self._waiting])
                self._waiting = self._waiting[taken:]

    def sync(self) -> None:
        """What the disk has taken is on the medium."""
        with self._outliving():
            os.fsync(self._file)

    def close(self) -> None:
        try:
            self.write(b"")
        finally:
            os.close(self._file)

    @contextmanager
    def _outliving(self) -> Iterator[None]:
        try:
            with durable.naming(self._path):
                yield
        except OSError as error:
            if error.errno not in FULL:
                raise
