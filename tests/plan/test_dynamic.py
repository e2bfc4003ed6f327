"""The optimal plan comes within a percent or three of what no plan can pass, and is always safe."""

import time

import numpy as np
import planned
import pytest
import shipped

from pipeline.config import BadInput
from pipeline.config.mission import Gpu, Mission
from pipeline.plan import Mode, Planner, bound, forecast, scenario, table_rule
from pipeline.plan.baselines import baselines
from pipeline.plan.dynamic import heat_axis
from pipeline.plan.forecast import SLOT_S
from pipeline.plan.table_rule import Grid, TableRule, _cell

DAY_S = planned.DAY_S


@pytest.mark.parametrize(
    ("name", "goal"), [("starved", 97.0), ("rich", 99.0), ("june", 97.5), ("december", 99.0), ("starcloud-1", 97.0)]
)
def test_percent_of_the_certified_bound(name: str, goal: float) -> None:
    world = planned.named(name)
    flight = world.flown(Planner(world.scenario, DAY_S))
    assert 100.0 * flight.steps / bound(world.scenario, world.begun, 0.0, DAY_S).upper_steps >= goal
    assert flight.violations(world.scenario.plant) == (0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["heat-limited", "starcloud-1"])
def test_a_finer_grid_wins_little_where_heat_decides(name: str) -> None:
    world = planned.named(name)
    coarse = world.flown(Planner(world.scenario, DAY_S))
    fine = world.flown(Planner(world.scenario, DAY_S, Grid(slot_s=20.0, charges=64, heat_pitch_k=0.25)))
    assert coarse.steps >= 0.97 * fine.steps
    assert coarse.violations(world.scenario.plant) == fine.violations(world.scenario.plant) == (0, 0)


# The second is limited by heat, and nothing in it melts: its temperature tells its heat. The third uses a simple rule.
@pytest.mark.parametrize("world", [planned.named("starved"), planned.random_world(52), planned.random_world(151)])
def test_flight_polls_what_the_forecast_flies(world: planned.World) -> None:
    rule = Planner(world.scenario)
    trace, plant = world.flown(rule).trace, world.scenario.plant
    heat_j, full_wh = plant.heat_at(trace.plate_c), plant.full_wh(trace)
    for slot in range(1, len(trace.mode), 37):
        last, on = slot - 1, trace.mode[slot - 1] > Mode.OFF
        assert rule.poll(SLOT_S * slot, trace.charge_wh[last], heat_j[last], on, full_wh[last]) == trace.cap_w[slot]


def test_a_plate_that_is_too_hot_even_in_a_hold_is_refused() -> None:
    """Its heat had an axis of negative length: a math domain error."""
    satellite = shipped.satellite("heat-limited")
    satellite = satellite.model_copy(update={"radiator": satellite.radiator.model_copy(update={"area_m2": 0.25})})
    hot, mission = shipped.orbit("starcloud-1"), Mission(clock="real")
    with pytest.raises(BadInput, match=r"^satellite\.radiator\.area_m2: 0\.25: in a hold the plate rests at \d+ C"):
        TableRule(scenario(hot, satellite, Gpu(), mission, planned.STEP_FLOPS))


def test_a_battery_that_lasts_for_weeks_is_not_looked_through_to_its_end() -> None:
    satellite = shipped.satellite("starcloud-1")
    battery = satellite.battery.model_copy(update={"capacity_wh": 200_000.0})
    world = planned.world(shipped.orbit("starcloud-1"), satellite.model_copy(update={"battery": battery}))
    assert TableRule(world.scenario)._memory_s() == table_rule.MOST_AHEAD_S


@pytest.mark.parametrize("curve", [[[1.0, 350.1]], [[0.8, 290.7], [1.0, 410.3]]])
def test_powers_that_half_precision_does_not_hold_stay_on_the_curve(curve: list[list[float]]) -> None:
    """Below its lowest point the GPU draws power and does nothing. Flight and forecast read alike there too."""
    gpu = Gpu(curve=curve, idle_w=50.0)
    world = planned.world(shipped.orbit("starcloud-1"), shipped.satellite("starved"), gpu, restart_s=60.0)
    rule, plant = TableRule(world.scenario), world.scenario.plant
    trace = world.flown(rule).trace
    caps_w = trace.cap_w[trace.cap_w > 0.0]
    assert trace.steps[-1] > 0.0
    assert np.all((caps_w >= curve[0][1]) & (caps_w <= curve[-1][1]))
    heat_j, full_wh = plant.heat_at(trace.plate_c), plant.full_wh(trace)
    for slot in range(1, len(trace.mode), 37):
        last, on = slot - 1, trace.mode[slot - 1] > Mode.OFF
        assert rule.poll(SLOT_S * slot, trace.charge_wh[last], heat_j[last], on, full_wh[last]) == trace.cap_w[slot]


def test_a_faded_battery_does_nearly_as_much_as_a_new_one() -> None:
    """Its rule and its forecast read the table alike, by what the battery still holds."""
    shallow = shipped.changed(
        shipped.satellite("starved"), battery={"depth_of_discharge": 0.1, "discharge_c_rate": 1.2}
    )
    world = planned.world(shipped.orbit("starcloud-1"), shallow, restart_s=60.0)
    scenario, rule = world.scenario, TableRule(world.scenario)
    old = world.begun._replace(discharge_wh=0.02 * 700.0 / shallow.battery.fade_per_cycle, charge_wh=686.0)
    new, faded = (forecast(scenario, rule, state, horizon_s=DAY_S) for state in (world.begun, old))
    assert faded.steps > 0.95 * new.steps
    assert faded.trace.charge_wh.min() >= scenario.plant.floor_wh
    trace, heat_j = faded.trace, scenario.plant.heat_at(faded.trace.plate_c)
    full_wh = scenario.plant.full_wh(trace)
    for slot in range(1, len(trace.mode), 37):
        last, on = slot - 1, trace.mode[slot - 1] > Mode.OFF
        assert rule.poll(SLOT_S * slot, trace.charge_wh[last], heat_j[last], on, full_wh[last]) == trace.cap_w[slot]


