"""Content hashes of files, remembered by path, size and times, so that a launch does not read gigabytes again."""

import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import xxhash

from pipeline.corpus.progress import Tick

_BLOCK = 1 << 22  # bytes
# A file changed twice within one tick of the file system's clock keeps its times: files younger than this are not
# remembered.
_RACY_NS = 2_000_000_000
# Token files up to this size are hashed at every launch (0.1 s from a cold disk), because radiation flips bits and
# leaves no trace in their times; larger ones only when size or times have changed.
_ALWAYS_CHECKED = 256 << 20  # bytes


def hash_bytes(data: bytes) -> str:
    return xxhash.xxh3_128_hexdigest(data)


def hash_json(value: Any) -> str:
    return hash_bytes(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())


def hash_file(path: Path, tick: Tick) -> str:
    """xxh3_128 of the content of `path`."""
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            tick()
    return digest.hexdigest()


class HashIndex:
    """Hashes of file contents, kept in one JSON file. Losing or damaging that file costs time, nothing else."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changed = False
        try:
            loaded = json.loads(path.read_bytes())
        except (OSError, ValueError):
            loaded = {}
        self._known: dict[str, list[Any]] = loaded if isinstance(loaded, dict) else {}

    def hash(self, path: Path, tick: Tick, reread: bool = False) -> str:
        """The content hash of `path`; read again if its size or times have changed, or if `reread`.

        Raises:
            OSError: it cannot be read.
        """
        status = path.stat()
        stamp = [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
        name = str(path.resolve())
        known = self._known.get(name)
        if not reread and isinstance(known, list) and known[:3] == stamp and len(known) == 4:
            return str(known[3])
        digest = hash_file(path, tick)
        if time.time_ns() - max(stamp[1:]) > _RACY_NS and known != [*stamp, digest]:
            self._known[name] = [*stamp, digest]
            self._changed = True
        return digest

    def check(self, path: Path, tick: Tick) -> str:
        """As `hash`, for a file whose content is used as it lies: read again unless it is large."""
        return self.hash(path, tick, reread=path.stat().st_size <= _ALWAYS_CHECKED)

    def save(self) -> None:
        """Writes what was learned. A read-only cache directory is no reason to stop."""
        if not self._changed:
            return
        draft = self._path.with_name(f"{self._path.name}.{os.getpid()}.tmp")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            draft.write_text(json.dumps(self._known))
            os.replace(draft, self._path)
        except OSError:
            with suppress(OSError):  # where nothing can be written, nothing can be removed
                draft.unlink(missing_ok=True)
        self._changed = False
