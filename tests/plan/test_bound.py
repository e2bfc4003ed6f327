"""The bound is above everything that flies, and not far above."""

from dataclasses import replace
from typing import Any

import numpy as np
import planned
import pytest
import shipped
from scipy import optimize

from pipeline.config import RunFailed
from pipeline.config.mission import Gpu
from pipeline.plan import bound, policies
from pipeline.plan.bound import _above, _below, _emitted_w
from pipeline.plan.levels import hull

DAY_S = planned.DAY_S


@pytest.mark.parametrize("name", ["starved", "heat-limited"])
def test_no_policy_passes_the_bound(name: str) -> None:
    world = planned.named(name)
    limit = bound(world.scenario, world.begun, 0.0, DAY_S)
    for rule in policies(world.scenario, DAY_S).values():
        assert world.flown(rule).steps <= limit.upper_steps


@pytest.mark.parametrize(("name", "hold_w"), [("starved", 60.0), ("heat-limited", 120.0)])
def test_what_is_drawn_in_a_hold_is_planned_with(name: str, hold_w: float) -> None:
    world = planned.named(name)
    held = shipped.changed(world.satellite, loads={"hold_w": hold_w})
    holding = planned.world(shipped.orbit("starcloud-1"), held)
    limit = bound(holding.scenario, holding.begun, 0.0, DAY_S)
    flights = {rule: holding.flown(made) for rule, made in policies(holding.scenario, DAY_S).items()}
    assert limit.upper_steps > limit.feasible_steps > 0.0
    for flight in flights.values():
        assert flight.steps <= limit.upper_steps
        assert flight.violations(holding.scenario.plant) == (0, 0)
    assert flights["dp"].steps >= 0.9 * limit.upper_steps
    assert flights["dp"].steps > 1.01 * holding.flown(policies(world.scenario, DAY_S)["dp"]).steps
    assert flights["full_power"].steps < 0.95 * world.flown(policies(world.scenario, DAY_S)["full_power"]).steps


@pytest.mark.parametrize(("name", "width"), [("starved", 0.001), ("december", 0.001), ("heat-limited", 0.02)])
def test_the_sandwich_is_narrow(name: str, width: float) -> None:
    world = planned.named(name)
    limit = bound(world.scenario, world.begun, 0.0, DAY_S)
    assert limit.feasible_steps <= limit.upper_steps <= limit.feasible_steps / (1.0 - width)


def test_longer_slots_never_lower_the_bound_by_more_than_rounding() -> None:
    world = planned.named("starved")
    short, long = (bound(world.scenario, world.begun, 0.0, DAY_S, slot_s).upper_steps for slot_s in (60.0, 300.0))
    assert long >= short * (1.0 - 1e-4)


def test_with_energy_and_cold_to_spare_the_bound_is_full_power_all_day() -> None:
    lavish = shipped.changed(
        shipped.satellite("rich"), array={"area_m2": 50.0}, battery={"capacity_wh": 20000.0}, radiator={"area_m2": 20.0}
    )
    world = planned.world(shipped.orbit("starcloud-1"), lavish)
    limit = bound(world.scenario, world.begun, 0.0, DAY_S)
    assert limit.upper_steps == pytest.approx(DAY_S / world.scenario.step_seconds(), rel=1e-4)


def test_what_a_full_battery_cannot_take_is_not_in_the_bound() -> None:
    """It serves a few minutes of full power; for most of each shadow the GPU must be off."""
    tiny = shipped.changed(
        shipped.satellite("rich"),
        array={"area_m2": 10.0},
        battery={"capacity_wh": 200.0, "charge_c_rate": 2.0, "discharge_c_rate": 4.0},
        radiator={"area_m2": 20.0},
    )
    world = planned.world(shipped.orbit("starcloud-1"), tiny)
    limit = bound(world.scenario, world.begun, 0.0, DAY_S)
    full = DAY_S / world.scenario.step_seconds()
    sunlit = world.scenario.timeline.span(0.0, DAY_S).sunlit_fraction
    assert sunlit * full < limit.upper_steps < (sunlit + 0.05) * full


