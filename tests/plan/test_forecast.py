"""The forecast is the flight, flown ahead of time: it ends where it must and counts what was done."""

import time

import numpy as np
import pytest
import shipped

from pipeline.config.errors import BadInput
from pipeline.config.mission import Mission
from pipeline.plan import Greedy, Mode, Payload, Planner, Scenario, StopKind, forecast, scenario, stops
from pipeline.plan.forecast import APART_S, NEAR_S, PIECE_SLOTS, SHORT_SLOTS, SLOT_S
from pipeline.power import Simulator, fresh

DAY_S = 86400.0
STARVED = shipped.satellite("starved")


@pytest.fixture(scope="module")
def world() -> Scenario:
    return scenario(shipped.orbit("starcloud-1"), STARVED, shipped.gpu("h100-pcie"), Mission(), 2e15)


@pytest.fixture(scope="module")
def rule(world: Scenario) -> Greedy:
    return Greedy(world)


@pytest.mark.parametrize("start_s", [0.0, 40_000.0, -DAY_S])
def test_the_forecast_is_the_flight_polled_every_slot(world: Scenario, rule: Greedy, start_s: float) -> None:
    ahead = forecast(world, rule, fresh(STARVED), start_s, horizon_s=DAY_S)
    craft, state, mode, restarting_s = Simulator(STARVED, world.timeline), fresh(STARVED), Mode.OFF, 0.0
    charge_wh, plate_c, modes, train_s, restarts = [], [], [], 0.0, 0
    for now_s in start_s + SLOT_S * np.arange(8640):
        full_wh = world.plant.full_wh(state)
        cap_w = rule.poll(now_s, state.charge_wh, state.heat_j, mode != Mode.OFF, full_wh)
        if cap_w > 0.0 and mode == Mode.OFF:
            restarting_s, restarts = world.restart_s, restarts + 1
        mode = Mode.OFF if cap_w == 0.0 else Mode.RESTART if restarting_s > 0.0 else Mode.TRAIN
        state = craft.advance(state, world.command(mode, cap_w), float(now_s), SLOT_S)
        restarting_s = max(restarting_s - SLOT_S, 0.0)
        train_s += SLOT_S * (mode == Mode.TRAIN)
        charge_wh.append(state.charge_wh)
        plate_c.append(float(world.plant.plate_c(state.heat_j)))
        modes.append(int(mode))
    np.testing.assert_array_equal(ahead.trace.mode, modes)
    np.testing.assert_allclose(ahead.trace.charge_wh, charge_wh, rtol=1e-9)
    np.testing.assert_allclose(ahead.trace.plate_c, plate_c, rtol=1e-9)
    assert ahead.train_s == pytest.approx(train_s)
    assert ahead.restarts == restarts > 3
    assert 0.0 <= train_s / world.step_seconds() - ahead.steps <= restarts + 1  # at each stop, one is cut short
    assert ahead.train_wh == pytest.approx(420.0 / 0.93 * train_s / 3600.0)
    assert ahead.harvest_wh == pytest.approx(state.harvest_wh, rel=1e-9)


@pytest.mark.parametrize("start_s", [0.0, 40_000.0])
@pytest.mark.parametrize("policy", [Greedy, Planner])
def test_a_short_forecast_in_floats_is_the_compiled_one(
    world: Scenario, policy: type[Greedy] | type[Planner], start_s: float
) -> None:
    rule, payload, horizon_s = policy(world), Payload(True, 25.0, 60.0, 0.5), SLOT_S * SHORT_SLOTS
    short = forecast(world, rule, fresh(STARVED), start_s, payload, horizon_s=horizon_s)
    longer = forecast(world, rule, fresh(STARVED), start_s, payload, horizon_s=horizon_s + SLOT_S)
    for name, here, there in zip(short.trace._fields, short.trace, longer.trace, strict=True):
        np.testing.assert_allclose(here, there[:SHORT_SLOTS], rtol=1e-9, atol=1e-9, err_msg=name)
    np.testing.assert_array_equal(short.trace.mode, longer.trace.mode[:SHORT_SLOTS])
    np.testing.assert_array_equal(short.trace.steps, longer.trace.steps[:SHORT_SLOTS])
    assert short.restarts > 1


