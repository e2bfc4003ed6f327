"""How well any policy could do: a linear programme whose optimum no policy can pass, and its twin that is a plan.

Time in slots. In each, the GPU is on for a share x of the time, and on and off have their own books: the energy drawn
P, the sunlight met S, what is charged and what is discharged. Maximise Σ R subject to the balances of battery and
radiator. What can only cost is left out (restarts, fade, a battery too cold or too hot to be charged), so the optimum
bounds the steps of every policy that leaves the satellite able to pass its next umbra. It is certified: given on and
off, rate and stored energy are concave in power, so the means over a slot of any finer plan satisfy the constraints
(Jensen's inequality). One book for both would be looser: a GPU that alternates within a slot would seem to need no
battery. Three terms are taken from the safe side:

- the rate between two points of the GPU's curve: all rates are raised by its largest excess over the concave hull;
- sunlight met while on: anything between the slot's darkest and brightest moment, as far as on and off share the sum;
- what the radiator rejects, T⁴ with the plateau of melting: its upper concave hull (of T⁴ alone, the chord).

The twin takes the slot's mean sunlight, and a line that supports the rejected heat from below at the limit (of T⁴
alone, the tangent). It is a plan whose restarts are free.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from pipeline.config.errors import RunFailed
from pipeline.orbit import Environment
from pipeline.orbit.timeline import DAY_S
from pipeline.plan.levels import everywhere, hull, levels
from pipeline.plan.reserve import require_reserve, reserve_wh
from pipeline.plan.scenario import DARK, Mode, Scenario
from pipeline.power import OFF, Ambient, State
from pipeline.power.plant import HOUR_S
from pipeline.power.simulator import columns

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Series = Float[np.ndarray, " slot"]
Lines = list[tuple[float, float]]  # intercept, slope

# Blocks of variables, each one value for each slot; the last two only where heat can bind.
SHARE, DRAWN, STEPS, SUN, IN_ON, OUT_ON, IN_OFF, OUT_OFF, CHARGE, HEAT, REJECTED = range(11)

SOLVED, INFEASIBLE = 0, 2  # as linprog says it


@dataclass(frozen=True)
class Bound:
    upper_steps: float  # no policy makes more
    feasible_steps: float  # a plan that restarts at no cost makes these


@dataclass(frozen=True)
class _Slots:
    """The environment of each slot."""

    mean: Ambient
    surplus_w: Series  # of the array over the bus, mean
    darkest_w: Series
    brightest_w: Series


def bound(scenario: Scenario, state: State, start_s: float, duration_s: float, slot_s: float = 60.0) -> Bound:
    """The two optima from `state` over `duration_s`, rounded down to whole slots.

    Raises:
        BadInput: where the elements give no position, or the battery does not carry the bus through an umbra.
        RunFailed: where no plan keeps the floor from this state, or the solver fails.
    """
    timeline = scenario.timeline
    count, per = int(duration_s / slot_s), round(slot_s / timeline.step_s)
    sky = timeline.span(start_s, duration_s + DAY_S)
    require_reserve(scenario.plant, sky, 0.0)
    end_wh = float(reserve_wh(scenario.plant, sky, 0.0)[count * per])
    slots = _slots(scenario, sky, count, per)
    upper, feasible = (_optimum(scenario, state, slots, slot_s, end_wh, upper) for upper in (True, False))
    return Bound(upper * _excess(scenario), feasible)


def _optimum(scenario: Scenario, state: State, slots: _Slots, slot_s: float, end_wh: float, upper: bool) -> float:
    """Most steps."""
    # Imported here: 0.4 s that a restart in flight need not pay.
    from scipy.optimize import linprog
    from scipy.sparse import block_array, csr_array, diags_array, eye_array

    plant, count, hours = scenario.plant, len(slots.surplus_w), slot_s / HOUR_S
    hold_w = float(plant.payload_w(OFF))
    eye = eye_array(count, format="csr")
    previous = diags_array(np.ones(count - 1), offsets=-1, shape=(count, count), format="csr")
    first = np.eye(1, count)[0]  # where the initial state enters
    zero, one, unbounded = np.zeros(count), np.ones(count), np.full(count, np.inf)
    blocks = REJECTED + 1 if scenario.heat_binds else CHARGE + 1
    at_most: list[tuple[dict[int, csr_array], Series]] = []
    equal: list[tuple[dict[int, csr_array], Series]] = []
    low, high = [zero] * blocks, [unbounded] * blocks

    on = levels(scenario)
    # In shares of the full rate: in steps a second, the solver can lose its way.
    rates = on.steps_per_s / on.steps_per_s[-1]
    corners = hull(np.stack([on.payload_w, rates], axis=1))
    slopes = np.diff(corners[:, 1]) / np.diff(corners[:, 0])
    high[SHARE] = one
    at_most += [
        ({SHARE: on.payload_w[0] * eye, DRAWN: -eye}, zero),
        ({SHARE: -on.payload_w[-1] * eye, DRAWN: eye}, zero),
        ({SHARE: -rates[-1] * eye, STEPS: eye}, zero),
    ]
    for (watts, rate), slope in zip(corners[:-1], slopes, strict=True):
        at_most.append(({SHARE: -(rate - slope * watts) * eye, DRAWN: -slope * eye, STEPS: eye}, zero))

    # The Sun is shared between on and off, within what the slot's moments offer; the twin meets the mean.
    sun_w, low[SUN] = slots.surplus_w, -unbounded
    dark, bright = (slots.darkest_w, slots.brightest_w) if upper else (sun_w, sun_w)
    at_most += [
        ({SHARE: _diagonal(dark), SUN: -eye}, zero),
        ({SHARE: -_diagonal(bright), SUN: eye}, zero),
        ({SHARE: -_diagonal(dark), SUN: eye}, sun_w - dark),
        ({SHARE: _diagonal(bright), SUN: -eye}, bright - sun_w),
        ({DRAWN: eye, SUN: -eye, IN_ON: eye, OUT_ON: -eye}, zero),
        ({SHARE: -hold_w * eye, SUN: eye, IN_OFF: eye, OUT_OFF: -eye}, sun_w - hold_w),
    ]
    for inward, outward, sign, rest in ((IN_ON, OUT_ON, -1.0, 0.0), (IN_OFF, OUT_OFF, 1.0, 1.0)):
        at_most.append(({SHARE: sign * plant.charge_max_w * eye, inward: eye}, rest * plant.charge_max_w * one))
        at_most.append(({SHARE: sign * plant.discharge_max_w * eye, outward: eye}, rest * plant.discharge_max_w * one))

    into, out = -plant.charge_efficiency * hours * eye, hours / plant.discharge_efficiency * eye
    leak_wh = plant.self_discharge_per_s * plant.floor_wh * slot_s  # at least
    stored = {IN_ON: into, IN_OFF: into, OUT_ON: out, OUT_OFF: out, CHARGE: eye - previous}
    equal.append((stored, first * state.charge_wh - leak_wh))
    low[CHARGE] = np.append(np.full(count - 1, plant.floor_wh), end_wh)
    high[CHARGE] = np.full(count, plant.capacity_wh)

    if scenario.heat_binds:
        limits_j = plant.heat_at(plant.limit_at(on.cap_w))
        limit_j = float(limits_j.max() if upper else limits_j.min())
        low[HEAT], high[HEAT], low[REJECTED] = -unbounded, np.full(count, limit_j), -unbounded
        warmed = {DRAWN: -slot_s * eye, SHARE: hold_w * slot_s * eye, HEAT: eye - previous, REJECTED: slot_s * eye}
        equal.append((warmed, first * state.heat_j + hold_w * slot_s))
        lowest_j = min(state.heat_j, plant.resting_j(DARK))
        # At most what the upper lines give at the slot's mean, or the lower line at its beginning and at its end.
        if upper:
            slack_j = _slack_j(scenario, limit_j, slot_s)
            lines = [(a + b * slack_j, b, 0.5) for a, b in _above(scenario, lowest_j, limit_j)]
        else:
            lines = [(*_below(scenario, lowest_j, limit_j), share) for share in (0.0, 1.0)]
        for intercept_w, slope, at_end in lines:
            enthalpy = at_end * eye + (1.0 - at_end) * previous
            right = intercept_w - plant.absorbed_w(slots.mean) + slope * (1.0 - at_end) * state.heat_j * first
            at_most.append(({HEAT: -slope * enthalpy, REJECTED: eye}, right))

    cost = np.zeros(blocks * count)
    cost[STEPS * count : (STEPS + 1) * count] = -1.0
    empty = csr_array((count, count))
    programme = {
        "A_ub": block_array([[row.get(block, empty) for block in range(blocks)] for row, _ in at_most]),
        "b_ub": np.concatenate([right for _, right in at_most]),
        "A_eq": block_array([[row.get(block, empty) for block in range(blocks)] for row, _ in equal]),
        "b_eq": np.concatenate([right for _, right in equal]),
        "bounds": np.stack([np.concatenate(low), np.concatenate(high)], axis=1),
    }
    found = linprog(cost, **programme, method="highs")
    if found.status not in (SOLVED, INFEASIBLE):  # the simplex method can lose its way where an interior point does not
        found = linprog(cost, **programme, method="highs-ipm")
    if found.status == INFEASIBLE:
        raise RunFailed(f"no plan keeps the battery's floor from {state.charge_wh:.0f} Wh: {found.message}")
    if found.status != SOLVED:
        raise RunFailed(f"the bound was not found: the solver of linear programmes failed: {found.message}")
    return -float(found.fun) * slot_s * float(on.steps_per_s[-1])


def _diagonal(values: Series) -> "csr_array":
    from scipy.sparse import diags_array

    return diags_array(values, format="csr")


def _slots(scenario: Scenario, sky: Environment, count: int, per: int) -> _Slots:
    """`count` slots of `per` grid steps, between whose samples the environment is linear."""

    def mean(column: Float[np.ndarray, " time"]) -> Series:
        middles = 0.5 * (column[1:] + column[:-1])
        return middles[: count * per].reshape(count, per).mean(axis=1)

    samples = Ambient(sky.time_s, *columns(sky))
    surplus_w = scenario.plant.array_w(samples) - scenario.plant.bus_load_w(samples)
    within = np.lib.stride_tricks.sliding_window_view(surplus_w, per + 1)[: count * per : per]
    return _Slots(Ambient(*map(mean, samples)), mean(surplus_w), within.min(axis=1), within.max(axis=1))


def _excess(scenario: Scenario) -> float:
    """The largest ratio of the true rate to the hull of the curve's points."""
    on = levels(scenario)
    corners = hull(np.stack([on.payload_w, on.steps_per_s], axis=1))
    between = everywhere(scenario)
    return max(1.0, float(np.max(between.steps_per_s / np.interp(between.payload_w, *corners.T))))


