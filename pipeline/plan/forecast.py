"""What a policy will have done by when: the mission flown ahead of time on the flight's own plant."""

from dataclasses import dataclass
from typing import Any, Protocol

import jax
import numpy as np
from jaxtyping import Float

from pipeline.orbit import eclipses, environment
from pipeline.plan.flyer import Carry, Slot, begin, fly, slot
from pipeline.plan.payload import SWITCHED_OFF, Payload
from pipeline.plan.scenario import Scenario
from pipeline.power import Ambient, State
from pipeline.power.plant import Scalar

SLOT_S = 10.0
PIECE_SLOTS = 8640  # a day: one length, so that one compiled scan serves every forecast
# Half a day flies in floats in the time of that scan (80 ms), which takes ten times as long to compile.
SHORT_SLOTS = 4320


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
    ended_by: str  # steps, wh, orbits or horizon: the limit that came first
    eclipses: list[tuple[float, float]]  # (start_s, end_s)
    stops_s: list[float]  # mission times at which training is interrupted
    time_s: Float[np.ndarray, " slot"]  # end of each slot
    trace: Slot


def forecast(
    scenario: Scenario,
    policy: Policy,
    state: State,
    start_s: float = 0.0,
    payload: Payload = SWITCHED_OFF,
    steps: float = np.inf,
    wh: float = np.inf,
    orbits: float = np.inf,
    horizon_s: float = 30 * 86400.0,
) -> Forecast:
    """Flies `policy` from `state` at `start_s` until the first of the limits.

    Args:
        payload: what GPU and host are in the middle of at `start_s`.
        steps, wh: how many more from here; wh counts as `Forecast.train_wh` does.
        orbits: revolutions since mission second 0, as `Track.revolutions` counts them.
        horizon_s: give up after this long.

    Raises:
        BadInput: where the elements give no position.
    """
    until_s = {"orbits": orbits * scenario.timeline.track.period_s, "horizon": start_s + horizon_s}
    slots = max(1, int(np.ceil((min(until_s.values()) - start_s) / SLOT_S)))
    if slots <= SHORT_SLOTS:
        trace = _fly_floats(scenario, policy, state, start_s, payload, slots)
    else:
        trace = _fly_compiled(scenario, policy, state, start_s, payload, slots, steps, wh)
    ends_s = start_s + SLOT_S * np.arange(1, len(trace.steps) + 1)
    edges_s = np.append(start_s, ends_s)
    for name, total, limit in (("steps", trace.steps, steps), ("wh", trace.train_wh, wh)):
        until_s[name] = reached(edges_s, np.append(0.0, total), limit)
    ended_by = min(until_s, key=lambda limit: until_s[limit])
    return _summary(scenario, state, bool(payload.on), start_s, until_s[ended_by], ended_by, ends_s, trace)


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
    slots: int,
    steps: float,
    wh: float,
) -> Slot:
    """Piece by piece, until one is beyond a limit."""
    pieces = []
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        machine = scenario.machine()
        carry = begin(state, payload)
        for first in range(0, slots, PIECE_SLOTS):
            scenario.check()
            begin_s = start_s + SLOT_S * (first + np.arange(PIECE_SLOTS))
            sky = sampled(scenario, begin_s + 0.5 * SLOT_S)
            parameters, rows = policy.piece(begin_s)
            carry, piece = fly(scenario.plant, machine, policy.act, parameters, carry, sky, rows, SLOT_S)
            pieces.append(np.stack(piece))
            if float(carry.steps) >= steps or float(carry.train_wh) >= wh:  # a comparison of arrays would be compiled
                break
    return Slot(*np.concatenate(pieces, axis=1))


def _summary(
    scenario: Scenario,
    state: State,
    on: bool,
    start_s: float,
    end_s: float,
    ended_by: str,
    ends_s: Float[np.ndarray, " slot"],
    trace: Slot,
) -> Forecast:
    end_s = max(end_s, start_s)
    count = min(int(np.ceil((end_s - start_s) / SLOT_S)), len(ends_s))

    def at_end(total: Float[np.ndarray, " slot"], before: float) -> float:
        return float(np.interp(end_s, [start_s, *ends_s], [before, *total])) - before

    running = np.concatenate([[on], trace.mode[:count] > 0])
    day = environment(scenario.timeline.track, start_s, max(end_s - start_s, SLOT_S), SLOT_S)
    return Forecast(
        steps=at_end(trace.steps, 0.0),
        train_s=at_end(trace.train_s, 0.0),
        train_wh=at_end(trace.train_wh, 0.0),
        harvest_wh=at_end(trace.harvest_wh, state.harvest_wh),
        restarts=int(np.sum(running[1:] & ~running[:-1])),
        end_s=end_s,
        ended_by=ended_by,
        eclipses=eclipses(day),
        stops_s=[start_s + SLOT_S * float(slot) for slot in np.flatnonzero(running[:-1] & ~running[1:])],
        time_s=ends_s[:count],
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
