"""How well any policy could do: a linear programme whose optimum no policy can pass, and its twin that is a plan.

Time in slots, x[t, k] the share of slot t spent at power k: maximise Σ r_k x[t, k] under the balances of battery and
radiator. What can only cost is left out (restarts, fade, cold lock-out), so the optimum bounds the steps of every
policy that leaves the satellite able to pass its next umbra. It is certified: the constraints are linear, so the mean
over a slot of any finer plan keeps them. Two terms are not linear, and are taken from the safe side:

- the rate between two points of the GPU's curve: all rates are raised by its largest excess over the chord; - what the
radiator rejects, T⁴ with the plateau of melting: its upper concave hull (of T⁴ alone, the chord). The twin takes a
  line that supports it from below at the limit (of T⁴ alone, the tangent), and is therefore feasible.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.optimize import linprog
from scipy.sparse import block_array, csr_array, diags_array, eye_array

from pipeline.config.errors import RunFailed
from pipeline.orbit import Environment
from pipeline.plan.levels import Levels, levels
from pipeline.plan.reserve import reserve_wh
from pipeline.plan.scenario import DARK, Mode, Scenario
from pipeline.power import Ambient, Command, State
from pipeline.power.plant import HOUR_S
from pipeline.power.simulator import columns

Series = Float[np.ndarray, " slot"]
Lines = list[tuple[float, float]]  # intercept [W], slope [W/J]


@dataclass(frozen=True)
class Bound:
    upper_steps: float  # no policy makes more
    feasible_steps: float  # a plan that restarts at no cost makes these


def bound(scenario: Scenario, state: State, start_s: float, duration_s: float, slot_s: float = 60.0) -> Bound:
    """The two optima from `state` over `duration_s`, rounded down to whole slots.

    Raises:
        BadInput: where the elements give no position, or the battery does not carry the bus through an umbra.
        RunFailed: where no plan keeps the floor from this state.
    """
    timeline = scenario.timeline
    count, per = int(duration_s / slot_s), round(slot_s / timeline.step_s)
    sky = timeline.span(start_s, duration_s + 86400.0)
    end_wh = float(reserve_wh(scenario.plant, sky, 0.0)[count * per])
    slots = _averaged(sky, count, per)
    chosen = levels(scenario)
    upper, feasible = (_optimum(scenario, chosen, state, slots, slot_s, end_wh, side) for side in ("upper", "feasible"))
    return Bound(upper * _excess(scenario, chosen), feasible)


def _optimum(
    scenario: Scenario, chosen: Levels, state: State, slots: Ambient, slot_s: float, end_wh: float, side: str
) -> float:
    """Most steps.

    Variables, each a block of slots: shares of each level, charging and discharging power, charge at the slot's end
    and, where heat can bind, enthalpy at the slot's end and rejected heat.
    """
    plant, count, hours = scenario.plant, len(slots.time_s), slot_s / HOUR_S
    eye = eye_array(count, format="csr")
    previous = diags_array(np.ones(count - 1), offsets=-1, shape=(count, count), format="csr")
    first = np.eye(1, count)[0]  # where the initial state enters
    shares = [eye] * len(chosen.cap_w)
    drawn = [watts * eye for watts in chosen.payload_w]
    no = csr_array((count, count))
    nothing = [no] * len(shares)

    surplus_w = plant.array_w(slots) - plant.bus_load_w(slots)
    leak_wh = plant.self_discharge_per_s * plant.floor_wh * slot_s  # at least
    stored = [-plant.charge_efficiency * hours * eye, hours / plant.discharge_efficiency * eye, eye - previous]
    at_most = [([*drawn, eye, -eye, no], surplus_w), ([*shares, no, no, no], np.ones(count))]
    equal = [([*nothing, *stored], first * state.charge_wh - leak_wh)]
    lowest_wh = np.full(count, plant.floor_wh)
    lowest_wh[-1] = end_wh
    low = [np.zeros((len(shares) + 2) * count), lowest_wh]
    high = [np.ones(len(shares) * count), np.full(count, plant.charge_max_w), np.full(count, plant.discharge_max_w)]
    high.append(np.full(count, plant.capacity_wh))

    if scenario.heat_binds:
        limits_j = plant.heat_at(plant.limit_at(chosen.cap_w))
        limit_j = float(limits_j.max() if side == "upper" else limits_j.min())
        lowest_j = min(state.heat_j, plant.resting_j(DARK))
        at_most = [([*row, no, no], right) for row, right in at_most]
        equal = [([*row, no, no], right) for row, right in equal]
        heated = [-slot_s * watts for watts in drawn]
        equal.append(([*heated, no, no, no, eye - previous, slot_s * eye], first * state.heat_j))
        # Rejected at most what the upper lines give at the slot's mean, or the lower line at its beginning and at its
        # end.
        if side == "upper":
            slack_j = _slack_j(scenario, limit_j, slot_s)
            lines = [(a + b * slack_j, b, 0.5) for a, b in _above(scenario, lowest_j, limit_j)]
        else:
            lines = [(*_below(scenario, lowest_j, limit_j), share) for share in (0.0, 1.0)]
        for intercept_w, slope, at_end in lines:
            enthalpy = at_end * eye + (1.0 - at_end) * previous
            right = intercept_w - plant.absorbed_w(slots) + slope * (1.0 - at_end) * state.heat_j * first
            at_most.append(([*nothing, no, no, no, -slope * enthalpy, eye], right))
        low.append(np.full(2 * count, -np.inf))
        high += [np.full(count, limit_j), np.full(count, np.inf)]

    reward = np.repeat(chosen.steps_per_s * slot_s, count)
    cost = np.zeros(sum(map(len, low)))
    cost[: len(reward)] = -reward
    found = linprog(
        cost,
        A_ub=block_array([row for row, _ in at_most]),
        b_ub=np.concatenate([right for _, right in at_most]),
        A_eq=block_array([row for row, _ in equal]),
        b_eq=np.concatenate([right for _, right in equal]),
        bounds=np.stack([np.concatenate(low), np.concatenate(high)], axis=1),
        method="highs",
    )
    if not found.success:
        raise RunFailed(f"no plan keeps the battery's floor from {state.charge_wh:.0f} Wh: {found.message}")
    return -float(found.fun)


def _averaged(sky: Environment, count: int, per: int) -> Ambient:
    """The mean environment of each of `count` slots of `per` grid steps."""

    def mean(column: Float[np.ndarray, " time"]) -> Series:
        middles = 0.5 * (column[1:] + column[:-1])
        return middles[: count * per].reshape(count, per).mean(axis=1)

    return Ambient(mean(sky.time_s), *map(mean, columns(sky)))


def _excess(scenario: Scenario, chosen: Levels) -> float:
    """The largest ratio of the true rate to the chords between the levels and off."""
    caps_w = np.linspace(scenario.curve.watts[0], scenario.curve.full_w, 2001)[1:]
    payload_w = scenario.plant.payload_w(Command(caps_w, scenario.host_w))
    rates = np.array([1.0 / scenario.step_seconds(float(cap_w)) for cap_w in caps_w])
    return max(1.0, float(np.max(rates / np.interp(payload_w, [0.0, *chosen.payload_w], [0.0, *chosen.steps_per_s]))))


def _emitted_w(scenario: Scenario, heat_j: Series) -> Series:
    """ε σ A T⁴ of an enthalpy [W]."""
    return scenario.plant.radiated_w(heat_j, DARK) + scenario.plant.absorbed_w(DARK)


def _above(scenario: Scenario, lowest_j: float, limit_j: float) -> Lines:
    """Lines that bound the emitted heat from above: the upper hull of its corners, between which it is flat or convex."""
    corners = [lowest_j, *(j for j in (0.0, scenario.plant.latent_j) if lowest_j < j < limit_j), limit_j]
    heat_j = np.unique(corners)
    watts = _emitted_w(scenario, heat_j)
    lines, at = [], 0
    while at < len(heat_j) - 1:
        slopes = (watts[at + 1 :] - watts[at]) / (heat_j[at + 1 :] - heat_j[at])
        steepest = int(np.argmax(slopes))
        lines.append((float(watts[at] - slopes[steepest] * heat_j[at]), float(slopes[steepest])))
        at += steepest + 1
    return lines


def _below(scenario: Scenario, lowest_j: float, limit_j: float) -> tuple[float, float]:
    """The line through the emitted heat at the limit that lies below it everywhere."""
    heat_j = np.linspace(lowest_j, limit_j, 2001)
    watts = _emitted_w(scenario, heat_j)
    slope = float(np.max((watts[-1] - watts[:-1]) / (limit_j - heat_j[:-1])))
    return float(watts[-1] - slope * limit_j), slope


def _slack_j(scenario: Scenario, limit_j: float, slot_s: float) -> float:
    """How far the mean enthalpy of a slot can lie above the mean of its ends: heated at most, then cooled at most [J]."""
    heating_w = scenario.plant.payload_w(scenario.command(Mode.TRAIN))
    cooling_w = _emitted_w(scenario, np.array([limit_j]))[0]
    return 0.5 * slot_s * heating_w * cooling_w / (heating_w + cooling_w)
