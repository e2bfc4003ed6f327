"""What of a run goes down, the most useful first."""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.checkpoint import layout, seal
from pipeline.config import BadInput, RunFailed
from pipeline.flight.recorded import LEDGER
from pipeline.ground.downlink.chunk import FURTHEST, Moment, Version
from pipeline.ground.downlink.received import Received
from pipeline.ground.run_directory import RunDirectory

if TYPE_CHECKING:
    from pipeline.ground.run_directory import Weights

GROUPS = ("ledger", "metrics", "weights", "checkpoint")  # in the order of their use to the ground
_BLOCK = 4 << 20  # bytes
Read = Callable[[int, int], bytes]  # (offset, length) -> bytes


@dataclass(frozen=True)
class Source:
    """One file as it is now; what is appended while it goes down is for the next time."""

    group: str
    file: Version  # its path is that in the rebuilt run directory
    read: Read
    together: int = 0  # files of its folder, which is of use with all of them alone

    def prefix_sha256(self, size: int) -> str:
        return _sha256(self.read, size)


def sources(run: RunDirectory, last: str = GROUPS[-1]) -> Iterator[Source]:
    """The files of `run` by group, until the group `last`. Each is hashed as it is reached.

    ledger: the ledger and the configuration, with which `report` works. metrics: what was expected, and the event
    files. weights: an int8 export of the newest whole checkpoint, under weights/STEP/. checkpoint: that one, with which
    the run can be resumed.

    Raises:
        RunFailed: no checkpoint is whole, or a file went while it was read.
    """
    groups = GROUPS[: GROUPS.index(last) + 1]
    for name in (LEDGER, "config.yaml"):
        yield from _file("ledger", run.path, name)
    if "metrics" in groups:
        yield from _file("metrics", run.path, "plan.json")
        for path in sorted((run.path / "tensorboard").rglob("*")):
            yield from _file("metrics", run.path, path.relative_to(run.path).as_posix())
    if "weights" not in groups or not run.steps:
        return
    try:
        weights = run.weights()
        files = int8_files(run, weights)
    except RunFailed as error:
        raise RunFailed(f"{error}; what needs no weights goes down with --until metrics") from error
    for name, data in files.items():
        yield of_bytes("weights", f"weights/{weights.step}/{name}", data, len(files))
    if "checkpoint" not in groups:
        return
    yield from _file("checkpoint", run.path, "tokenizer.json")
    step = layout.path(Path("checkpoints"), weights.step)
    try:
        names = (*sorted(seal.read(run.path / step, weights.step).files), seal.NAME)
    except seal.Damaged as error:  # it was whole a moment ago
        raise RunFailed(f"{run.path / step}: {error}; it went while it was being read: run it again") from error
    for name in names:
        yield from _file("checkpoint", run.path, (step / name).as_posix(), len(names))


def int8_files(run: RunDirectory, weights: "Weights") -> dict[str, bytes]:
    """The files of an int8 export, their loss not measured; without a tokenizer, where that is damaged. Equal weights
    give equal bytes."""
    from pipeline.ground.export_folder import MANIFEST, to_json
    from pipeline.ground.export_int8 import contents

    tokenizer = None
    with suppress(BadInput):
        tokenizer = run.tokenizer(weights.vocab_size)
    files, manifest = contents(run, weights, tokenizer)
    return {MANIFEST: to_json(manifest)} | files


def moment(run: RunDirectory, ground: Received) -> Moment:
    """How far the run is: later than whatever the ground has, and it rises as the ledger grows, whatever a clock says.

    That a ledger only grows is assumed of what the listing does not say. Of one that was lost and begun anew the
    listing alone tells the ground that it is newer.
    """
    from pipeline.flight.ledger import recall

    path = run.path / LEDGER
    size = path.stat().st_size if path.is_file() else 0
    last = recall(path).last or {}
    return max(size, min(ground.latest + 1, FURTHEST)), float(last.get("mission_s", 0.0))


def _file(group: str, root: Path, name: str, together: int = 0) -> Iterator[Source]:
    path = root / name
    if path.is_symlink() or not path.is_file():
        if together:
            raise RunFailed(f"{path}: gone while it was being read; run it again")
        return
    read, size = partial(_read, path), path.stat().st_size
    yield Source(group, Version(name, size, _sha256(read, size)), read, together)


def of_bytes(group: str, name: str, data: bytes, together: int = 0) -> Source:
    def read(offset: int, length: int) -> bytes:
        return data[offset : offset + length]

    return Source(group, Version(name, len(data), hashlib.sha256(data).hexdigest()), read, together)


def _sha256(read: Read, size: int) -> str:
    found = hashlib.sha256()
    for at in range(0, size, _BLOCK):
        found.update(read(at, min(_BLOCK, size - at)))
    return found.hexdigest()


def _read(path: Path, offset: int, length: int) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as error:
        raise RunFailed(f"{path}: {error.strerror}; it went while it was being read: run it again") from error
    try:
        found = b""
        while len(found) < length and (piece := os.pread(descriptor, length - len(found), offset + len(found))):
            found += piece
    finally:
        os.close(descriptor)
    if len(found) < length:
        raise RunFailed(f"{path}: became shorter while it was being read; run it again")
    return found
