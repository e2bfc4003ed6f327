"""What a policy will have done by when: the mission flown ahead of time on the flight's own plant."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import numpy as np
from jaxtyping import Float

from pipeline.config.errors import BadInput
from pipeline.orbit.timeline import DAY_S
from pipeline.plan.flyer import Carry, Slot, begin, fly, slot
from pipeline.plan.payload import SWITCHED_OFF, Payload
from pipeline.plan.scenario import Scenario
from pipeline.power import Ambient, State
from pipeline.power.plant import Plant, Scalar

SLOT_S = 10.0
PIECE_SLOTS = 8640  # a day: one length, so that one compiled scan serves every forecast
# Half a day flies in floats in the time of that scan (80 ms), which takes ten times as long to compile.
SHORT_SLOTS = 4320
NEAR_S, APART_S = 28.0 * DAY_S, 3.0 * DAY_S


class Policy(Protocol):
    """A way to spend energy. `act` is pure JAX over `parameters` and one row of `rows`."""

    def poll(self, time_s: float, charge_wh: float, heat_j: float, on: bool, full_wh: float) -> float:
        """`act` at one moment, for the flight loop and for short forecasts."""

    def piece(self, time_s: Float[np.ndarray, " slot"]) -> tuple[Any, Any]:
        """Parameters, and arrays with one row for each moment, for a stretch of time."""

    @staticmethod
    def act(parameters: Any, row: Any, charge_wh: Scalar, heat_j: Scalar, on: Scalar, full_wh: Scalar) -> Scalar:
        """Power that the GPU may draw until the next slot [W]; 0: off. `full_wh`: what the faded battery holds."""


@dataclass(frozen=True)
class Forecast:
    """Totals from the start of the forecast to its end."""

    steps: float
    train_s: float  # time spent training
    train_wh: float  # drawn by GPU and host at the regulator's input while training
    harvest_wh: float  # taken from the array
    restarts: int
    end_s: float  # mission time
    ended_by: str  # steps, wh or horizon: the limit that came first; or elements, which go no further
    stops_s: list[float]  # mission times at which training is interrupted
    time_s: Float[np.ndarray, " slot"]  # end of each slot; of a day that stands for three, they are as much longer
    trace: Slot

    def violations(self, plant: Plant) -> tuple[int, int]:
        """Slots that end with less than the floor, and those that end with a plate hotter than the power drawn allows
        or a battery too hot to be charged."""
        trace = self.trace
        hot = (trace.plate_c > plant.limit_at(trace.cap_w)) | (trace.battery_c > plant.charge_max_c)
        return int(np.sum(trace.charge_wh < plant.floor_wh)), int(np.sum(hot))


def forecast(
    scenario: Scenario,
    policy: Policy,
    state: State,
    start_s: float = 0.0,
    payload: Payload = SWITCHED_OFF,
    steps: float = np.inf,
    wh: float = np.inf,
    horizon_s: float = 30 * DAY_S,
    sparse: bool = False,
) -> Forecast:
    """Flies `policy` from `state` at `start_s` until the first of the limits.

    Args:
        payload: what GPU and host are in the middle of at `start_s`.
        steps, wh: how many more from here; wh counts as `Forecast.train_wh` does.
        horizon_s: give up after this long.
        sparse: after four weeks fly one day of three, which stands for its neighbours. Light changes slowly.

    Raises:
        BadInput: the elements give no position on the first day.
    """
    last_s = start_s + horizon_s
    until_s = {"horizon": last_s}
    slots = max(1, int(np.ceil((last_s - start_s) / SLOT_S)))
    if slots <= SHORT_SLOTS:
        trace = _fly_floats(scenario, policy, state, start_s, payload, slots)
        ends_s = start_s + SLOT_S * np.arange(1, slots + 1)
    else:
        days = _days(start_s, last_s, start_s + NEAR_S if sparse else np.inf)
        ends_s, trace = _fly_compiled(scenario, policy, state, start_s, payload, days, steps, wh)
    if ends_s[-1] < last_s - SLOT_S:
        until_s["elements"] = float(ends_s[-1])
    edges_s = np.append(start_s, ends_s)
    for name, total, limit in (("steps", trace.steps, steps), ("wh", trace.train_wh, wh)):
        until_s[name] = reached(edges_s, np.append(0.0, total), limit)
    ended_by = min(until_s, key=lambda limit: until_s[limit])
    end_s = max(until_s[ended_by], start_s)
    return _summary(state, bool(payload.on), edges_s, end_s, ended_by, trace)


def _days(start_s: float, end_s: float, sparse_s: float) -> Iterator[tuple[float, float]]:
    """When each day begins that is flown [mission s], and how many it stands for; from `sparse_s` on up to three."""
    while start_s < end_s:
        until_s = start_s + DAY_S if start_s < sparse_s else min(start_s + APART_S, end_s)
        yield 0.5 * (start_s + until_s - DAY_S), (until_s - start_s) / DAY_S
        start_s = until_s


def _fly_floats(scenario: Scenario, policy: Policy, state: State, start_s: float, payload: Payload, slots: int) -> Slot:
    """As the flight itself goes, without its clock."""
    begin_s = start_s + SLOT_S * np.arange(slots)
    sky = zip(*(column.tolist() for column in sampled(scenario, begin_s + 0.5 * SLOT_S)), strict=True)
    machine, carry, trace = scenario.machine(), Carry(State(*map(float, state)), payload, 0.0, 0.0, 0.0), []
    for time_s, now in zip(begin_s.tolist(), sky, strict=True):
        charge_wh, heat_j, payload = carry.state.charge_wh, carry.state.heat_j, carry.payload
        full_wh = scenario.plant.full_wh(carry.state)
        cap_w = payload.permit(policy.poll(time_s, charge_wh, heat_j, payload.on, full_wh))
        rate = scenario.steps_per_s(cap_w)
        carry, after = slot(scenario.plant, machine, carry, cap_w, rate, Ambient(*now), SLOT_S)
        trace.append(after)
    return Slot(*np.array(trace, float).T)


def _fly_compiled(
    scenario: Scenario,
    policy: Policy,
    state: State,
    start_s: float,
    payload: Payload,
    days: Iterator[tuple[float, float]],
    steps: float,
    wh: float,
) -> tuple[Float[np.ndarray, " slot"], Slot]:
    """Day by day, until one is beyond a limit. Returns when each slot ends, and the trace."""
    ends_s: list[Float[np.ndarray, " slot"]] = []
    pieces: list[Float[np.ndarray, "column slot"]] = []
    slot_number = np.arange(PIECE_SLOTS)
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        machine = scenario.machine()
        carry = begin(state, payload)
        for day_s, stands_for in days:
            scenario.check()
            begin_s = day_s + SLOT_S * slot_number
            try:
                sky = sampled(scenario, begin_s + 0.5 * SLOT_S)
                parameters, rows = policy.piece(begin_s)
            except BadInput:
                if not pieces:
                    raise
                break
            after, piece = fly(scenario.plant, machine, policy.act, parameters, carry, sky, rows, SLOT_S)
            begun_s = ends_s[-1][-1] if ends_s else start_s
            ends_s.append(begun_s + stands_for * SLOT_S * (slot_number + 1))
            pieces.append(_longer(carry, piece, stands_for))
            carry = _later(carry, after, stands_for)
            if float(carry.steps) >= steps or float(carry.train_wh) >= wh:  # a comparison of arrays would be compiled
                break
    return np.concatenate(ends_s), Slot(*np.concatenate(pieces, axis=1))


def _longer(before: Carry, piece: Slot, days: float) -> Float[np.ndarray, "column slot"]:
    """The trace of a day that stands for so many."""
    totals = before.steps, before.train_s, before.train_wh, before.state.harvest_wh, before.state.discharge_wh
    grown = (_grown(total, column, days) for total, column in zip(totals, piece[5:], strict=True))
    return np.stack(piece if days == 1.0 else [*piece[:5], *grown])


def _later(before: Carry, after: Carry, days: float) -> Carry:
    """What is carried on after so many days as the one between."""
    if days == 1.0:
        return after
    totals = {name: _grown(getattr(before, name), getattr(after, name), days) for name in Carry._fields[2:]}
    books = {name: _grown(getattr(before.state, name), getattr(after.state, name), days) for name in State._fields[3:]}
    return after._replace(state=after.state._replace(**books), **totals)


def _grown(before: Scalar, after: Any, days: float) -> Any:
    return float(before) + days * (np.asarray(after) - float(before))


def _summary(
    state: State, on: bool, edges_s: Float[np.ndarray, " edge"], end_s: float, ended_by: str, trace: Slot
) -> Forecast:
    count = min(int(np.searchsorted(edges_s, end_s)), len(edges_s) - 1)

    def at_end(total: Float[np.ndarray, " slot"], before: float) -> float:
        return float(np.interp(end_s, edges_s, np.append(before, total))) - before

    running = np.concatenate([[on], trace.mode[:count] > 0])
    starts, stops = running[1:] & ~running[:-1], running[:-1] & ~running[1:]
    return Forecast(
        steps=at_end(trace.steps, 0.0),
        train_s=at_end(trace.train_s, 0.0),
        train_wh=at_end(trace.train_wh, 0.0),
        harvest_wh=at_end(trace.harvest_wh, state.harvest_wh),
        restarts=round(float(np.diff(edges_s)[:count][starts].sum() / SLOT_S)),
        end_s=end_s,
        ended_by=ended_by,
        stops_s=edges_s[:count][stops].tolist(),
        time_s=edges_s[1 : count + 1],
        trace=Slot(*(column[:count] for column in trace)),
    )


def reached(edges_s: Float[np.ndarray, " edge"], total: Float[np.ndarray, " edge"], limit: float) -> float:
    """When a running total reaches its limit [s]; infinite where it does not."""
    edge = int(np.searchsorted(total, limit))
    if edge in (0, len(total)):
        return np.inf if edge else float(edges_s[0])
    return float(np.interp(limit, total[edge - 1 : edge + 1], edges_s[edge - 1 : edge + 1]))


def sampled(scenario: Scenario, time_s: Float[np.ndarray, " slot"]) -> Ambient:
    """The environment at each of evenly spaced moments."""
    timeline = scenario.timeline
    first, last = timeline.number(time_s[0]), timeline.number(time_s[-1])
    days = [timeline.day(number) for number in range(first, last + 1)]
    grid_s = np.concatenate([day.time_s for day in days])
    columns = [np.concatenate([getattr(day, name) for day in days]) for name in Ambient._fields[1:]]
    return Ambient(time_s, *(np.interp(time_s, grid_s, column) for column in columns))
