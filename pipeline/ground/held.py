"""A folder that one process at a time writes into."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Holds `folder`, once whoever else holds it has let it go: the kernel sees to that when a holder dies.

    The folder itself is locked, so that nothing is left in it. Some network file systems cannot lock a folder; there
    two processes at once are on their own.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
