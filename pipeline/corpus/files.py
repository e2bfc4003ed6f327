"""Finding text files and reading them as documents, a block at a time."""

import glob
import gzip
import json
import os
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import zstandard

from pipeline.config import BadInput, stopped_by

KINDS = (".txt", ".md", ".py", ".jsonl")
_PACKED = (".gz", ".zst")
_BLOCK = 1 << 20  # bytes of text
_PACKED_BLOCK = 1 << 16  # bytes before unpacking: zstd can grow a block a thousandfold


@dataclass(frozen=True)
class Input:
    """One file, or one text that is already in memory. `name` is what `split: documents` hashes: no machine's path."""

    name: str
    path: Path | None = None
    text: bytes = b""

    @property
    def size(self) -> int:
        """Bytes as stored: compressed files are larger once read."""
        return self.path.stat().st_size if self.path else len(self.text)


def kind(path: Path) -> str | None:
    """The extension that says how the text is stored, below any compression; None if it is unknown."""
    suffixes = path.suffixes[:-1] if path.suffix in _PACKED else path.suffixes
    return suffixes[-1] if suffixes and suffixes[-1] in KINDS else None


def find(pattern: str) -> tuple[list[tuple[str, Path]], bool]:
    """Files under a file name, folder (recursive) or glob, as sorted (name, path), and whether a folder was searched.

    Hidden files and folders are passed over; links are followed, and no file is found twice.

    Raises:
        BadInput: nothing is there, or a folder in it cannot be read.
    """
    place = Path(pattern).expanduser()
    if place.is_file():
        return [(place.name, place)], False
    if place.is_dir():
        return [(path.relative_to(place).as_posix(), path) for path in _once(_walk(place))], True
    paths = list(_once(map(Path, glob.glob(str(place), recursive=True))))
    if not paths:
        where = "" if Path(pattern).is_absolute() else f" in {Path.cwd()}"
        raise BadInput(f"corpus.path: {pattern}: no such file, folder or glob{where}; check the path")
    fixed = next((parent for parent in place.parents if not glob.has_magic(str(parent))), Path("."))
    return [(path.relative_to(fixed).as_posix(), path) for path in paths], False


def _walk(place: Path) -> Iterator[Path]:
    """What is in a folder and the folders below it, each of them entered once."""

    def unreadable(error: OSError) -> None:
        raise stopped_by(error, f"corpus.path: {error.filename}: cannot be read", "make the folder readable")

    entered = set()
    for folder, folders, files in os.walk(place, followlinks=True, onerror=unreadable):
        if (real := os.path.realpath(folder)) in entered:
            folders.clear()
            continue
        entered.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(folder, name) for name in files if not name.startswith("."))


def _once(paths: Iterable[Path]) -> Iterator[Path]:
    """The files among `paths`, sorted, each under the first of its names."""
    seen = set()
    for path in sorted(paths, key=Path.as_posix):
        if path.is_file() and (real := path.resolve()) not in seen:
            seen.add(real)
            yield path


def find_text(pattern: str) -> list[Input]:
    """The text files under `pattern`, sorted by name.

    Raises:
        BadInput: no such file; a file asked for by name or glob has an unknown extension; a folder holds no text.
    """
    known = ", ".join(KINDS) + ", each also .gz or .zst"
    found, searched = find(pattern)
    for _, path in found:
        if kind(path) is None and not searched:
            raise BadInput(f"corpus.path: {path}: unknown kind of file; give one of {known}")
    inputs = [Input(name, path) for name, path in found if kind(path)]
    if not inputs:
        raise BadInput(f"corpus.path: {pattern}: the folder holds no text; put files of these kinds there: {known}")
    return inputs


def documents(item: Input, field: str) -> Iterator[tuple[str, Iterator[bytes]]]:
    """(name, UTF-8 blocks) of every document of `item`: each line of .jsonl is one, any other file is one.

    The blocks of a document must be consumed before the next document is asked for.

    Raises:
        BadInput: it cannot be read or unpacked; not UTF-8 (with the byte offset); a .jsonl line without `field`.
    """
    if item.path is None:
        yield item.name, iter((item.text,))
    elif kind(item.path) == ".jsonl":
        for number, line in enumerate(_lines(_blocks(item.path)), start=1):
            if line.strip():
                yield f"{item.name}:{number}", iter((_field(line, field, f"{item.path}:{number}"),))
    else:
        yield item.name, _checked(_blocks(item.path), item.path)


def whole_characters(block: bytes) -> int:
    """Length [bytes] of `block` without the UTF-8 character that its end cuts in two."""
    for back in range(1, min(4, len(block)) + 1):
        byte = block[-back]
        if byte & 0xC0 == 0x80:
            continue
        size = 1 if byte < 0x80 else 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
        return len(block) if size <= back else len(block) - back
    return len(block)


def _blocks(path: Path) -> Iterator[bytes]:
    try:
        if path.suffix in _PACKED and not path.stat().st_size:
            raise EOFError("it is empty")
        if path.suffix == ".gz":
            with gzip.open(path, "rb") as unpacked:
                while block := unpacked.read(_BLOCK):
                    yield block
        elif path.suffix == ".zst":
            yield from _unpack_zstd(path)
        else:
            with path.open("rb") as file:
                while block := file.read(_BLOCK):
                    yield block
    except (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError) as error:
        raise BadInput(f"corpus.path: {path}: damaged archive ({error}); replace the file") from error
    except OSError as error:
        raise stopped_by(error, f"corpus.path: {path}: cannot be read", "make the file readable") from error


def _unpack_zstd(path: Path) -> Iterator[bytes]:
    """Frame by frame, because the library's own stream reader takes a truncated file for a finished one."""
    frame = None
    with path.open("rb") as file:
        while packed := file.read(_PACKED_BLOCK):
            while packed:
                frame = frame or zstandard.ZstdDecompressor().decompressobj()
                if block := frame.decompress(packed):
                    yield block
                packed = frame.unused_data if frame.eof else b""
                frame = None if frame.eof else frame
    if frame is not None:
        raise EOFError("it ends in the middle of a frame")


def _lines(blocks: Iterator[bytes]) -> Iterator[bytes]:
    rest: list[bytes] = []
    for block in blocks:
        head, *lines = block.split(b"\n")
        rest.append(head)
        for line in lines:
            yield b"".join(rest)
            rest = [line]
    yield b"".join(rest)


def _field(line: bytes, field: str, where: str) -> bytes:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"corpus.path: {where}: not a line of JSON ({error}); mend the line") from error
    text = value.get(field) if isinstance(value, dict) else None
    if not isinstance(text, str):
        raise BadInput(f'corpus.field: {where}: no text in field "{field}"; name the field that holds it')
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise BadInput(f"corpus.path: {where}: half a surrogate pair in the text; mend the line") from error


def _checked(blocks: Iterator[bytes], path: Path) -> Iterator[bytes]:
    """The same bytes, cut at characters, once they are known to be UTF-8."""
    offset, rest = 0, b""
    for block in blocks:
        block = rest + block
        size = whole_characters(block)
        _require_utf8(block[:size], offset, path)
        yield block[:size]
        offset, rest = offset + size, block[size:]
    _require_utf8(rest, offset, path)


def _require_utf8(block: bytes, offset: int, path: Path) -> None:
    try:
        block.decode()
    except UnicodeDecodeError as error:
        raise BadInput(
            f"corpus.path: {path}: not UTF-8 at byte offset {offset + error.start}; convert the file to UTF-8"
        ) from error
