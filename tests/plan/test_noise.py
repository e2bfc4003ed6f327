"""A month of a harvest that is not the planned one breaks no limit, and leaves no watt unserved."""

import numpy as np
import planned
import pytest
import shipped
from test_greedy import Careless

from pipeline.plan import Noise, Policy, outcomes, policies

DAY_S = planned.DAY_S
SAMPLES = 16


def broken(world: planned.World, rule: Policy, days: float) -> tuple[int, int, int]:
    """Of the skies flown: how many cross the floor, pass a limit of temperature, and leave a load unserved."""
    drawn = outcomes(world.scenario, rule, world.begun, 0.0, days * DAY_S, SAMPLES, Noise(), seed=7)
    floor_wh = world.scenario.plant.floor_wh
    counts = (drawn.lowest_wh < floor_wh, drawn.over_k > 0.0, drawn.unserved_wh > 0.0)
    return tuple(int(np.sum(each)) for each in counts)  # type: ignore[return-value]


@pytest.mark.parametrize("satellite", ["starved", "starcloud-1"])
def test_a_day_of_a_harvest_within_ten_percent_breaks_no_limit(satellite: str) -> None:
    world = planned.world(shipped.orbit("sso-ltan-1030"), shipped.satellite(satellite))
    rules = policies(world.scenario, np.inf)
    for name in ("dp", "full_power"):
        assert broken(world, rules[name], 1.0) == (0, 0, 0), name


@pytest.mark.slow
@pytest.mark.parametrize("satellite", shipped.SATELLITES)
@pytest.mark.parametrize("orbit", shipped.ORBITS)
def test_thirty_days_of_a_harvest_within_ten_percent_break_no_limit(orbit: str, satellite: str) -> None:
    world = planned.world(shipped.orbit(orbit), shipped.satellite(satellite))
    rules = policies(world.scenario, np.inf)
    for name in ("dp", "full_power"):
        assert broken(world, rules[name], 30.0) == (0, 0, 0), name


def test_a_rule_without_reserve_crosses_the_floor_and_a_deep_one_browns_out() -> None:
    """The control: each count can rise."""
    world = planned.world(shipped.orbit("sso-ltan-1030"), shipped.satellite("starved"))
    floor, _, _ = broken(world, Careless(world.scenario), 1.0)
    assert floor == SAMPLES
    # As if there were no floor and no limit: it trains until the cells are empty and the plate melts.
    reckless = Careless(world.scenario)
    reckless.row = (0.0, np.inf, reckless.row[2])
    _, _, unserved = broken(world, reckless, 1.0)
    assert unserved == SAMPLES
    hot = planned.world(shipped.orbit("sso-ltan-1030"), shipped.satellite("heat-limited"))
    reckless.row = (0.0, np.inf, hot.scenario.curve.full_w)
    _, over, _ = broken(hot, reckless, 1.0)
    assert over == SAMPLES
