"""A chunk: some bytes of one version of one file, in a file of its own that says all of itself.

    MAGIC      8 bytes
    address    32 bytes, the SHA-256 of all that follows
    length     4 bytes, big-endian: of the head
    head       JSON: what `Head` holds
    payload    the bytes [offset, offset + length) of the file, less those of its base at the same place, modulo 256;
               zstd, or as they are where that is no shorter

So a file is rebuilt from its chunks alone, in any order, whatever else was lost, and no manifest is needed to know
where a byte belongs. A base is an earlier version (or an earlier checkpoint's weights) that the ground holds whole: of
what was appended to, `kept` leading bytes are taken from it and need no chunk; of weights, the differences are small
numbers, which compress.

What is read comes through a radio. Whatever is not exactly of this form is `Malformed`. The hash guards against
accidents; who may transmit is for the link to say.
"""

import hashlib
import json
import struct
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import zstandard

MAGIC = b"DAYSIDE\x01"
LARGEST = 1 << 20  # bytes of a file in one chunk
LARGEST_FILE = 1 << 40  # bytes
LARGEST_FOLDER = 1 << 20  # files
FURTHEST = 1 << 50  # of a Moment; who listens believes far less (`read_inbox`), so that the sender can always go on
_LARGEST_HEAD = 1 << 14
_BEFORE_HEAD = struct.Struct(">8s32sI")
LARGEST_CHUNK = _BEFORE_HEAD.size + _LARGEST_HEAD + LARGEST  # bytes
_ZSTD_LEVEL = 3


# Bytes of the ledger when a file was read, which no clock takes back; and the mission second, for those of one length.
# Of two, the later is newer. Chunks and listings have the mission second first.
Moment = tuple[int, float]


class Malformed(Exception):
    """Not a chunk, or a damaged one; the message says why."""


@dataclass(frozen=True)
class Version:
    """What a file was at one time."""

    path: str
    size: int  # bytes
    sha256: str  # hexadecimal


@dataclass(frozen=True)
class Head:
    at: Moment
    file: Version
    offset: int
    length: int
    base: Version | None = None
    kept: int = 0  # leading bytes that are those of the base
    together: int = 0  # files in its folder, which is of use with all of them alone; 0: it is of use by itself


@dataclass(frozen=True)
class Chunk:
    address: str  # SHA-256, hexadecimal
    head: Head
    payload: bytes

    def content(self, base: bytes = b"") -> bytes:
        """The bytes of the file; `base`: those of its base at the same place, as many as there are.

        Raises:
            Malformed: the payload does not decompress to as many bytes as the head says.
        """
        return _sum(_decompressed(self.payload, self.head.length), base, np.add)


def encode(head: Head, content: bytes, base: bytes = b"") -> tuple[str, bytes]:
    """The address of a chunk, and the chunk."""
    plain = _sum(content, base, np.subtract)
    packed = zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(plain)
    fields = asdict(head) | {"at": head.at[::-1], "file": _list(head.file), "base": head.base and _list(head.base)}
    words = json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()
    rest = struct.pack(">I", len(words)) + words + (packed if len(packed) < len(plain) else plain)
    digest = hashlib.sha256(rest)
    return digest.hexdigest(), MAGIC + digest.digest() + rest


def decode(data: bytes) -> Chunk:
    """The chunk in `data`.

    Raises:
        Malformed: it is none, or not as it was written.
    """
    if len(data) < _BEFORE_HEAD.size or len(data) > LARGEST_CHUNK:
        raise Malformed(f"{len(data)} bytes is no chunk")
    magic, digest, length = _BEFORE_HEAD.unpack_from(data)
    if magic != MAGIC:
        raise Malformed("does not begin as a chunk does")
    view = memoryview(data)
    found = hashlib.sha256(view[len(MAGIC) + len(digest) :])
    if found.digest() != digest:
        raise Malformed("damaged, or cut short")
    words, payload = data[_BEFORE_HEAD.size :][:length], bytes(view[_BEFORE_HEAD.size + length :])
    try:
        if not length <= _LARGEST_HEAD:
            raise ValueError("its head is too long")
        head = _head(json.loads(words))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise Malformed(f"its head is not one ({error})") from error
    return Chunk(found.hexdigest(), head, payload)


def safe_path(path: Any) -> str:
    """A relative path that stays where it is put.

    Raises:
        ValueError: it does not, or is no path.
    """
    pure = PurePosixPath(path) if isinstance(path, str) else PurePosixPath()
    plain = isinstance(path, str) and path.isprintable() and len(path) <= 512 and len(path.encode()) <= 1024
    if not plain or pure.is_absolute() or str(pure) != path or "\\" in path or not pure.parts:
        raise ValueError(f"{path!r:.100} is no path of a run")
    # A part that begins with a dot is ours, or "..", which leaves the folder.
    if any(part.startswith(".") or part.endswith(".partial") or len(part.encode()) > 200 for part in pure.parts):
        raise ValueError(f"{path!r:.100} is no path of a run")
    return path


def version(fields: Any) -> Version:
    """[path, size, SHA-256] as a Version.

    Raises:
        ValueError: it is none.
    """
    path, size, sha256 = fields
    return Version(safe_path(path), whole(size, LARGEST_FILE), digest(sha256))


def whole(value: Any, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"{value!r:.100} is no number from 0 to {most}")
    return value


def digest(value: Any) -> str:
    if not isinstance(value, str) or len(value) != 64 or set(value) - set("0123456789abcdef"):
        raise ValueError(f"{value!r:.100} is no SHA-256")
    return value


def moment(value: Any) -> Moment:
    """`at` of a head, as it is written."""
    mission_s, ledger_bytes = value
    if type(mission_s) not in (int, float) or not abs(mission_s) < 1e12:
        raise ValueError(f"{mission_s!r:.100} is no mission second")
    return whole(ledger_bytes, FURTHEST), float(mission_s)


def _head(fields: Any) -> Head:
    at, file, base = moment(fields["at"]), version(fields["file"]), fields["base"] and version(fields["base"])
    upto = partial(whole, most=file.size)
    numbers = upto(fields["offset"]), upto(fields["length"])
    head = Head(at, file, *numbers, base or None, upto(fields["kept"]), whole(fields["together"], LARGEST_FOLDER))
    if len(fields) != 7 or head.length > LARGEST or head.offset + head.length > file.size:
        raise ValueError("not bytes of its file")
    if head.kept > (head.base.size if head.base else 0):
        raise ValueError("keeps more of its base than there is")
    if head.base and head.kept and head.base.path != head.file.path:  # a few bytes would copy whatever there is
        raise ValueError("keeps what is of another file")
    return head


def _list(of: Version) -> list[Any]:
    return [of.path, of.size, of.sha256]


def _sum(content: bytes, base: bytes, operation: Any) -> bytes:
    """`content` plus or less `base`, byte by byte modulo 256, as far as the base goes."""
    if not base:
        return content
    found = np.frombuffer(content, np.uint8).copy()
    operation(found[: len(base)], np.frombuffer(base, np.uint8), out=found[: len(base)])
    return found.tobytes()


def _decompressed(payload: bytes, length: int) -> bytes:
    if len(payload) == length:
        return payload
    try:
        # A frame that declares more would be given more, whatever the limit.
        if zstandard.frame_content_size(payload) != length:
            raise Malformed("its payload is of another length than it says")
        found = zstandard.ZstdDecompressor().decompress(payload, max_output_size=length, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise Malformed(f"its payload does not decompress ({error})") from error
    if len(found) != length:
        raise Malformed("its payload is of another length than it says")
    return found
