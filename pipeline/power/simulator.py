"""The plant flown along an orbit, in pieces of work of any duration."""

import math
import sys
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pipeline.config.errors import RunFailed
from pipeline.config.mission import Satellite
from pipeline.orbit.environment import Environment
from pipeline.orbit.timeline import DAY_S, Timeline
from pipeline.power.plant import Ambient, Command, Plant, State, plant

OFF = Command(0.0, 0.0)


class Simulator:
    """Advances a plant's state through the environment of a timeline.

    A state lives outside as a `State` of Python floats: plain, comparable, and exact in JSON. `advance` takes about
    100 µs. All arithmetic is float64 on the CPU, whatever the training runs on.
    """

    def __init__(self, satellite: Satellite, timeline: Timeline, longest_step_s: float = 10.0) -> None:
        self.timeline = timeline
        self.longest_step_s = longest_step_s
        self._cpu = jax.devices("cpu")[0]
        self.plant: Plant = plant(satellite)
        with jax.enable_x64(True):
            self._plant = jax.device_put(self.plant, self._cpu)
        self._days: dict[int, Float[Array, "column time"]] = {}

    def advance(self, state: State, command: Command, start_s: float, seconds: float) -> State:
        """The state after `seconds` of one command from mission second `start_s`.

        It is integrated in equal steps of at most `longest_step_s`.
        """
        end_s = start_s + seconds
        while seconds > 0.0:
            number = self.timeline.number(start_s)
            piece_s = min(seconds, (number + 1) * DAY_S - start_s)
            state = self._within_day(state, command, number, start_s - number * DAY_S, piece_s)
            start_s = (number + 1) * DAY_S
            seconds = end_s - start_s
        return state

    def ambient(self, time_s: float) -> Ambient:
        """The environment at one moment, for display and for notices."""
        number = self.timeline.number(time_s)
        day = self.timeline.day(number)
        return Ambient(time_s, *(float(np.interp(time_s, day.time_s, column)) for column in columns(day)))

    def _within_day(self, state: State, command: Command, number: int, start_s: float, seconds: float) -> State:
        count = math.ceil(seconds / self.longest_step_s)
        with jax.enable_x64(True):
            work = np.array([*state, *command, number * DAY_S, start_s, seconds / count, self.timeline.step_s])
            packed = _run(self._plant, self._day(number), work, count)
        return State(*np.asarray(packed).tolist())

    def _day(self, number: int) -> Float[Array, "column time"]:
        if number not in self._days:
            if len(self._days) >= 4:
                self._days.clear()
            self._days[number] = jax.device_put(columns(self.timeline.day(number)), self._cpu)
        return self._days[number]


def columns(sky: Environment) -> Float[np.ndarray, "column time"]:
    """The part of an environment that the plant sees, one row for each field of Ambient after the time."""
    return np.stack([getattr(sky, name) for name in Ambient._fields[1:]])


@jax.jit
def _run(
    plant: Plant, day: Float[Array, "column time"], work: Float[Array, " work"], count: int | Float[Array, ""]
) -> Float[Array, " state"]:
    """`count` steps of the plant, each under the environment at its middle.

    `work` is one array, for each argument costs microseconds: state, command, origin, start, step, grid step.
    """
    state = State(*work[: len(State._fields)])
    gpu_w, host_w, origin_s, start_s, dt_s, grid_s = work[len(State._fields) :]
    command = Command(gpu_w, host_w)

    def one(index: Float[Array, ""], state: State) -> State:
        middle_s = start_s + (index + 0.5) * dt_s
        cell = jnp.clip((middle_s / grid_s).astype(int), 0, day.shape[1] - 2)
        share = middle_s / grid_s - cell
        here = day[:, cell] * (1.0 - share) + day[:, cell + 1] * share
        return plant.step(state, command, Ambient(origin_s + middle_s, *here), dt_s)

    return jnp.stack(jax.lax.fori_loop(0, count, one, state))


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
        RunFailed: if a field is missing, unknown or not a finite number.
    """
    if not isinstance(saved, Mapping):
        raise RunFailed(f"plant state: {saved!r} has no fields; restore an earlier checkpoint")
    if set(saved) != set(State._fields):
        wrong = ", ".join(sorted(set(saved) ^ set(State._fields)))
        raise RunFailed(f"plant state: {wrong} missing or unknown; this checkpoint is of another version")
    for name, value in saved.items():
        if type(value) not in (float, int) or not abs(value) <= sys.float_info.max:
            raise RunFailed(f"plant state: {name}: {value!r} is not a finite number; restore an earlier checkpoint")
    return State(**{name: float(saved[name]) for name in State._fields})