@pytest.mark.parametrize("steps", [0.5, 1000.0, 5000.0])
def test_steps_end_it_where_the_last_one_is_taken(world: Scenario, rule: Greedy, steps: float) -> None:
    ahead = forecast(world, rule, fresh(STARVED), steps=steps)
    assert (ahead.ended_by, ahead.steps) == ("steps", pytest.approx(steps, rel=1e-9))
    assert ahead.time_s[-1] - SLOT_S < ahead.end_s <= ahead.time_s[-1]


def test_watt_hours_end_it_where_they_are_spent(world: Scenario, rule: Greedy) -> None:
    ahead = forecast(world, rule, fresh(STARVED), wh=700.0)
    assert (ahead.ended_by, ahead.train_wh) == ("wh", pytest.approx(700.0, rel=1e-9))


def test_the_horizon_ends_what_nothing_else_does(world: Scenario, rule: Greedy) -> None:
    ahead = forecast(world, rule, fresh(STARVED), start_s=5000.0, horizon_s=1.5 * DAY_S)
    assert (ahead.ended_by, ahead.end_s) == ("horizon", 5000.0 + 1.5 * DAY_S)
    assert len(ahead.time_s) == 1.5 * 8640


def test_the_first_limit_reached_ends_it(world: Scenario, rule: Greedy) -> None:
    ahead = forecast(world, rule, fresh(STARVED), steps=500.0, wh=1e5)
    assert ahead.ended_by == "steps"
    assert forecast(world, rule, fresh(STARVED), steps=1e9, wh=1.0).ended_by == "wh"


@pytest.mark.parametrize("limits", [{"steps": 0.0}, {"wh": 0.0}, {"wh": -3.0}, {"horizon_s": 0.0}])
def test_what_is_spent_already_ends_it_at_once(world: Scenario, rule: Greedy, limits: dict[str, float]) -> None:
    ahead = forecast(world, rule, fresh(STARVED), **limits)
    assert (ahead.steps, ahead.train_wh, ahead.end_s, ahead.restarts) == (0.0, 0.0, 0.0, 0)


def test_a_restart_is_paid_in_time_and_energy(rule: Greedy, world: Scenario) -> None:
    ahead = forecast(world, rule, fresh(STARVED), horizon_s=600.0)
    assert ahead.restarts == 1
    assert ahead.train_s == pytest.approx(600.0 - world.restart_s)
    assert list(ahead.trace.mode[:7]) == [Mode.RESTART] * 6 + [Mode.TRAIN]
    running = forecast(world, rule, fresh(STARVED), payload=Payload(True), horizon_s=600.0)
    assert (running.restarts, running.train_s) == (0, 600.0)
    again = forecast(world, rule, fresh(STARVED), payload=Payload(True, world.restart_s), horizon_s=600.0)
    assert (again.restarts, again.train_s) == (0, 600.0 - world.restart_s)


def test_a_longer_restart_buys_fewer_steps(world: Scenario) -> None:
    steps = []
    for restart_s in (0.0, 95.0, 300.0):
        slow = scenario(
            shipped.orbit("starcloud-1"), STARVED, shipped.gpu("h100-pcie"), Mission(restart_s=restart_s), 2e15
        )
        steps.append(forecast(slow, Greedy(slow), fresh(STARVED), horizon_s=DAY_S).steps)
    assert steps[0] > steps[1] > steps[2] > 0.5 * steps[0]


def test_stops_lie_inside_the_forecast(world: Scenario, rule: Greedy) -> None:
    ahead = forecast(world, rule, fresh(STARVED), horizon_s=5.0 * world.timeline.track.period_s)
    assert all(0.0 <= moment <= ahead.end_s for moment in ahead.stops_s)
    assert abs(len(ahead.stops_s) - ahead.restarts) <= 1


HOT_JUNCTION = {"array": {"area_m2": 6.0}, "battery": {"capacity_wh": 5000.0}, "radiator": {"junction_k_w": 0.15}}


