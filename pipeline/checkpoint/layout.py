"""Names in a checkpoints directory. A plain number is a step that was sealed: the number is given last, after the
SEAL is on the medium.

    120/                sealed
    130.saving*/        being written, or cut short; swept at start
    90.deleted/         on its way out; swept at start
    .sealed_once        there was a sealed checkpoint here once: never start again from step 0
    .lock               held by the process that writes here

So a kill at any instant leaves either nothing under the number or a sealed checkpoint, and a number without a good
SEAL is damage and never an unfinished save. That is what lets "nothing was ever sealed" (start at step 0) be told
from "all of it was lost" (stop).
"""

import contextlib
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from pipeline.checkpoint import durable

_STEP = re.compile(r"0|[1-9][0-9]{0,17}")
_LEFTOVER = re.compile(r"(0|[1-9][0-9]{0,17})\.(saving|deleted)(\..*)?")
LOCK = ".lock"
_MARK = ".sealed_once"


def steps(directory: Path) -> list[int]:
    """Sealed steps, oldest first; whether they are still whole is the SEAL's to say."""
    if not directory.is_dir():
        return []
    return sorted(int(path.name) for path in directory.iterdir() if _STEP.fullmatch(path.name))


def path(directory: Path, step: int) -> Path:
    return directory / str(step)


def saving(directory: Path, step: int) -> Path:
    return directory / f"{step}.saving"


def delete(directory: Path, step: int) -> None:
    """Removes a step; cut short at any point, what is left is swept at the next start."""
    durable.remove(path(directory, step), directory / f"{step}.deleted")


def sweep(directory: Path) -> None:
    """Removes what a kill left behind. Only for the process that holds the lock."""
    for leftover in [entry for entry in directory.iterdir() if _LEFTOVER.fullmatch(entry.name)]:
        shutil.rmtree(leftover)


def mark(directory: Path) -> None:
    """Remembers, durably, that a step was sealed here; on a full disk the next seal does."""
    if not (directory / _MARK).exists():
        with contextlib.suppress(OSError):
            durable.write(directory / _MARK, b"")


def was_sealed(directory: Path, quarantine: Path) -> bool:
    """Whether any step was ever sealed here, even if none is left."""
    kept = quarantine.is_dir() and any(quarantine.iterdir())
    return kept or (directory / _MARK).exists() or bool(steps(directory))


def to_quarantine(directory: Path, quarantine: Path, step: int, reasons: Iterable[str]) -> Path:
    """Moves a damaged step out of the way, whole, for study, and says why in a file REASON beside its files.

    Returns where it is now: quarantine/STEP, or STEP.1, STEP.2 … when it is not the first of its number.
    """
    target, count = quarantine / str(step), 0
    while target.exists():
        count += 1
        target = quarantine / f"{step}.{count}"
    durable.rename(path(directory, step), target)
    (target / "REASON").write_text("".join(f"{reason}\n" for reason in reasons))
    return target
