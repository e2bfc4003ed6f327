"""A folder that one process at a time writes into."""

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Makes `folder` and holds it, once whoever else does has let it go: the kernel sees to that when a holder dies.

    The folder itself is locked, so that nothing is left in it. Some network file systems cannot lock a folder; there
    two processes at once are on their own.
    """
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with suppress(OSError):
                _lock(handle, folder)
            if _is_still(handle, folder):
                yield
                return
        finally:
            os.close(handle)


def _lock(handle: int, folder: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        with suppress(OSError, AttributeError):  # nobody reads it: that says nothing of the lock
            sys.stderr.write(f"{folder}: waits for another process that writes there\n")
        fcntl.flock(handle, fcntl.LOCK_EX)


def _is_still(handle: int, folder: Path) -> bool:
    """Whether `handle` is of `folder`: whoever held it may have removed it."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(handle), folder.stat())
    return False