def test_stops_at_the_limit_of_the_junction_are_of_heat() -> None:
    """At 350 W the plate may have 47.5 °C, which is 12.5 K below its own limit; charge there is enough of."""
    satellite = shipped.changed(shipped.satellite("starcloud-1"), **HOT_JUNCTION)
    hot = scenario(shipped.orbit("starcloud-1"), satellite, shipped.gpu("h100-pcie"), Mission(), 1e15)
    kinds = [stop.kind for stop in stops(hot, forecast(hot, Greedy(hot), fresh(satellite), horizon_s=0.4 * DAY_S))]
    assert len(kinds) > 5
    assert set(kinds) == {StopKind.HOT}


def test_a_far_day_stands_for_its_neighbours(world: Scenario, rule: Greedy) -> None:
    start_s, horizon_s = 5000.0, NEAR_S + 2.5 * APART_S
    every, some = (forecast(world, rule, fresh(STARVED), start_s, horizon_s=horizon_s, sparse=far) for far in (0, 1))
    near = round(NEAR_S / SLOT_S)
    assert len(some.time_s) == near + 3 * PIECE_SLOTS < len(every.time_s)
    for column, other in zip(every.trace, some.trace, strict=True):
        np.testing.assert_array_equal(column[:near], other[:near])
    assert some.end_s == every.end_s == some.time_s[-1] == start_s + horizon_s
    assert np.all(np.diff(some.time_s) > 0.0)
    for name in ("steps", "train_s", "train_wh", "harvest_wh"):
        assert getattr(some, name) == pytest.approx(getattr(every, name), rel=0.01)
    assert some.trace.discharge_wh[-1] == pytest.approx(every.trace.discharge_wh[-1], rel=0.01)
    assert some.restarts == pytest.approx(every.restarts, rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("satellite", ["starcloud-1", "starved", "heat-limited", "rich"])
@pytest.mark.parametrize("orbit", ["starcloud-1", "iss", "sso-550-dawn-dusk", "sso-650-dawn-dusk", "sso-ltan-1030"])
def test_far_days_are_told_by_one_of_three(orbit: str, satellite: str) -> None:
    its = shipped.satellite(satellite)
    made = scenario(shipped.orbit(orbit), its, shipped.gpu("h100-pcie"), Mission(), 2e15)
    every, some = (forecast(made, Greedy(made), fresh(its), horizon_s=60 * DAY_S, sparse=far) for far in (False, True))
    print(f"{orbit} {satellite}: {100.0 * (some.steps / every.steps - 1.0):+.2f} % of the steps of 60 days")
    assert some.steps == pytest.approx(every.steps, rel=0.01)


def test_a_limit_is_found_within_a_far_day(world: Scenario, rule: Greedy) -> None:
    horizon_s = NEAR_S + 3.0 * APART_S
    ahead = forecast(world, rule, fresh(STARVED), horizon_s=horizon_s, sparse=True)
    moment_s = NEAR_S + 1.2 * APART_S
    steps = float(np.interp(moment_s, ahead.time_s, ahead.trace.steps))
    until = forecast(world, rule, fresh(STARVED), horizon_s=horizon_s, sparse=True, steps=steps)
    assert until.ended_by == "steps"
    assert until.steps == pytest.approx(steps)
    assert until.end_s == pytest.approx(moment_s, abs=0.1 * DAY_S)  # it may be dark for a while


def test_elements_that_decay_inside_the_forecast_are_refused(world: Scenario) -> None:
    late = shipped.orbit("starcloud-1").model_copy(update={"start": None})
    beyond = scenario(late, STARVED, shipped.gpu("h100-pcie"), Mission(), 2e15)
    with pytest.raises(BadInput, match=r"orbit\.start"):
        forecast(beyond, Greedy(beyond), fresh(STARVED), start_s=34.0 * 365.0 * DAY_S)


def test_thirty_orbits_are_forecast_while_one_waits(world: Scenario, rule: Greedy) -> None:
    horizon_s = 30.0 * world.timeline.track.period_s
    forecast(world, rule, fresh(STARVED), horizon_s=horizon_s)
    began = time.perf_counter()
    ahead = forecast(world, rule, fresh(STARVED), horizon_s=horizon_s)
    assert time.perf_counter() - began < 3.0
    assert isinstance(ahead.trace.charge_wh, np.ndarray)
