"""What a ledger says of a run, gathered in one pass: curves, modes, checkpoints, outages, incidents."""

import math
from array import array
from bisect import bisect_right
from collections.abc import Collection, Iterable
from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from pipeline.flight.notices import SAFE
from pipeline.ground.tail import number
from pipeline.ground.totals import AT_WORK, ENDINGS, Summary

_MOST_NOTES = 2000  # kept; beyond that those in the middle are counted only


class Table:
    """Columns of numbers that grow by rows. Where rows are to be taken back, the first column never falls."""

    def __init__(self, *names: str):
        self._names = names
        self._cells = array("d")  # row after row: half a million rows are half a million calls, whatever their columns

    def __len__(self) -> int:
        return len(self._cells) // len(self._names)

    def __getitem__(self, name: str) -> Float[np.ndarray, " rows"]:
        return np.array(self._cells).reshape(-1, len(self._names))[:, self._names.index(name)]

    def append(self, *values: float) -> None:
        assert len(values) == len(self._names)
        self._cells.extend(values)

    def shift(self, name: str, by: float) -> None:
        np.asarray(self._cells)[self._names.index(name) :: len(self._names)] += by

    def cut(self, last: float) -> None:
        """Takes back the rows whose first column is above `last`."""
        width = len(self._names)
        if not self._cells or self._cells[-width] <= last:
            return
        kept = bisect_right(range(len(self)), last, key=lambda row: self._cells[row * width])
        del self._cells[kept * width :]


class Moment(NamedTuple):
    """When something happened: mission time [s], this machine's time [s since 1970] and step."""

    mission_s: float
    wall: float
    step: int

    def renamed(self, seconds: float) -> "Moment":
        return self._replace(mission_s=self.mission_s + seconds)


class Gap(NamedTuple):
    """Between two launches of one run."""

    before: Moment  # the last line of the launch that ended
    after: Moment  # the first of the next
    ending: str | None  # stopped, done or failed; None: without notice
    lost_steps: int  # computed before, and again after

    def renamed(self, seconds: float) -> "Gap":
        return self._replace(before=self.before.renamed(seconds), after=self.after.renamed(seconds))


class Mode(NamedTuple):
    """What GPU and host do from `start_s` on."""

    start_s: float
    name: str  # TRAIN, RESTART, OFF, or DOWN: nobody was there to write it down
    reason: str


class Note(NamedTuple):
    """One event as it was written, for those who put it in words."""

    at: Moment
    event: dict[str, Any]
    gap: Gap | None = None  # what came before a launch that was not the first


READINGS = ("charge", "charge_wh", "temperature_c", "sunlit", "train_wh", "orbit")
# What the satellite of a launch must keep: it may be another than that of the launch before.
KEEPS = ("capacity_wh", "floor_wh", "limit_c")
# Of a look ahead: how many steps there will be, and what was measured by then, over what is modelled.
PLANS = ("planned_steps", "harvest", "capacity", "rejection", "slowness", "draw")
# Events that are rows of a table or a curve. All others are notes, those of a later version of this software too.
_ROWS = {"step", "telemetry", "mode", "sealed", "deleted", "restored", "first_step", "validation", "plan"}


