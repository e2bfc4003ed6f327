"""SEAL: what a checkpoint must be, byte for byte, and the proof that it was whole once.

Orbax finds no bit flip in array data (229 of 230 flips restored silently wrong), so a step counts only under a SEAL:
the size and xxh3_128 of every file, and dtype, shape and xxh3_128 of every array as it stood in host memory before
Orbax saw it. The first part is checked before Orbax opens anything, the second after. Names are relative and times
are absent, so a copy stays valid anywhere.

The hash guards against accidents, not against forgers: xxh3 is not cryptographic (30 GB/s against 1.8 for SHA-256).
Parsing is strict all the same: no name leaves the step's directory and no symbolic link is followed.
"""

import errno
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import xxhash

from pipeline.checkpoint import durable

NAME = "SEAL"
_FORMAT = 1
_LARGEST = 64 << 20  # bytes; a SEAL of 1,000 arrays takes 0.1 MB
_BLOCK = 4 << 20
_DAMAGE = {errno.EIO, errno.EUCLEAN, errno.EBADMSG, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENXIO}


class Damaged(Exception):
    """The SEAL itself cannot be trusted; the message says why."""


class OtherVersion(OSError):
    """The SEAL is whole, and of a version that this one does not know: nothing is wrong with the checkpoint."""


@dataclass(frozen=True)
class Leaf:
    """One array: dtype name, shape, xxh3_128 of its bytes in C order (hexadecimal)."""

    dtype: str
    shape: tuple[int, ...]
    digest: str

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class Seal:
    """`files`: relative name -> (size [bytes], xxh3_128); `leaves`: name in the state -> Leaf."""

    step: int
    files: dict[str, tuple[int, str]]
    leaves: dict[str, Leaf]

    @property
    def size(self) -> int:
        """All files together [bytes]."""
        return sum(size for size, _ in self.files.values())


def write(directory: Path, step: int, leaves: dict[str, Leaf]) -> Seal:
    """Flushes all of `directory` to the medium and seals it: durable on return, but for the name of `directory`."""
    durable.fsync_tree(directory)
    files = {name: _digest(directory / name) for name in _walk(directory)}
    seal = Seal(step, files, leaves)
    put(directory, seal)
    return seal


def put(directory: Path, seal: Seal) -> None:
    """Writes a SEAL, durable on return: byte for byte the same for the same content."""
    durable.write(directory / NAME, _encode(seal))


def read(directory: Path, step: int) -> Seal:
    """The SEAL of `directory`, which must be that of `step`.

    Raises:
        Damaged: missing, unreadable, altered in any bit, of another step, or naming a file outside `directory`.
        OtherVersion: of another format.
        OSError: the machine's trouble.
    """
    try:
        with _open(directory / NAME) as file:
            data = file.read(_LARGEST + 1)
    except OSError as error:
        if error.errno not in _DAMAGE:
            raise
        raise Damaged(f"{NAME}: {'missing' if error.errno == errno.ENOENT else error.strerror}") from error
    body, _, tail = data.partition(b"\n")
    if len(data) > _LARGEST or tail != _checksum(body):
        raise Damaged(f"{NAME}: does not match its own checksum")
    try:
        content = json.loads(body)
        if content["format"] != _FORMAT or set(content) - {"format", "step", "files", "leaves"}:
            raise OtherVersion(errno.ENOTSUP, "sealed by another version of Dayside", str(directory / NAME))
        return _decode(content, step)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Damaged(f"{NAME}: {error}") from error


def problems(directory: Path, seal: Seal, *, cold: bool = False) -> list[str]:
    """What differs from the SEAL, one line each, empty when whole: missing, wrong size, wrong hash, not sealed, not a
    plain file.

    `cold` drops each file from the page cache first, so that the medium is read and not the memory of what was written.

    Raises:
        OSError: the machine's trouble (too many open files, no permission), which says nothing about the checkpoint.
    """
    found, present = [], set()
    for name in _walk(directory):
        present.add(name)
        if name == NAME:
            continue
        if name not in seal.files:
            found.append(f"{name}: not in the {NAME}")
            continue
        try:
            size, digest = _digest(directory / name, cold=cold)
        except OSError as error:
            if error.errno not in _DAMAGE:
                raise
            found.append(f"{name}: {error.strerror}")
            continue
        if size != seal.files[name][0]:
            found.append(f"{name}: {size} bytes, sealed with {seal.files[name][0]}")
        elif digest != seal.files[name][1]:
            found.append(f"{name}: content differs from what was sealed (xxh3_128)")
    return found + [f"{name}: missing" for name in seal.files if name not in present]


