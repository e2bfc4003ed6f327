"""Whether two finished runs ended in the same state, bit for bit."""

import json
from pathlib import Path
from typing import Any

from pipeline.checkpoint import arrays, layout, restore, seal
from pipeline.config import RunFailed

KEPT = ("step", "sequences", "cooldown")  # of the progress: counter, data position, schedule


def final_state(run: Path) -> dict[str, Any]:
    """Every array of the newest sealed step as (dtype, shape, hash), and what its progress says of data and schedule.

    Raises:
        RunFailed: there is none, or it is not whole.
    """
    steps = layout.steps(run / "checkpoints")
    if not steps:
        raise RunFailed(f"{run}: nothing is sealed")
    here = layout.path(run / "checkpoints", steps[-1])
    sealed, problems = seal.inspect(here, steps[-1])
    if sealed is None or problems:
        raise RunFailed(f"{here}: {problems[0]}")
    found = arrays.fingerprints(arrays.read(here, sealed.leaves))
    progress = json.loads((here / restore.META).read_bytes())["progress"]
    return {name: progress[name] for name in KEPT} | found


def differences(run: Path, other: Path) -> list[str]:
    """Names of what is not the same in the two final states."""
    ours, theirs = final_state(run), final_state(other)
    return sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