def test_where_the_time_beside_the_arithmetic_rules_the_bound_still_holds_and_is_near() -> None:
    world = planned.world(shipped.orbit("starcloud-1"), shipped.satellite("rich"))
    tiny = planned.World(world.satellite, replace(world.scenario, step_flops=1e9))
    limit = bound(tiny.scenario, tiny.begun, 0.0, DAY_S)
    best = max(tiny.flown(rule).steps for rule in policies(tiny.scenario, DAY_S).values())
    assert 0.9 * limit.upper_steps <= best <= limit.upper_steps


def test_a_state_from_which_the_floor_cannot_hold_is_refused() -> None:
    world = planned.named("starved")
    low = world.begun._replace(charge_wh=world.scenario.plant.floor_wh - 50.0)
    with pytest.raises(RunFailed, match="floor"):
        bound(world.scenario, low, 0.0, DAY_S)


@pytest.mark.parametrize(
    ("satellite", "gpu", "flops"),
    [
        ("rich", shipped.gpu("h200-measured"), 1e11),
        ("starved", shipped.gpu("h100-sxm-measured"), 1e13),
        ("rich", Gpu(curve=[[1.0, 663.2]], idle_w=50.0), 1e15),
    ],
)
def test_the_bound_is_found_however_many_steps_a_second_holds(satellite: str, gpu: Gpu, flops: float) -> None:
    world = planned.world(shipped.orbit("starcloud-1"), shipped.satellite(satellite), gpu, restart_s=60.0)
    limit = bound(replace(world.scenario, step_flops=flops), world.begun, 0.0, DAY_S)
    assert 0.99 * limit.upper_steps <= limit.feasible_steps <= limit.upper_steps


@pytest.mark.parametrize("again", [True, False])
def test_where_the_solver_fails_it_tries_another_way_and_then_says_so(
    monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    """Only where no plan exists is the floor to blame."""
    world, solved = planned.named("starved"), optimize.linprog
    limit = bound(world.scenario, world.begun, 0.0, 3600.0)

    def lost(*programme: Any, method: str, **more: Any) -> Any:
        if again and method == "highs-ipm":
            return solved(*programme, method=method, **more)
        return optimize.OptimizeResult(status=4, success=False, message="numerical difficulties", fun=None)

    monkeypatch.setattr(optimize, "linprog", lost)
    if again:
        assert bound(world.scenario, world.begun, 0.0, 3600.0).upper_steps == pytest.approx(limit.upper_steps, rel=1e-6)
    else:
        with pytest.raises(RunFailed, match="solver") as caught:
            bound(world.scenario, world.begun, 0.0, 3600.0)
        assert "floor" not in str(caught.value)
        assert "\n" not in str(caught.value)


def test_the_lines_stand_on_their_sides_of_the_emitted_heat() -> None:
    scenario = planned.named("heat-limited").scenario
    low_j, top_j = -5e5, 7e5
    heat_j = np.linspace(low_j, top_j, 999)
    emitted_w = _emitted_w(scenario, heat_j)
    for intercept, slope in _above(scenario, low_j, top_j):
        assert np.all(intercept + slope * heat_j >= emitted_w - 1e-6)
    intercept, slope = _below(scenario, low_j, top_j)
    assert np.all(intercept + slope * heat_j <= emitted_w + 1e-6)


def test_the_hull_is_concave_and_covers_its_points() -> None:
    points = np.array([[0.0, 0.0], [1.0, 0.2], [2.0, 2.0], [3.0, 1.5], [4.0, 2.1]])
    corners = hull(points)
    assert np.all(np.interp(points[:, 0], *corners.T) >= points[:, 1])
    assert np.all(np.diff(np.diff(corners[:, 1]) / np.diff(corners[:, 0])) < 0.0)
