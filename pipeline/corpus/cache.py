"""The cache of tokens: an entry is a directory that is either whole or not there.

It is built under another name, flushed to the disk, then renamed; so neither a kill nor a power cut leaves half of one
that is taken for a whole. Before use, every file is checked against the hash written at its making.
"""

import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.config import BadInput, RunFailed, stopped_by
from pipeline.corpus.hashing import HashIndex, hash_file, hash_json
from pipeline.corpus.progress import Tick

_META = "meta.json"
_DRAFT = ".draft"


def open_entry(
    cache_dir: Path,
    key: str,
    index: HashIndex,
    need_bytes: int,
    build: Callable[[Path], dict[str, Any]],
    tick: Tick,
    read_only: Path | None = None,
) -> tuple[Path, dict[str, Any]]:
    """The directory of entry `key` and its metadata; `build(folder)` fills a folder and returns them if there is none,
    neither in `cache_dir` nor in `read_only`, another cache.

    Raises:
        BadInput: `cache_dir` is not writable, or on too small a disk.
        RunFailed: it is not now, or has not the space (`need_bytes`, an estimate).
    """
    entry = cache_dir / key
    for there in (entry, *([read_only / key] if read_only else [])):
        if (meta := _verified(there, index, tick)) is not None:
            return there, meta
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        with locked(cache_dir, tick):
            if (meta := _verified(entry, index, tick)) is not None:  # another process has built it meanwhile
                return entry, meta
            _sweep(cache_dir)
            _require_space(cache_dir, need_bytes)
            draft = cache_dir / (key + _DRAFT)
            try:
                draft.mkdir()
                meta = build(draft)
                _seal(draft, meta, tick)
                shutil.rmtree(entry, ignore_errors=True)
                os.rename(draft, entry)
                fsync(cache_dir)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        what, fix = f"corpus.cache_dir: {cache_dir}: cannot be written", "name a folder that can be written"
        raise stopped_by(error, what, fix) from error
    return entry, meta


@contextmanager
def locked(cache_dir: Path, tick: Tick) -> Iterator[None]:
    """Holds the one lock of the cache. The kernel lets it go when its holder dies."""
    with (cache_dir / "lock").open("a") as file:  # whatever a folder that was named by mistake keeps in a `lock`
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                tick()
                time.sleep(0.1)
        yield


def fsync(path: Path) -> None:
    """Flushes a file or a directory to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _seal(folder: Path, meta: dict[str, Any], tick: Tick) -> None:
    meta["files"] = {path.name: hash_file(path, tick) for path in sorted(folder.iterdir())}
    sealed = {"checksum": hash_json(meta), "meta": meta}
    (folder / _META).write_text(json.dumps(sealed, indent=1))
    for path in folder.iterdir():
        fsync(path)
        tick()
    fsync(folder)


def _verified(entry: Path, index: HashIndex, tick: Tick) -> dict[str, Any] | None:
    """Metadata of an entry that is whole; None if it is missing or damaged."""
    try:
        sealed = json.loads((entry / _META).read_bytes())
        meta: dict[str, Any] = sealed["meta"]
        if sealed["checksum"] != hash_json(meta):
            return None
        for name, digest in meta["files"].items():
            inside = Path(name).name == name and (entry / name).is_file()  # who wrote it may name any
            if not inside or index.check(entry / name, tick) != digest:
                return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return meta


def _sweep(cache_dir: Path) -> None:
    """Removes what killed builds left. Only the holder of the lock builds, so every draft is such a leftover.

    Only what has the name of one goes: the folder may have been named by mistake, and hold another's drafts.
    """
    for draft in cache_dir.glob("[0-9a-f]" * 32 + _DRAFT):
        shutil.rmtree(draft, ignore_errors=True)  # one of this very entry that stays shows when it is to be made


def _require_space(cache_dir: Path, need_bytes: int) -> None:
    disk = shutil.disk_usage(cache_dir)
    if disk.free < need_bytes:
        raise (BadInput if disk.total < need_bytes else RunFailed)(
            f"corpus.cache_dir: {cache_dir}: {disk.free / 1e6:.0f} MB free, but preparing this corpus needs about "
            f"{need_bytes / 1e6:.0f} MB (more if it is compressed); free some, name another folder, or set "
            "corpus.limit_mb"
        )
