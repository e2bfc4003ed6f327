"""From files to a state: verified before Orbax opens them, and once more when the arrays are in memory."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.checkpoint import arrays, layout, place, seal
from pipeline.config import Refused, RunFailed

META = "meta.json"


class Damage(Exception):
    """One checkpoint is not what was sealed; `reasons` has a line for each thing wrong."""

    def __init__(self, reasons: list[str]) -> None:
        super().__init__(place.summary(reasons))
        self.reasons = reasons


class Strange(Exception):
    """A checkpoint that is whole, and still not what was saved once it is on the device: it was sealed like that, or
    the device is at fault."""


@dataclass(frozen=True)
class Restored:
    """A checkpoint in memory. `verify_s` and `load_s` are what checking and reading it took [s]."""

    step: int
    state: Any
    meta: dict[str, Any]
    verify_s: float
    load_s: float


Check = Callable[[Restored], str | None]  # what is wrong with it on the device


def load(directory: Path, step: int, like: Any, check: Check | None = None) -> Restored:
    """One sealed step.

    Args:
        like: pytree of `jax.ShapeDtypeStruct`; its shardings say where the arrays go.
        check: asked once the arrays are there.

    Raises:
        Damage: the files are not those that were sealed, or the arrays not those that were saved.
        Strange: what is on the device then is not to `check`, twice.
        Refused: whole, but of another model, or sealed by another version.
        RunFailed: whole, and still Orbax cannot read it: the software differs, so nothing is wrong with the checkpoint.
    """
    here, start = layout.path(directory, step), time.perf_counter()
    try:
        sealed, reasons = seal.inspect(here, step)
    except seal.OtherVersion as error:
        raise Refused(f"{here}: {error.strerror}; use that version") from error
    except OSError as error:
        raise RunFailed(
            f"{error.filename or here}: {error.strerror}; make the checkpoint readable and start again"
        ) from error
    if sealed is None or reasons:
        raise Damage(reasons)
    if other := arrays.difference(like, sealed.leaves):
        raise Refused(
            f"{here}: the checkpoint is of another model: {other}; use the run's configuration, or another --run_dir"
        )
    verified = time.perf_counter()
    try:
        meta = json.loads((here / META).read_bytes())
        found = arrays.read(here, sealed.leaves)
    except Exception as error:  # Orbax raises bare Exception
        raise RunFailed(
            f"{here}: whole, but Orbax cannot read it ({type(error).__name__}: {arrays.brief(error)}); "
            "install the versions that wrote it"
        ) from error
    was, now = sealed.leaves, arrays.fingerprints(found)
    if changed := [f"{name}: the array differs from what was saved" for name in was if was[name] != now[name]]:
        raise Damage(changed)
    restored = Restored(step, arrays.assemble(like, found), meta, verified - start, 0.0)
    if check and check(restored):  # it may have been the transfer
        restored = replace(restored, state=arrays.assemble(like, found))
        if wrong := check(restored):
            raise Strange(wrong)
    return replace(restored, load_s=time.perf_counter() - verified)


def metas(directory: Path) -> Iterator[dict[str, Any]]:
    """What was sealed beside the arrays of each step, newest first, where that file is whole; no array is read."""
    for step in reversed(layout.steps(directory)):
        here = layout.path(directory, step)
        with suppress(OSError, seal.Damaged, ValueError, RecursionError):  # anything at all can be sealed
            whole = seal.holds(here, seal.read(here, step), META)
            if whole and isinstance(meta := json.loads((here / META).read_bytes()), dict):
                yield meta
