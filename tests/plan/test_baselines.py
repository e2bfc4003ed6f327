"""Simple rules are fair, and the optimal plan beats each of them wherever it is flown."""

import numpy as np
import planned
import pytest

from pipeline.config import BadInput
from pipeline.plan import Mode, Planner, bound, policies
from pipeline.plan.levels import levels

DAY_S = planned.DAY_S


def duel(world: planned.World, certified: bool = True) -> None:
    try:
        rules = policies(world.scenario, DAY_S)
    except BadInput:
        return  # the satellite cannot live in that orbit
    limit_steps = bound(world.scenario, world.begun, 0.0, DAY_S).upper_steps if certified else np.inf
    flights = {name: world.flown(rule) for name, rule in rules.items()}
    for name, flight in flights.items():
        assert flight.violations(world.scenario.plant) == (0, 0), name
        assert flight.steps <= limit_steps, name
        assert flights["dp"].steps >= flight.steps, name


@pytest.mark.parametrize("name", ["june", "starcloud-1"])
def test_the_plan_beats_the_baselines(name: str) -> None:
    duel(planned.named(name))


@pytest.mark.parametrize("seed", range(1))
def test_the_plan_beats_the_baselines_on_random_satellites(seed: int) -> None:
    duel(planned.random_world(seed))


@pytest.mark.parametrize(("seed", "days"), [(92, 1.0), (131, 1.0), (151, 1.0), (151, 2.0)])
def test_the_plan_does_no_less_where_a_simple_rule_beats_its_table(seed: int, days: float) -> None:
    world = planned.random_world(seed)
    rules = policies(world.scenario, days * DAY_S)
    steps = {name: world.flown(rule, days * DAY_S).steps for name, rule in rules.items()}
    planner = rules["dp"]
    assert isinstance(planner, Planner)
    assert steps.pop("dp") >= max(steps.values()) > world.flown(planner.table, days * DAY_S).steps


def test_without_an_end_a_simple_rule_is_used_where_it_also_leaves_no_less_charge() -> None:
    world = planned.random_world(151)
    planner = Planner(world.scenario)
    used, table = world.flown(planner), world.flown(planner.table)
    assert used.steps > table.steps
    assert used.trace.charge_wh[-1] >= table.trace.charge_wh[-1]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(201))
def test_the_plan_beats_the_baselines_on_many_random_satellites(seed: int) -> None:
    duel(planned.random_world(seed), certified=seed <= 40)  # the certificate takes most of the time


def test_each_baseline_does_what_its_name_says() -> None:
    world = planned.named("starved")
    rules, on = policies(world.scenario, DAY_S), levels(world.scenario)
    powers = {name: set(world.flown(rule).trace.cap_w) - {0.0} for name, rule in rules.items() if name != "dp"}
    assert powers["full_power"] == {on.cap_w[-1]}
    assert powers["efficient_point"] == {on.cap_w[np.argmax(on.steps_per_s / on.payload_w)]}
    assert len(powers["constant"]) == len(powers["sunlight_only"]) == 1
    dark = world.scenario.timeline.day(0).illumination[:-1] < 1.0
    sunlit = world.flown(rules["sunlight_only"]).trace.mode
    assert not np.any((sunlit == Mode.TRAIN) & dark[: len(sunlit)])
