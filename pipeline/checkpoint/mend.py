"""A sealed step made again out of copies of it, some of them damaged: how a mirror is written and damage repaired."""

import errno
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

import xxhash

from pipeline.checkpoint import durable, layout, seal
from pipeline.checkpoint.seal import Damaged, Seal


def rebuild(step: int, copies: Sequence[Path], directory: Path, check: Callable[[], None] = lambda: None) -> None:
    """Puts step `step` into `directory`, each file from a copy in which it is what was sealed.

    Two copies that are both damaged still make a whole one, unless the same file is damaged in both. What was written
    is read back from the medium before the step gets its number; it is durable on return.

    Args:
        copies: directories that hold the step; the first with a good SEAL says what it must be.
        directory: has no step of that number.
        check: called between blocks of 4 MB; what it raises ends the copy, and leaves nothing behind.

    Raises:
        Damaged: no whole step can be made of the copies.
        OSError: `directory` cannot be written.
    """
    seals, reasons = [], []
    for copy in copies:
        try:
            seals.append(seal.read(copy, step))
        except (Damaged, OSError) as damage:
            reasons.append(str(damage))
    temporary = layout.mending(directory, step)
    for sealed in seals:
        try:
            _fill(temporary, sealed, copies, check)
            durable.fsync_tree(temporary)
            seal.put(temporary, sealed)
            if wrong := seal.inspect(temporary, step, cold=True)[1]:
                raise OSError(errno.EIO, f"reads back otherwise than it was written: {wrong[0]}", str(temporary))
            durable.rename(temporary, layout.path(directory, step))
            return
        except Damaged as damage:
            reasons.append(str(damage))
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    raise Damaged("; ".join(dict.fromkeys(reasons)) or "there is no copy")


def _fill(temporary: Path, sealed: Seal, copies: Sequence[Path], check: Callable[[], None]) -> None:
    temporary.mkdir()
    for name, wanted in sealed.files.items():
        target = temporary / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            if not any(_copied(copy / name, file, wanted, check) for copy in copies):
                raise Damaged(f"{name}: whole in no copy")


class _Unreadable(Exception):
    """A copy cannot be read: its own trouble, and not that of the device written to."""


def _copied(source: Path, file: IO[bytes], wanted: tuple[int, str], check: Callable[[], None]) -> bool:
    """Whether `file` now holds what was sealed."""
    file.seek(0)
    file.truncate()
    hasher = xxhash.xxh3_128()
    try:
        for block in _read(source):
            check()
            hasher.update(block)
            file.write(block)
    except _Unreadable:
        return False
    return (file.tell(), hasher.hexdigest()) == wanted


def _read(source: Path) -> Iterator[memoryview]:
    try:
        yield from seal.blocks(source)
    except OSError as error:
        raise _Unreadable from error
