"""A forecast under errors: the certain one when nothing errs, wider when much does, and never below the floor."""

import numpy as np
import planned
import pytest

from pipeline.plan import Chances, Noise, Planner, forecast, outcomes
from pipeline.plan.montecarlo import _days

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


@pytest.mark.parametrize("limit", [{"steps": 500.0}, {"steps": 20000.0}, {"wh": 2500.0}])
def test_a_budget_ends_a_sample_where_the_forecast_says(limit: dict[str, float]) -> None:
    world = planned.named("starved")
    rule = Planner(world.scenario)
    ahead = forecast(world.scenario, rule, world.begun, **limit)
    drawn = outcomes(world.scenario, rule, world.begun, 0.0, 30.0 * DAY_S, 2, CERTAIN, **limit)
    assert drawn.spent.all()
    np.testing.assert_allclose(drawn.end_s, ahead.end_s, rtol=1e-9)
    for total in ("steps", "train_wh", "harvest_wh"):
        np.testing.assert_allclose(getattr(drawn, total), getattr(ahead, total), rtol=1e-9)


def test_a_sample_that_does_not_spend_its_budget_ends_at_the_horizon() -> None:
    world = planned.named("starved")
    horizon_s = 1.3 * DAY_S
    drawn = outcomes(world.scenario, Planner(world.scenario), world.begun, 0.0, horizon_s, 4, steps=1e9)
    assert not drawn.spent.any()
    assert np.all(drawn.end_s == horizon_s)
    assert 1.2 < drawn.steps.mean() / world.flown(Planner(world.scenario)).steps < 1.4


def test_weather_goes_on_over_midnight_and_outages_take_their_share() -> None:
    scenario = planned.named("starved").scenario
    chances = Chances(outage_every_s=20_000.0, outage_s=4_000.0)
    days = list(_days(scenario, chances, 32, 0.0, 10.0 * DAY_S, seed=3))
    sunlight, down = (np.concatenate([weather[part] for _, weather in days], axis=1) for part in (0, 1))
    np.testing.assert_array_equal(np.concatenate([begin_s for begin_s, _ in days]), 10.0 * np.arange(86400))
    assert np.abs(np.diff(sunlight, axis=1)).max() < 0.001  # no jump where a day ends
    # In service for 20,000 s on average, some outages falling into others: 1 - exp(-4,000 / 20,000).
    assert down.mean() == pytest.approx(0.18, abs=0.02)
    midnight = 8640 * np.arange(1, 10)
    before, after = down[:, midnight - 1], down[:, midnight]
    assert before.sum() > 10
    assert (before * after).sum() > 0.9 * before.sum()


def test_noise_is_bounded_and_has_its_extremes() -> None:
    drawn = Noise(solar=0.1).harvest(np.random.default_rng(0), 8, 50)
    assert drawn.min() == 0.9
    assert drawn.max() == 1.1
    assert np.all(drawn[0] == 0.9)
    assert np.all(drawn[1] == 1.1)
    assert np.all(np.ptp(drawn[:4], axis=1) == 0.0)
    assert np.all(np.ptp(drawn[4:], axis=1) > 0.1)


def test_a_harvest_that_is_always_a_tenth_less_breaks_no_limit_and_half_as_much_does() -> None:
    """Half is the control: what counts violations counts some."""
    world = planned.named("starved")
    rule = Planner(world.scenario)
    least, much = (
        outcomes(world.scenario, rule, world.begun, 0.0, DAY_S, 4, Noise(solar=solar)) for solar in (0.1, 0.5)
    )
    floor_wh = world.scenario.plant.floor_wh
    assert least.lowest_wh.min() >= floor_wh > much.lowest_wh.min()
    assert least.over_k.max() <= 0.0
    assert least.unserved_wh.max() == 0.0
