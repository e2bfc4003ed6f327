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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config import BadInput, RunFailed, stopped_by
from pipeline.corpus.hashing import HashIndex, hash_file, hash_json
from pipeline.corpus.progress import Tick

_META = "meta.json"
_DRAFT = ".draft"


@dataclass(frozen=True)
class Cache:
    folder: Path  # what is built lies here
    tick: Tick = lambda: None  # called every few MB of work; what it raises stops the work and leaves nothing half done
    read_only: Path | None = None  # another cache, looked into for what `folder` lacks, and never written to

    def places(self, name: str) -> list[Path]:
        """Where `name` may lie."""
        return [cache / name for cache in (self.folder, self.read_only) if cache]

    def entry(
        self, key: str, index: HashIndex, need_bytes: int, build: Callable[[Path], dict[str, Any]]
    ) -> tuple[Path, dict[str, Any]]:
        """The directory of entry `key` and its metadata; `build(folder)` fills a folder and returns them if there is
        none.

        Raises:
            BadInput: the cache is not writable, or on too small a disk.
            RunFailed: it is not now, or has not the space (`need_bytes`, an estimate).
        """
        for entry in self.places(key):
            if (meta := _verified(entry, index, self.tick)) is not None:
                return entry, meta
        entry = self.folder / key
        try:
            with self.locked():
                if (meta := _verified(entry, index, self.tick)) is not None:  # another process has built it meanwhile
                    return entry, meta
                _sweep(self.folder)
                _require_space(self.folder, need_bytes)
                draft = self.folder / (key + _DRAFT)
                try:
                    draft.mkdir()
                    meta = build(draft)
                    _seal(draft, meta, self.tick)
                    shutil.rmtree(entry, ignore_errors=True)
                    os.rename(draft, entry)
                    fsync(self.folder)
                finally:
                    shutil.rmtree(draft, ignore_errors=True)
        except OSError as error:
            what, fix = f"corpus.cache_dir: {self.folder}: cannot be written", "name a folder that can be written"
            raise stopped_by(error, what, fix) from error
        return entry, meta

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the one lock of the cache, which is made if need be. The kernel lets it go when its holder dies."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("a") as file:  # whatever a folder named by mistake keeps in a `lock`
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    self.tick()
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