class History:
    """The run as it stands: what an outage took back and was computed again appears once, as it was in the end."""

    def __init__(self) -> None:
        self.summary = Summary()
        self.steps = Table("at", "mission_s", "wall", "launch", "loss", "grad_norm", "rate", "tokens_per_s")
        self.telemetry = Table("mission_s", *READINGS, *KEEPS)
        self.validations = Table("step", "mission_s", "loss", "standard_error", "bits_per_byte")
        self.seals = Table("checkpoint", "mission_s", "wall", "bytes", "seconds", "blocking_s")
        self.plans = Table("mission_s", *PLANS)
        self.modes: list[Mode] = []
        self.gaps: list[Gap] = []
        self.lost_steps = 0  # computed again, after outages and after corruption was found
        self.deleted: set[int] = set()
        self.quarantined: set[int] = set()
        self.cooldown: int | None = None  # the step at which the learning rate began to fall
        self.cooldown_end: int | None = None  # and the one at which it is to be zero
        self.notes: list[Note] = []
        self.notes_left_out = 0
        self.last: Moment | None = None
        self._keeps = [math.nan] * len(KEEPS)  # of the launch at work
        self.set_s = 0.0  # by so much the clock was set since plan.json was written

    @property
    def begin_s(self) -> float:
        """Mission time of the first launch."""
        return self.modes[0].start_s if self.modes else 0.0

    @property
    def end_s(self) -> float:
        """Mission time of the last word of a run at work."""
        return self.last.mission_s if self.last else 0.0

    @property
    def length_s(self) -> float:
        return self.end_s - self.begin_s if self.modes else 0.0

    @property
    def step(self) -> int:
        """The one that the last word was of."""
        return self.last.step if self.last else 0

    @property
    def outages(self) -> list[Gap]:
        """Those gaps that came without notice."""
        return [gap for gap in self.gaps if gap.ending is None]

    def fate(self, step: int, present: Collection[int]) -> str:
        """What became of a sealed step: present (a directory holds those that are), quarantined, deleted or missing."""
        if step in present:
            return "present"
        if step in self.quarantined:
            return "quarantined"
        return "deleted" if step in self.deleted else "missing"

    def read(self, events: Iterable[dict[str, Any]]) -> "History":
        for event in events:
            self.add(event)
        return self

    def add(self, event: dict[str, Any]) -> None:
        """One event, as `Tail` gives it."""
        kind = event["event"]
        now = Moment(event["mission_s"], event["wall"], event["step"])
        if kind == "clock_set":
            self._rename(event["seconds"])
        if kind in ("launch", "resume"):
            self._launch(now, event)
            self._keeps = [number(event.get(name)) for name in KEEPS]
            self._note(Note(now, event, self.gaps[-1] if self.last else None))
        elif kind == "corruption" and self.last:
            self._take_back(event)  # the run may have gone back to a sealed step
        elif kind in ENDINGS:
            self._count_lost(event, 0)
        elif kind in AT_WORK and self.last and now.mission_s < self.last.mission_s:
            self._time_back(now.mission_s)  # of the launch before, that this one began is in no whole line
        if kind == "step":
            self._steps_back(event["at"] - 1)  # the same
            curves = [number(event.get(name)) for name in ("loss", "grad_norm", "rate", "tokens_per_s")]
            self.steps.append(event["at"], now.mission_s, now.wall, self.summary.launches, *curves)
        elif kind == "sealed":
            figures = [number(event.get(name)) for name in ("bytes", "seconds", "blocking_s")]
            self.seals.append(event["checkpoint"], now.mission_s, now.wall, *figures)
        elif kind == "deleted" and "place" not in event:  # which a copy on the second device has
            self.deleted.add(int(event["checkpoint"]))
        elif kind == "validation":
            figures = [number(event.get(name)) for name in ("loss", "standard_error", "bits_per_byte")]
            self.validations.append(now.step, now.mission_s, *figures)
        elif kind == "cooldown":
            self.cooldown, self.cooldown_end = int(event["start"]), int(event["end"])
        elif kind == "quarantined":
            if isinstance(event.get("checkpoint"), int) and "place" not in event:
                self.quarantined.add(event["checkpoint"])
        elif kind == "plan":
            self.plans.append(now.mission_s, *(number(event.get(name)) for name in PLANS))
        elif kind == "mode":
            reason = str(event.get("reason", ""))
            self.modes.append(Mode(now.mission_s, str(event.get("mode")), reason))
            if reason.startswith(SAFE):
                self._note(Note(now, event))
        if kind in ("telemetry", "mode"):
            self.telemetry.append(now.mission_s, *(number(event.get(name)) for name in READINGS), *self._keeps)
        if kind not in _ROWS and kind not in ("launch", "resume"):
            self._note(Note(now, event))
        self.summary.add(event)
        if kind in AT_WORK:
            self.last = now

    def since_beginning(self) -> "History":
        """The same run, with mission time counted from its first launch: on a real clock that is long after second 0.

        Itself, where that is no other."""
        if not self.begin_s:
            return self
        made = deepcopy(self)
        made._rename(-self.begin_s)
        return made

    def train_wh(self, mission_s: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Energy spent on training until then [Wh]; NaN where the ledger does not say."""
        known = np.isfinite(self.telemetry["train_wh"])
        if not known.any():
            return np.full(len(mission_s), np.nan)
        return np.interp(mission_s, self.telemetry["mission_s"][known], self.telemetry["train_wh"][known])

    def spans(self) -> list[tuple[float, float, Mode]]:
        """(start, end, mode) of each stretch of one mode [mission s]; those that took no time are left out."""
        if not self.modes or not self.last:
            return []
        ends = [*(mode.start_s for mode in self.modes[1:]), self.last.mission_s]
        return [(mode.start_s, end, mode) for mode, end in zip(self.modes, ends, strict=True) if end > mode.start_s]

    def _launch(self, now: Moment, event: dict[str, Any]) -> None:
        """What the launch before did after the checkpoint that this one begins from is done again."""
        if self.last:
            self.gaps.append(Gap(self.last, now, self.summary.ending, self._take_back(event)))
            self._time_back(now.mission_s)
            if now.mission_s > self.last.mission_s:
                self.modes.append(Mode(self.last.mission_s, "DOWN", "no power, or no process"))
        self.modes.append(Mode(now.mission_s, "OFF", "launch"))

    def _take_back(self, event: dict[str, Any]) -> int:
        """What was computed after the step of `event` is computed again; how many steps that is."""
        assert self.last
        before = self.lost_steps
        self._count_lost(event, max(0, self.last.step - event["step"]))
        self._steps_back(event["step"])
        return max(0, self.lost_steps - before)

    def _steps_back(self, last: int) -> None:
        self.steps.cut(last)
        self.validations.cut(last)

    def _time_back(self, mission_s: float) -> None:
        """On a simulated clock mission time goes back with the state; on a real one nothing lies ahead of it."""
        for table in (self.telemetry, self.plans):
            table.cut(mission_s)
        while self.modes and self.modes[-1].start_s >= mission_s:
            self.modes.pop()

    def _count_lost(self, event: dict[str, Any], inferred: int) -> None:
        """As the flight counts them in all; it logs only some steps, and can tell how far it had come between two."""
        told = number(event.get("lost_steps"))
        self.lost_steps = int(told) if math.isfinite(told) else self.lost_steps + inferred

    def _rename(self, seconds: float) -> None:
        """The clock was set by so much: all moments of before have other names, so that none passed between them."""
        self.set_s += seconds
        for table in (self.steps, self.telemetry, self.validations, self.seals, self.plans):
            table.shift("mission_s", seconds)
        self.modes = [mode._replace(start_s=mode.start_s + seconds) for mode in self.modes]
        self.gaps = [gap.renamed(seconds) for gap in self.gaps]
        self.notes = [
            note._replace(at=note.at.renamed(seconds), gap=note.gap and note.gap.renamed(seconds))
            for note in self.notes
        ]
        self.last = self.last.renamed(seconds) if self.last else None

    def _note(self, note: Note) -> None:
        self.notes.append(note)
        if len(self.notes) > _MOST_NOTES:
            middle = _MOST_NOTES // 2
            del self.notes[middle : middle + middle // 2]
            self.notes_left_out += middle // 2
