"""A forecast under errors: the certain one when nothing errs, wider when much does, and never below the floor."""

import numpy as np
import planned
import pytest

from pipeline.plan import Chances, Planner, outcomes

DAY_S = planned.DAY_S
CERTAIN = Chances(solar=0.0, array=0.0, outage_every_s=1e12)


def test_without_errors_every_sample_is_the_forecast() -> None:
    world = planned.named("starved")
    rule = Planner(world.scenario)
    drawn = outcomes(world.scenario, rule, world.begun, 0.0, DAY_S, samples=3, chances=CERTAIN)
    flight = world.flown(rule)
    np.testing.assert_allclose(drawn.steps, flight.steps, rtol=1e-9)
    np.testing.assert_allclose(drawn.train_wh, flight.train_wh, rtol=1e-9)
    np.testing.assert_allclose(drawn.harvest_wh, flight.harvest_wh, rtol=1e-9)


def test_the_same_seed_draws_the_same_and_another_does_not() -> None:
    world = planned.named("starved")
    rule = Planner(world.scenario)
    first, again, other = (outcomes(world.scenario, rule, world.begun, 0.0, DAY_S, 8, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.steps, again.steps)
    assert np.all(first.steps != other.steps)


@pytest.mark.parametrize("name", ["starved", "december"])
def test_the_floor_holds_under_errors(name: str) -> None:
    world = planned.named(name)
    drawn = outcomes(world.scenario, Planner(world.scenario), world.begun, 0.0, DAY_S, 64)
    assert drawn.lowest_wh.min() >= world.scenario.plant.floor_wh


def test_errors_widen_the_spread_and_outages_cost_steps() -> None:
    world = planned.named("starved")
    rule = Planner(world.scenario)

    def steps(**chances: float) -> np.ndarray:
        some = Chances(**{"solar": 0.0, "array": 0.0, "outage_every_s": 1e12, **chances})
        return outcomes(world.scenario, rule, world.begun, 0.0, DAY_S, 32, some).steps

    assert np.std(steps(array=0.05)) > 2.0 * np.std(steps(array=0.02)) > 0.0
    assert np.std(steps(solar=0.05)) > 0.0
    assert steps(outage_every_s=7200.0, outage_s=3600.0).mean() < 0.9 * steps().mean()


def test_a_plan_made_with_five_percent_of_solar_error_loses_at_most_half_a_point() -> None:
    world = planned.named("starved")
    drawn = outcomes(
        world.scenario, Planner(world.scenario), world.begun, 0.0, DAY_S, 64, Chances(0.05, 0.0, outage_every_s=1e12)
    )
    certain, day_h = world.flown(Planner(world.scenario)), 24.0
    # What the drawn skies bring less is not the plan's loss; only what it does not make of the rest.
    ratio = 1.0 + (drawn.harvest_wh.mean() - certain.harvest_wh) / (
        certain.harvest_wh - world.scenario.plant.bus_w * day_h
    )
    assert drawn.steps.mean() >= 0.995 * ratio * certain.steps