def holds(directory: Path, seal: Seal, name: str) -> bool:
    """Whether this one file is as it was sealed.

    Raises:
        OSError: it cannot be read.
    """
    return name in seal.files and _digest(directory / name) == seal.files[name]


def inspect(directory: Path, step: int, *, cold: bool = False) -> tuple[Seal | None, list[str]]:
    """The SEAL and everything wrong under it; None when the SEAL itself is.

    Raises:
        OtherVersion, OSError: as `read`; neither says anything against the checkpoint.
    """
    try:
        seal = read(directory, step)
    except Damaged as damage:
        return None, [str(damage)]
    return seal, problems(directory, seal, cold=cold)


def digest(data: Any) -> str:
    """xxh3_128 of anything with a buffer, hexadecimal."""
    return xxhash.xxh3_128_hexdigest(data)


def _checksum(body: bytes) -> bytes:
    return digest(body).encode() + b"\n"


def _encode(seal: Seal) -> bytes:
    leaves = {name: [leaf.dtype, leaf.shape, leaf.digest] for name, leaf in seal.leaves.items()}
    content = {"format": _FORMAT, "step": seal.step, "files": seal.files, "leaves": leaves}
    body = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
    return body + b"\n" + _checksum(body)


def _decode(content: dict[str, Any], step: int) -> Seal:
    if type(content["step"]) is not int or content["step"] != step:
        raise ValueError(f"of step {content['step']}, found under {step}")
    files = {_safe(name): (_count(size), _hex(digest)) for name, (size, digest) in content["files"].items()}
    leaves = {
        name: Leaf(str(dtype), tuple(map(_count, shape)), _hex(digest))
        for name, (dtype, shape, digest) in content["leaves"].items()
    }
    return Seal(step, files, leaves)


def _safe(name: str) -> str:
    path = PurePosixPath(name)
    if not name or "\0" in name or path.is_absolute() or ".." in path.parts or str(path) != name or name in (".", NAME):
        raise ValueError(f"names {name!r}, which is no file of a checkpoint")
    return name


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is no size")
    return value


def _hex(value: Any) -> str:
    if not isinstance(value, str) or len(value) != 32 or set(value) - set("0123456789abcdef"):
        raise ValueError(f"{value!r} is no xxh3_128")
    return value


def _walk(directory: Path) -> list[str]:
    """Relative names of everything that is not a directory; links are listed, never followed."""
    found = []
    for parent, directories, files in os.walk(directory, onerror=_unless_damage):
        links = [name for name in directories if Path(parent, name).is_symlink()]
        found += [Path(parent, name).relative_to(directory).as_posix() for name in files + links]
    return sorted(found)


def _unless_damage(error: OSError) -> None:
    if error.errno not in _DAMAGE:
        raise error


def _open(path: Path) -> Any:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.ENXIO, "not a plain file")
    return open(descriptor, "rb", buffering=0)


def blocks(path: Path, *, cold: bool = False) -> Iterator[memoryview]:
    """The bytes of a plain file, 4 MB at a time in the same memory; links are not followed."""
    block = memoryview(bytearray(_BLOCK))
    with _open(path) as file:
        if cold and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while count := file.readinto(block):
            yield block[:count]


def _digest(path: Path, *, cold: bool = False) -> tuple[int, str]:
    """Size [bytes] and xxh3_128 of a file."""
    hasher, size = xxhash.xxh3_128(), 0
    for block in blocks(path, cold=cold):
        hasher.update(block)
        size += len(block)
    return size, hasher.hexdigest()
