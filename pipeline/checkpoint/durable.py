"""Writes that a power cut cannot take back.

A write is durable once the file *and* every directory entry on the way to it are on the medium: fsync of a file does
not cover its name, and a rename is only a promise until its directory is fsynced. Nothing here is retried: after a
failed fsync Linux marks the pages clean, so a second fsync reports a success that is not one. The caller throws the
whole step away instead.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """What a read, a write or an fsync raises, which know a descriptor alone, names `path`."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:  # else it would print as nothing but the name
            error.filename = error.filename or str(path)
        raise


def fsync(path: Path) -> None:
    """Flushes one file, or one directory's entries, to the medium."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)  # a pipe would wait for its writer
    try:
        with naming(path):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_tree(root: Path) -> None:
    """Flushes every file and directory under `root`, children before parents, and `root` itself."""
    for directory, _, files in os.walk(root, topdown=False, onerror=_stop):
        for name in files:
            fsync(Path(directory, name))
        fsync(Path(directory))


def _stop(error: OSError) -> None:
    raise error


def make(directory: Path) -> None:
    """Makes a directory and what is missing above it, durably. What is there already costs nothing."""
    if not directory.exists():
        make(directory.parent)
        directory.mkdir(exist_ok=True)
        fsync(directory.parent)


def write(path: Path, data: bytes) -> None:
    """Puts `data` at `path` so that after a power cut the file is the old one or the new one, whole."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with naming(path), temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        rename(temporary, path)
    except OSError:
        with suppress(OSError):  # what a full disk has taken of it
            temporary.unlink(missing_ok=True)
        raise


def update(path: Path, data: bytes) -> None:
    """As `write`, but what is there already needs no disk space."""
    before = None
    with suppress(OSError):  # not there, or no longer readable
        before = path.read_bytes()
    if before != data:
        write(path, data)


def rename(source: Path, target: Path) -> None:
    """Atomic rename on one file system, durable on return. `target` is a free name or a file."""
    os.rename(source, target)
    fsync(target.parent)
    if source.parent != target.parent:
        fsync(source.parent)
