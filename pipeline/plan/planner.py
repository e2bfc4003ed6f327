"""The optimal policy: the dynamic programme's table, or a simple rule where that does more."""

import math
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float

from pipeline.config.errors import BadInput
from pipeline.config.mission import Mission
from pipeline.orbit.timeline import DAY_S
from pipeline.plan.baselines import baselines
from pipeline.plan.flyer import Carry, Machine, begin, fly
from pipeline.plan.forecast import PIECE_SLOTS, SLOT_S, Policy, sampled
from pipeline.plan.greedy import POLL_S, Greedy, Limits, decide
from pipeline.plan.levels import levels
from pipeline.plan.scenario import Scenario
from pipeline.plan.table_rule import Grid, Parameters, TableRule
from pipeline.plan.table_rule import Row as TableRow
from pipeline.power import Ambient, Plant, fresh
from pipeline.power.plant import Scalar

Series = Float[np.ndarray, " time"]


class Row(NamedTuple):
    """What the policy needs of one moment, or of many."""

    table: TableRow
    limits: Limits  # of the simple rule, where one is in use
    simple_w: Scalar  # its power; 0: the table is in use


class Planner:
    """The optimal policy for one scenario.

    A grid is blind between its points: on 6 of 201 random satellites a simple rule does more than the table, by up to
    0.66 %. So each is flown ahead of time, from a satellite as it is launched, and the one that does most is used:
    over the whole of a plan that ends, so that it can never do less than a simple rule; else day by day. That depends
    on nothing but scenario and day: a forecast, a flight and a resumed flight choose alike.
    """

    def __init__(self, scenario: Scenario, end_s: float = math.inf, grid: Grid | None = None) -> None:
        """`end_s`: mission second after which nothing is worth anything.

        Raises:
            BadInput: the satellite would not live through a hold (`reserve.require_hold`).
        """
        self.scenario, self.end_s = scenario, end_s
        self.table = TableRule(scenario, end_s, grid or Grid())
        self.levels = self.table.levels
        self._simple = list(baselines(scenario).values())
        self._chosen: dict[int, Greedy | None] = {}
        self._choice(0)

    def poll(self, time_s: float, charge_wh: float, heat_j: float, on: bool, full_wh: float) -> float:
        """Power that the GPU may draw until the next poll, within `POLL_S` [W]; 0: off."""
        rule = self._choice(self.scenario.timeline.number(time_s)) or self.table
        return rule.poll(time_s, charge_wh, heat_j, on, full_wh)

    def piece(self, time_s: Series) -> tuple[Parameters, Row]:
        """Arrays and rows with which a forecast flies through evenly spaced moments."""
        number = time_s // DAY_S
        return self._piece(time_s, [(number == day, self._choice(int(day))) for day in np.unique(number)])

    @staticmethod
    def act(parameters: Parameters, row: Row, charge_wh: Scalar, heat_j: Scalar, on: Scalar, full_wh: Scalar) -> Scalar:
        """`poll`, for a scan."""
        table_w = TableRule.act(parameters, row.table, charge_wh, heat_j, on, full_wh)
        return row.simple_w * decide(charge_wh, heat_j, on, full_wh, row.limits) + table_w * (row.simple_w == 0.0)

    def _piece(self, time_s: Series, used: list[tuple[Any, Greedy | None]]) -> tuple[Parameters, Row]:
        """`used`: where along `time_s` which rule is in use, null for the table."""
        parameters, rows = self.table.piece(time_s)
        simple_w, limits = np.zeros(len(time_s)), Limits(*np.zeros((len(Limits._fields), len(time_s))))
        for here, rule in used:
            if rule:
                simple_w[here], kept = rule.piece(time_s[here])
                for column, values in zip(limits, kept, strict=True):
                    column[here] = values
        return parameters, Row(rows, limits, simple_w)

    def _choice(self, number: int) -> Greedy | None:
        """The simple rule in use on a day; None for the table."""
        ends = self.end_s < math.inf
        first = 0 if ends else number
        if first not in self._chosen:
            begin_s = first * DAY_S
            done = self._done(begin_s, self.end_s if ends else begin_s + DAY_S)
            self._chosen[first] = [None, *self._simple][int(np.argmax(done))]
        return self._chosen[first]

    def _done(self, begin_s: float, end_s: float) -> Float[np.ndarray, " rule"]:
        """Steps by `end_s` of the table, then of each simple rule.

        Where the plan goes on, a rule that leaves less charge or more heat than the table counts as 0.
        """
        scenario, plant, machine = self.scenario, self.scenario.plant, self.scenario.machine()
        table = begin(fresh(scenario.satellite))
        simple = jax.tree.map(lambda value: np.full(len(self._simple), value), table)
        with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
            for day_s in np.arange(begin_s, end_s, DAY_S):
                scenario.check()
                time_s = day_s + SLOT_S * np.arange(PIECE_SLOTS)
                sky = sampled(scenario, time_s + 0.5 * SLOT_S)
                parameters, rows = self._piece(time_s, [])
                table, trace = fly(plant, machine, self.act, parameters, table, sky, rows, SLOT_S)
                caps_w, limits = zip(*(rule.piece(time_s) for rule in self._simple), strict=True)
                limits = Limits(*(np.stack(each) for each in zip(*limits, strict=True)))
                simple, steps = _fly_simple(plant, machine, np.array(caps_w), limits, simple, sky)
        done = np.array([np.interp(end_s, time_s + SLOT_S, each) for each in (trace.steps, *np.asarray(steps))])
        if self.end_s == math.inf:
            left, other = jax.tree.map(np.asarray, (table.state, simple.state))
            done[1:] *= (other.charge_wh >= left.charge_wh) & (other.heat_j <= left.heat_j)
        return done


def policies(scenario: Scenario, end_s: float) -> dict[str, Policy]:
    """The optimal policy and the simple rules by name, for a mission that ends at `end_s`.

    Raises:
        BadInput: the satellite would not live through a hold (`reserve.require_hold`).
    """
    return {"dp": Planner(scenario, end_s), **baselines(scenario)}


def require_polls(scenario: Scenario, mission: Mission) -> None:
    """A rule can be asked as often as it must be, at the lowest power that it may choose. A real clock measures first.

    Raises:
        BadInput: one step takes longer than the rule may go unasked.
    """
    if mission.clock != "simulated":
        return
    lowest_w = levels(scenario).worthwhile.cap_w.item(0) if mission.policy == "optimal" else None
    if (longest_s := scenario.step_seconds(lowest_w)) > POLL_S:
        raise BadInput(
            f"mission.step_flops: {scenario.step_flops:g}: a step takes {longest_s:.0f} s, but charge must be looked "
            f"at every {POLL_S:.0f} s; lower it, or use a smaller batch"
        )


@jax.jit
def _fly_simple(
    plant: Plant,
    machine: Machine,
    caps_w: Float[Array, " rule"],
    limits: Limits,
    carries: Carry,
    sky: Ambient,
) -> tuple[Carry, Float[Array, "rule slot"]]:
    """The carry of each simple rule after the last slot, and its steps at the end of each slot."""

    def one(cap_w: Scalar, limits: Limits, carry: Carry) -> tuple[Carry, Any]:
        carry, trace = fly(plant, machine, Greedy.act, cap_w, carry, sky, limits, SLOT_S)
        return carry, trace.steps

    return jax.vmap(one)(caps_w, limits, carries)
