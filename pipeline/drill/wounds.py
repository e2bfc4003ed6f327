"""What was damaged in a run on purpose, and what the ground does when the run cannot go on for it."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from pipeline.checkpoint import durable, layout
from pipeline.drill.damage import Wound
from pipeline.flight.recorded import CONFIG, LEDGER

# What a launch says when it stops for damage that it must not pass over.
NONE_LEFT, DECISION, NO_CONFIG = "none can be restored", "(cooldown) is damaged", f"no {CONFIG} that is whole"


@dataclass
class _Damaged:
    """A wound to a file of a sealed step (None: of none), inflicted while launch number `launch` was the newest."""

    wound: Wound
    step: int | None
    launch: int
    repaired: bool = False


class Wounds:
    """The damage that was done to a run and was not yet judged, with good copies of the steps that were struck."""

    def __init__(self, run: Path, copies: Path) -> None:
        self._run, self._copies = run, copies
        self._damaged: list[_Damaged] = []

    def keep_copy(self, step: int) -> bool:
        """Copies a sealed step, which must be whole, to where no damage comes; whether there is a copy now."""
        copy = self._copies / str(step)
        if copy.exists():
            return True
        try:
            shutil.copytree(self._at(step), copy)
        except (FileNotFoundError, shutil.Error):  # thinned out by the run in this instant
            shutil.rmtree(copy, ignore_errors=True)
        return copy.exists()

    def has_copy(self, step: int) -> bool:
        return (self._copies / str(step)).exists()

    def add(self, made: Wound, step: int | None, launch: int) -> None:
        self._damaged.append(_Damaged(made, step, launch))

    def whole_again(self, step: int) -> None:
        """The run has repaired the step, or sealed it anew."""
        for damaged in self._damaged:
            damaged.repaired |= damaged.step == step

    def open(self, step: int) -> bool:
        """Whether the step is damaged still."""
        return any(damaged.step == step and not damaged.repaired for damaged in self._damaged)

    def judge(self, launch: int) -> int:
        """Forgets the damage that was older than that launch, which has lived its life; how much of it was repaired."""
        found = [damaged for damaged in self._damaged if damaged.launch < launch]
        self._damaged = [damaged for damaged in self._damaged if damaged.launch >= launch]
        for step in {damaged.step for damaged in found}:
            shutil.rmtree(self._copies / str(step), ignore_errors=True)
        return sum(damaged.repaired for damaged in found)

    def mend(self, said: str, nothing_left: bool) -> list[int] | None:
        """What the ground does when a launch stopped, saying `said`, for damage that it must not pass over.

        Args:
            nothing_left: every sealed step was struck.

        Returns:
            The steps of which a good copy is in place again; None if the launch should not have stopped.
        """
        if NONE_LEFT in said and nothing_left:
            return self._put_copies_back() or None
        lost = LEDGER if DECISION in said else CONFIG if NO_CONFIG in said else None
        return [] if lost and self._put_back(lost) else None

    def _put_copies_back(self) -> list[int]:
        steps = layout.steps(self._copies)
        for step in steps:
            shutil.rmtree(self._at(step), ignore_errors=True)
            shutil.copytree(self._copies / str(step), self._at(step))
        if steps:
            durable.fsync_tree(self._at(steps[0]).parent)  # or a cut soon afterwards would take them again (seen)
        self._damaged = [damaged for damaged in self._damaged if damaged.step not in steps]
        shutil.rmtree(self._copies, ignore_errors=True)
        return steps

    def _put_back(self, name: str) -> bool:
        """The bytes that a file of no step held before it was struck; whether it was."""
        path = self._run / name
        struck = [damaged for damaged in self._damaged if damaged.wound.path == path]
        for damaged in reversed(struck):
            path.touch()
            with path.open("r+b") as file:  # what was appended since stays
                file.write(damaged.wound.sealed)
            durable.fsync(path)
        self._damaged = [damaged for damaged in self._damaged if damaged not in struck]
        return bool(struck)

    def _at(self, step: int) -> Path:
        return layout.path(self._run / "checkpoints", step)
