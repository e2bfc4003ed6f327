"""A run as chunks, the most useful first, less what the ground has."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.checkpoint import durable
from pipeline.config import FULL, BadInput, RunFailed
from pipeline.ground.downlink import manifest
from pipeline.ground.downlink import received as listing
from pipeline.ground.downlink.chunk import Head, Moment, encode, safe_path
from pipeline.ground.downlink.received import Received, gaps
from pipeline.ground.downlink.sources import (
    GROUPS,
    Source,
    int8_files,
    moment,
    of_bytes,
    sources,
)
from pipeline.ground.held import held
from pipeline.ground.run_directory import RunDirectory, open_run

SUFFIX = ".chunk"
CHUNK_BYTES = 256 << 10


@dataclass(frozen=True)
class Piece:
    """A chunk and its place in the order of sending."""

    group: str
    path: str
    offset: int
    length: int
    address: str
    data: bytes


def pack(
    run_dir: Path | str,
    out: Path | str,
    received: Path | str | None = None,
    chunk_bytes: int = CHUNK_BYTES,
    last: str = GROUPS[-1],
) -> dict[str, Any]:
    """Writes the chunks of a run to the new folder `out`, under names that sort in the order of sending; or nothing.

    The manifest goes down as a file like the others, first of all and once more after each group, so that losing any
    copy loses nothing. Equal runs and listings give equal bytes.

    Args:
        received: the listing that `unpack` wrote; what it has is left out, and new versions of its files become
            differences to them. null: the ground has nothing.
        last: the group of GROUPS to end with.

    Returns:
        chunks; bytes (of all chunks); groups (bytes of each, the manifest's copies among them); files: path, size,
        sha256, group, and `sent`, the bytes of its chunks.

    Raises:
        BadInput: no run, no such listing, or `out` is not a new or empty folder.
        RunFailed: no checkpoint is whole, the run changed while it was read, or the disk is full.
    """
    out = Path(out)
    _require_empty(out)
    run, new = open_run(run_dir), not out.exists()
    ground = listing.read(Path(received)) if received else Received()
    try:
        with held(out):
            _require_empty(out)  # another pack may have been quicker
            return _pack(run, out, new, ground, chunk_bytes, last)
    except OSError as error:
        if error.errno in FULL:
            raise RunFailed(f"{out}: no space; free some, or give --until") from error
        raise BadInput(f"--out: {out}: cannot be written ({error.strerror}); give another folder") from error


def _pack(run: RunDirectory, out: Path, new: bool, ground: Received, chunk_bytes: int, last: str) -> dict[str, Any]:
    """`new`: whether the folder is ours, and goes if this fails."""
    done, count, groups = False, 0, dict.fromkeys(("manifest", *GROUPS[: GROUPS.index(last) + 1]), 0)
    try:
        at = moment(run, ground)
        ends = [0]  # where copies of the manifest go
        files: list[dict[str, Any]] = []
        for piece in pieces(run, at, ground, chunk_bytes, last, files):
            if groups[piece.group] == 0 and count:
                ends.append(count)
            count += 1
            groups[piece.group] += len(piece.data)
            _write(out, count, piece)
        copy = manifest_pieces(run, at, files, chunk_bytes)
        for end in sorted({*ends, count}):
            for piece in copy:
                groups["manifest"] += len(piece.data)
                _write(out, end, piece)
        durable.fsync_tree(out)
        done = True
    finally:
        if not done:  # chunks without a manifest are of no use, and would keep the next pack out of the folder
            _empty(out, new)
    about = [{key: value for key, value in file.items() if key != "chunks"} for file in files]
    written = sum(1 for _ in out.iterdir())
    return {"chunks": written, "bytes": sum(groups.values()), "groups": groups, "files": about}


def pieces(
    run: RunDirectory, at: Moment, ground: Received, chunk_bytes: int, last: str, files: list[dict[str, Any]]
) -> Iterator[Piece]:
    """The chunks in their order, without the manifest's; `files` is filled with what the manifest says."""
    for source in sources(run, last):
        try:
            safe_path(source.file.path)
        except ValueError as error:
            raise RunFailed(f"{run.path}: {error}; move the file away") from error
        base = None if ground.has(source.file) else _base(run, source, ground)
        entry: dict[str, Any] = {
            **{"path": source.file.path, "size": source.file.size, "sha256": source.file.sha256},
            **{"group": source.group, "kept": base.kept if base else 0, "sent": 0, "chunks": []},
        }
        files.append(entry)
        for piece in _of_source(source, at, base, ground, chunk_bytes):
            entry["sent"] += len(piece.data)
            entry["chunks"].append([piece.offset, piece.length, piece.address])
            yield piece


def manifest_pieces(run: RunDirectory, at: Moment, files: list[dict[str, Any]], chunk_bytes: int) -> list[Piece]:
    """The chunks of the manifest: its own are not in it."""
    data = manifest.encode(run.config.name, files)
    if len(data) > manifest.LARGEST:
        raise RunFailed(f"{run.path}: its manifest has {len(data):,} bytes; give a larger --chunk-kib")
    source = of_bytes("manifest", manifest.NAME, data)
    return list(_of_source(source, at, None, Received(), chunk_bytes))


@dataclass(frozen=True)
class _Base:
    source: Source
    kept: int


def _of_source(source: Source, at: Moment, base: _Base | None, ground: Received, chunk_bytes: int) -> Iterator[Piece]:
    if ground.has(source.file):
        return
    kept, old = (base.kept, base.source.file) if base else (0, None)
    got = [(0, kept), *ground.spans(source.file)]
    # One chunk of nothing announces an empty file.
    wanted = gaps(got, source.file.size) or ([(0, 0)] if source.file.size == 0 else [])
    for start, end in wanted:
        for offset in range(start, end, chunk_bytes) if start < end else [start]:
            length = min(chunk_bytes, end - offset)
            content = source.read(offset, length)
            before = base.source.read(offset, max(0, min(length, base.source.file.size - offset))) if base else b""
            head = Head(at, source.file, offset, length, old, kept, source.together)
            address, data = encode(head, content, before)
            yield Piece(source.group, source.file.path, offset, length, address, data)


def _base(run: RunDirectory, source: Source, ground: Received) -> _Base | None:
    """What the ground has whole that this file can be told by: what it was appended to, or earlier weights."""
    path = source.file.path
    if source.group == "weights":
        return _earlier_weights(run, source, ground)
    known, _ = ground.whole.get(path, (None, None))
    if known and 0 < known.size <= source.file.size and source.prefix_sha256(known.size) == known.sha256:
        return _Base(Source(source.group, known, source.read), known.size)
    return None


def _earlier_weights(run: RunDirectory, source: Source, ground: Received) -> _Base | None:
    """int8 weights of the newest step that the ground has whole and that is sealed here still, made once more."""
    from pipeline.ground.export_folder import INT8

    if not source.file.path.endswith(f"/{INT8}"):
        return None
    for step in reversed(run.steps):
        path = f"weights/{step}/{INT8}"
        known, _ = ground.whole.get(path, (None, None))
        if known is None or path == source.file.path:
            continue
        try:
            files = int8_files(run, run.weights(step))
        except RunFailed:
            continue  # damaged since
        if (old := of_bytes("weights", path, files[INT8])).file == known:
            return _Base(old, 0)
    return None


def _require_empty(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadInput(f"--out: {out}: is not empty; give a new folder")


def _write(out: Path, index: int, piece: Piece) -> None:
    (out / f"{index:06d}-{piece.address[:16]}{SUFFIX}").write_bytes(piece.data)


def _empty(out: Path, new: bool) -> None:
    """Takes back what was written; and the folder, if it is ours."""
    with contextlib.suppress(OSError):
        for path in out.glob(f"*{SUFFIX}"):
            path.unlink()
        if new:
            out.rmdir()
