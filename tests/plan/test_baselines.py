"""Simple rules are fair, and the optimal plan beats each of them wherever it is flown."""

import numpy as np
import planned
import pytest

from pipeline.config import BadInput
from pipeline.plan import Mode, bound, policies
from pipeline.plan.levels import levels

DAY_S = planned.DAY_S


def duel(world: planned.World) -> None:
    try:
        rules = policies(world.scenario, DAY_S)
    except BadInput:
        return  # the satellite cannot live in that orbit
    limit = bound(world.scenario, world.begun, 0.0, DAY_S)
    flights = {name: world.flown(rule) for name, rule in rules.items()}
    for name, flight in flights.items():
        assert world.violations(flight) == (0, 0), name
        assert flight.steps <= limit.upper_steps, name
        assert flights["dp"].steps >= flight.steps, name


@pytest.mark.parametrize("name", ["june", "starcloud-1"])
def test_the_plan_beats_the_baselines(name: str) -> None:
    duel(planned.named(name))


@pytest.mark.parametrize("seed", range(1))
def test_the_plan_beats_the_baselines_on_random_satellites(seed: int) -> None:
    duel(planned.random_world(seed))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 41))
def test_the_plan_beats_the_baselines_on_many_random_satellites(seed: int) -> None:
    duel(planned.random_world(seed))


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
