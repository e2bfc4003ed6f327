"""Names in a checkpoints directory. A plain number is a step that was sealed: the number is given last, after the
SEAL is on the medium.

    120/                sealed
    130.saving*/        being written, or cut short; swept at start
    110.mending*/       being copied from the other device; swept at start
    90.deleted/         on its way out; swept at start, and whenever old steps go
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
_LEFTOVER = re.compile(r"(0|[1-9][0-9]{0,17})\.(saving|mending|deleted)(\..*)?")
LOCK = ".lock"
DELETED = "*.deleted"  # what was taken out, and would not go
_MARK = ".sealed_once"
REASON = "REASON"  # why a step was quarantined


def steps(directory: Path) -> list[int]:
    """Sealed steps, oldest first; whether they are still whole is the SEAL's to say."""
    if not directory.is_dir():
        return []
    return sorted(int(path.name) for path in directory.iterdir() if _STEP.fullmatch(path.name))


def path(directory: Path, step: int) -> Path:
    return directory / str(step)


def saving(directory: Path, step: int) -> Path:
    return directory / f"{step}.saving"


def mending(directory: Path, step: int) -> Path:
    return directory / f"{step}.mending"


def take_out(directory: Path, step: int) -> Path:
    """Takes its number from a step, to be removed: cut short at any point, what is left is swept later.

    Returns where it is now.
    """
    gone = directory / f"{step}.deleted"
    durable.rename(path(directory, step), gone)
    return gone


def sweep(directory: Path, which: str = "*") -> None:
    """Removes what a kill left behind, of it what is named as `which` says. What a damaged disk does not let go stays.
    Only for the process that holds the lock; while it works, only what nobody works in, as DELETED."""
    for entry in list(directory.glob(which)):
        if _LEFTOVER.fullmatch(entry.name):
            with contextlib.suppress(OSError):
                remove(entry)


def remove(entry: Path) -> None:
    """A directory with all that is in it; of a link, the link."""
    shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


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
    with contextlib.suppress(OSError):  # on a full disk the move is what counts
        (target / REASON).write_text("".join(f"{reason}\n" for reason in reasons))
    return target


def empty(quarantine: Path) -> int:
    """Removes the files of all quarantined steps but the REASON of each; how many steps there were."""
    count = 0
    for step in [entry for entry in quarantine.iterdir() if entry.is_dir()]:
        inside = [entry for entry in step.iterdir() if entry.name != REASON]
        for entry in inside:
            remove(entry)
        count += bool(inside)
    return count