def _emitted_w(scenario: Scenario, heat_j: Series) -> Series:
    """ε σ A T⁴ of an enthalpy [W]."""
    return scenario.plant.radiated_w(heat_j, DARK) + scenario.plant.absorbed_w(DARK)


def _above(scenario: Scenario, lowest_j: float, limit_j: float) -> Lines:
    """Lines that bound the emitted heat from above: the hull of its corners, between which it is flat or convex."""
    melting_j = [j for j in (0.0, scenario.plant.latent_j) if lowest_j < j < limit_j]
    heat_j = np.unique([lowest_j, *melting_j, limit_j])
    corners = hull(np.stack([heat_j, _emitted_w(scenario, heat_j)], axis=1))
    slopes = np.diff(corners[:, 1]) / np.diff(corners[:, 0])
    return [(float(w - slope * j), float(slope)) for (j, w), slope in zip(corners[:-1], slopes, strict=True)]


def _below(scenario: Scenario, lowest_j: float, limit_j: float) -> tuple[float, float]:
    """The line through the emitted heat at the limit that lies below it everywhere."""
    heat_j = np.linspace(lowest_j, limit_j, 2001)
    watts = _emitted_w(scenario, heat_j)
    slope = float(np.max((watts[-1] - watts[:-1]) / (limit_j - heat_j[:-1])))
    return float(watts[-1] - slope * limit_j), slope


def _slack_j(scenario: Scenario, limit_j: float, slot_s: float) -> float:
    """How far a slot's mean enthalpy can lie above the mean of its ends: heated at most, then cooled at most [J]."""
    heating_w = scenario.plant.payload_w(scenario.command(Mode.TRAIN))
    cooling_w = _emitted_w(scenario, np.array([limit_j]))[0]
    return 0.5 * slot_s * heating_w * cooling_w / (heating_w + cooling_w)
