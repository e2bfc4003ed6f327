"""The plant flown along an orbit, in pieces of work of any duration."""

import math
import sys
from collections.abc import Mapping
from copy import copy
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float

from pipeline.config.errors import Refused, RunFailed
from pipeline.config.mission import Satellite
from pipeline.orbit.environment import Environment
from pipeline.orbit.timeline import DAY_S, Timeline
from pipeline.power.plant import Ambient, Command, Plant, State, plant

OFF = Command(0.0, 0.0)
LONGEST_STEP_S = 10.0


class Simulator:
    """Advances a plant's state through the environment of a timeline.

    A state is a `State` of Python floats: plain, comparable, and exact in JSON. So is all arithmetic, whatever the
    training runs on: a flight goes on by one step at a time, which takes about 15 µs.
    """

    def __init__(self, satellite: Satellite, timeline: Timeline) -> None:
        self.timeline = timeline
        self.plant: Plant = plant(satellite)
        self._day = lru_cache(maxsize=4)(lambda number: columns(timeline.day(number)))

    def without_power(self) -> "Simulator":
        """The same satellite while GPU and host are without power: they draw nothing in a hold either."""
        made = copy(self)
        made.plant = replace(self.plant, hold_w=0.0)
        return made

    def advance(self, state: State, command: Command, start_s: float, seconds: float) -> State:
        """The state after `seconds` of one command from mission second `start_s`.

        It is integrated in equal steps of at most `LONGEST_STEP_S`.

        Raises:
            BadInput: where the elements give no position.
        """
        end_s = start_s + seconds
        if seconds > DAY_S:  # beyond the elements, that is said before many days are flown in vain
            self._day(self.timeline.number(end_s))
        while seconds > 0.0:
            number = self.timeline.number(start_s)
            piece_s = min(seconds, (number + 1) * DAY_S - start_s)
            state = self._within_day(state, command, number, start_s - number * DAY_S, piece_s)
            start_s = (number + 1) * DAY_S
            seconds = end_s - start_s
        return state

    def _within_day(self, state: State, command: Command, number: int, start_s: float, seconds: float) -> State:
        count = math.ceil(seconds / LONGEST_STEP_S)
        step_s = seconds / count
        for index in range(count):
            sky = self._sky(number, start_s + (index + 0.5) * step_s)  # at its middle
            state = self.plant.step(state, command, sky, step_s)
        return state

    def _sky(self, number: int, into_s: float) -> Ambient:
        """The environment at one moment of a day, linear between samples."""
        day, sample = self._day(number), into_s / self.timeline.step_s
        cell = max(0, min(int(sample), day.shape[1] - 2))
        share = sample - cell
        here = [day.item(row, cell) * (1.0 - share) + day.item(row, cell + 1) * share for row in range(len(day))]
        return Ambient(number * DAY_S + into_s, *here)


def columns(sky: Environment) -> Float[np.ndarray, "column time"]:
    """The part of an environment that the plant sees, one row for each field of Ambient after the time."""
    return np.stack([getattr(sky, name) for name in Ambient._fields[1:]])


def fresh(satellite: Satellite) -> State:
    """The state at mission second 0."""
    made, battery = plant(satellite), satellite.battery
    heat_j = made.heat_at(satellite.radiator.initial_c)
    return State(battery.capacity_wh * battery.initial_charge, battery.initial_c, heat_j, *[0.0] * 7)


def to_json(state: State) -> dict[str, float]:
    """A plain dict; JSON writes each float with all its bits."""
    return {name: float(value) for name, value in state._asdict().items()}


def from_json(saved: Mapping[str, Any]) -> State:
    """The state that `to_json` described.

    Raises:
        Refused: a field is missing or unknown.
        RunFailed: one is not a finite number.
    """
    if not isinstance(saved, Mapping):
        raise RunFailed(f"plant state: {saved!r} has no fields; restore an earlier checkpoint")
    if set(saved) != set(State._fields):
        wrong = ", ".join(sorted(set(saved) ^ set(State._fields)))
        raise Refused(f"plant state: {wrong}: missing or unknown; go on with the version of Dayside that wrote it")
    for name, value in saved.items():
        if type(value) not in (float, int) or not abs(value) <= sys.float_info.max:
            raise RunFailed(f"plant state: {name}: {value!r} is not a finite number; restore an earlier checkpoint")
    return State(**{name: float(saved[name]) for name in State._fields})