def test_a_plan_crosses_midnight() -> None:
    world = planned.named("starved")
    rule = Planner(world.scenario, 2.0 * DAY_S)
    flight = world.flown(rule, 2.0 * DAY_S)
    assert flight.violations(world.scenario.plant) == (0, 0)
    assert flight.steps > 1.9 * world.flown(Planner(world.scenario, DAY_S)).steps


def test_a_poll_and_a_forecast_plan_the_same_day() -> None:
    world = planned.named("december")
    flight, ahead = TableRule(world.scenario), TableRule(world.scenario)
    flight.poll(DAY_S, 650.0, 0.0, False, 700.0)
    world.flown(ahead, 2.0 * DAY_S)
    for polled, flown in zip(flight._day(1).parameters.table, ahead._day(1).parameters.table, strict=True):
        np.testing.assert_array_equal(polled, flown)


def test_planned_days_are_kept_within_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    world = planned.named("starved")
    rule = TableRule(world.scenario)
    days = [rule._day(number) for number in range(3)]
    assert all(rule._day(number) is day for number, day in enumerate(days))
    monkeypatch.setattr(table_rule, "KEPT_BYTES", 2.5e6)  # a day takes 1 MB
    rule._day(3)
    assert list(rule._days) == [2, 3]


def test_a_large_battery_is_planned_for_as_long_as_it_remembers() -> None:
    """With 6 hours in view its charge was worth less than it was, and the rule lost 1.9 % to the efficient point."""
    large = shipped.changed(shipped.satellite("starved"), battery={"capacity_wh": 20_000.0})
    world = planned.world(shipped.orbit("starcloud-1"), large, shipped.gpu("h100-pcie"), restart_s=60.0)
    week = world.flown(TableRule(world.scenario), 7.0 * DAY_S)
    simple = world.flown(baselines(world.scenario)["efficient_point"], 7.0 * DAY_S)
    assert week.steps >= 0.99 * simple.steps
    assert week.violations(world.scenario.plant) == (0, 0)


def test_nothing_is_kept_for_after_the_end() -> None:
    world = planned.named("starved")
    ended, endless = world.flown(Planner(world.scenario, DAY_S)), world.flown(Planner(world.scenario))
    assert ended.steps > endless.steps
    assert ended.trace.charge_wh[-1] < endless.trace.charge_wh[-1]


def test_a_battery_that_cannot_give_the_power_in_shadow_is_not_asked_for_it() -> None:
    small = shipped.changed(shipped.satellite("rich"), battery={"discharge_c_rate": 0.5})
    world = planned.world(shipped.orbit("starcloud-1"), small)
    flight = world.flown(Planner(world.scenario, DAY_S))
    light, plant = world.scenario.timeline.day(0).illumination, world.scenario.plant
    training_in_umbra = (flight.trace.mode == Mode.TRAIN) & (light[:-1] + light[1:] == 0.0)
    assert np.any(training_in_umbra)
    drawn_w = (flight.trace.cap_w + world.scenario.host_w) / plant.regulator_efficiency + plant.bus_w
    assert np.all(drawn_w[training_in_umbra] <= plant.discharge_max_w)


def test_the_table_is_read_at_its_own_points_of_charge() -> None:
    world = planned.named("starved")
    rule = TableRule(world.scenario)
    parameters, reserve_wh, _ = rule._day(0)
    least_wh, full_wh = float(reserve_wh[0]), world.scenario.plant.capacity_wh
    points = np.arange(rule.charges)
    cell = _cell(parameters, least_wh, np.linspace(least_wh, full_wh, rule.charges), np.array(0.0), full_wh)
    np.testing.assert_allclose(cell.corner // cell.heats + cell.charge_share, points, atol=1e-9)


def test_the_heat_axis_finds_its_own_points() -> None:
    axis = heat_axis(3e5, -2e5, 2e4)
    np.testing.assert_allclose(axis.place(axis.points_j), np.arange(len(axis.points_j)), atol=1e-9)
    assert axis.points_j[-1] <= -2e5


def test_much_latent_heat_in_a_light_plate_makes_the_axis_coarser_not_longer() -> None:
    light = shipped.changed(shipped.satellite("heat-limited"), radiator={"latent_j": 2e6, "heat_capacity_j_k": 4000.0})
    world = planned.world(shipped.orbit("starcloud-1"), light)
    rule = TableRule(world.scenario)
    axis, plant = rule._heat, world.scenario.plant
    assert len(axis.points_j) < 310
    assert axis.points_j[-1] <= -15.0 * plant.radiator_j_k
    flight = world.flown(rule)
    assert flight.violations(world.scenario.plant) == (0, 0)
    assert flight.steps >= max(world.flown(simple).steps for simple in baselines(world.scenario).values())


def test_a_poll_is_quick_and_a_day_is_planned_within_a_second() -> None:
    world = planned.named("starved")
    rule = Planner(world.scenario)
    tails = []
    for _ in range(5):
        taken = []
        for slot in range(1000):
            begun = time.perf_counter()
            rule.poll(80.0 * slot, 650.0, 0.0, False, 700.0)
            taken.append(time.perf_counter() - begun)
        tails.append(np.percentile(taken, 99))
    assert min(tails) < 50e-6
    begun = time.perf_counter()
    Planner(world.scenario)
    assert time.perf_counter() - begun < 1.0
