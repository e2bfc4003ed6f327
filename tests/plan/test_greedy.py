"""The greedy rule never spends what the umbra needs, and the rule without its reserve does."""

import math
from dataclasses import replace

import hypothesis.strategies as st
import jax
import numpy as np
import pytest
import shipped
from hypothesis import HealthCheck, Phase, given, settings

from pipeline.config.errors import BadInput
from pipeline.config.mission import Mission, Satellite
from pipeline.orbit import eclipses, environment, track
from pipeline.plan import Greedy, Mode, Scenario, forecast, scenario
from pipeline.plan.forecast import SLOT_S
from pipeline.plan.greedy import DWELL_S
from pipeline.plan.reserve import reserve_after_wh, reserve_wh, stored_wh
from pipeline.power import OFF, Simulator, State, fresh, plant

DAY_S = 86400.0
STEP_FLOPS = 2e15


def made(orbit: str, satellite: Satellite, gpu: str = "h100-pcie", restart_s: float = 60.0) -> Scenario:
    return scenario(shipped.orbit(orbit), satellite, shipped.gpu(gpu), Mission(restart_s=restart_s), STEP_FLOPS)


def polled(
    world: Scenario, rule: Greedy, satellite: Satellite, seconds: float, chunk_s: float
) -> list[tuple[State, float]]:
    """The flight's own calls on a plant of the given satellite: a restart is not interrupted, a hold lasts a slot."""
    craft, state, now_s, mode = Simulator(satellite, world.timeline), fresh(satellite), 0.0, Mode.OFF
    seen = []
    while now_s < seconds:
        full_wh = world.plant.full_wh(state)
        cap_w = rule.poll(now_s, state.charge_wh, state.heat_j, mode != Mode.OFF, full_wh)
        if cap_w == 0.0:
            mode, took_s = Mode.OFF, SLOT_S
        elif mode == Mode.OFF:
            mode, took_s = Mode.RESTART, world.restart_s
        else:
            mode, took_s = Mode.TRAIN, chunk_s
        state = craft.advance(state, world.command(mode, cap_w), now_s, took_s)
        now_s += took_s
        seen.append((state, now_s))
    return seen


def outage(world: Scenario, satellite: Satellite, state: State, now_s: float) -> list[tuple[State, float]]:
    """A day in a hold."""
    craft, seen = Simulator(satellite, world.timeline), []
    for begin_s in np.arange(now_s, now_s + DAY_S, 60.0).tolist():
        state = craft.advance(state, OFF, begin_s, 60.0)
        seen.append((state, begin_s + 60.0))
    return seen


def keeps_its_limits(world: Scenario, seen: list[tuple[State, float]]) -> None:
    lowest_wh = min(state.charge_wh for state, _ in seen)
    hottest_c = max(float(world.plant.plate_c(state.heat_j)) for state, _ in seen)
    assert lowest_wh >= world.plant.floor_wh
    assert hottest_c <= world.plant.limit_at(world.curve.full_w)
    assert seen[-1][0].unserved_wh == 0.0


@pytest.mark.parametrize("satellite", shipped.SATELLITES)
@pytest.mark.parametrize("orbit", shipped.ORBITS)
def test_three_days_keep_floor_and_temperature_and_train(orbit: str, satellite: str) -> None:
    given_to = shipped.satellite(satellite)
    world = made(orbit, given_to)
    flown = forecast(world, Greedy(world), fresh(given_to), horizon_s=3.0 * DAY_S)
    assert flown.trace.charge_wh.min() >= world.plant.floor_wh
    assert flown.trace.plate_c.max() <= given_to.radiator.limit_c
    assert flown.train_s > 0.02 * 3.0 * DAY_S


@pytest.mark.parametrize(
    ("orbit", "satellite", "gpu", "restart_s", "chunk_s"),
    [
        ("starcloud-1", "starved", "h100-pcie", 60.0, 9.7),
        ("sso-ltan-1030", "starved", "h200", 60.0, 10.0),  # more than the cells' C-rate allows in the dark
        ("iss", "heat-limited", "h100-pcie", 60.0, 30.0),
        ("sso-550-dawn-dusk", "rich", "h100-sxm", 600.0, 10.0),
    ],
)
def test_a_polled_flight_keeps_floor_temperature_and_serves_all(
    orbit: str, satellite: str, gpu: str, restart_s: float, chunk_s: float
) -> None:
    given_to = shipped.satellite(satellite)
    world = made(orbit, given_to, gpu, restart_s)
    keeps_its_limits(world, polled(world, Greedy(world), given_to, DAY_S, chunk_s))


@pytest.mark.slow
@pytest.mark.parametrize("gpu", shipped.GPUS)
@pytest.mark.parametrize("satellite", shipped.SATELLITES)
@pytest.mark.parametrize("orbit", shipped.ORBITS)
def test_three_polled_days_of_everything_that_ships(orbit: str, satellite: str, gpu: str) -> None:
    given_to = shipped.satellite(satellite)
    world = made(orbit, given_to, gpu)
    keeps_its_limits(world, polled(world, Greedy(world), given_to, 3.0 * DAY_S, 9.7))


@pytest.mark.parametrize("satellite", shipped.SATELLITES)
def test_a_harvest_4_percent_smaller_than_modelled_is_survived(satellite: str) -> None:
    """The rule believes the larger array; the satellite has the smaller."""
    believed = shipped.satellite(satellite)
    real = shipped.changed(believed, array={"area_m2": 0.96 * believed.array.area_m2})
    for orbit in ("starcloud-1", "sso-ltan-1030"):
        world = made(orbit, believed)
        flown = forecast(replace(world, plant=plant(real)), Greedy(world), fresh(real), horizon_s=3.0 * DAY_S)
        assert flown.trace.charge_wh.min() >= world.plant.floor_wh
        assert flown.trace.plate_c.max() <= real.radiator.limit_c


class Careless:
    """The control arm: trains while charge is above the floor and the plate below its limit, and keeps no reserve."""

    def __init__(self, world: Scenario) -> None:
        self.row = world.plant.floor_wh, world.plant.heat_at(world.plant.limit_c), world.curve.full_w

    def poll(self, time_s: float, charge_wh: float, heat_j: float, on: bool, full_wh: float) -> float:
        return float(self.act(self.row, None, charge_wh, heat_j, on, full_wh))

    def piece(self, time_s: object) -> tuple[object, object]:
        return self.row, time_s

    @staticmethod
    def act(
        row: tuple[float, float, float], now: object, charge_wh: float, heat_j: float, on: bool, full_wh: float
    ) -> jax.Array:
        floor_wh, limit_j, full_w = row
        return jax.numpy.where((charge_wh > floor_wh) & (heat_j < limit_j), full_w, 0.0)


def test_without_the_reserve_the_floor_is_violated_so_that_the_tests_above_can_fail() -> None:
    starved = shipped.satellite("starved")
    world = made("starcloud-1", starved)
    flown = forecast(world, Careless(world), fresh(starved), horizon_s=DAY_S)
    assert flown.trace.charge_wh.min() < world.plant.floor_wh - 10.0
    assert (flown.trace.charge_wh < world.plant.floor_wh).sum() > 100


def test_planned_without_what_is_drawn_in_a_hold_the_floor_is_violated_and_with_it_is_not() -> None:
    """On a real clock nobody switches GPU and host off, and their 200 W drain the battery in each umbra."""
    satellite, gpu, orbit = shipped.satellite("rich"), shipped.gpu("h200-measured"), shipped.orbit("starcloud-1")
    off, held = (scenario(orbit, satellite, gpu, Mission(clock=clock), 2e15) for clock in ("simulated", "real"))
    assert (off.plant.hold_w, held.plant.hold_w) == (0.0, gpu.idle_w + satellite.loads.host_w)
    for rule, violations in ((Greedy(off), True), (Greedy(held), False)):
        flown = forecast(held, rule, fresh(satellite), horizon_s=DAY_S)
        assert ((flown.trace.charge_wh < held.plant.floor_wh).sum() > 100) == violations
        assert (flown.trace.charge_wh.min() < held.plant.floor_wh) == violations


def test_a_battery_that_leaks_keeps_its_floor() -> None:
    leaking = shipped.changed(shipped.satellite("starved"), battery={"self_discharge_per_day": 0.3})
    world = made("starcloud-1", leaking)
    keeps_its_limits(world, polled(world, Greedy(world), leaking, 0.5 * DAY_S, 9.7))


def test_a_battery_that_only_work_keeps_warm_dies_in_an_outage_and_is_refused() -> None:
    cold = shipped.changed(shipped.satellite("rich"), battery={"surroundings_c": -16.0, "conductance_w_k": 0.5})
    world = made("starcloud-1", cold)
    blind = Greedy(replace(world, plant=replace(world.plant, charge_min_c=-math.inf)))
    flown = polled(world, blind, cold, 0.5 * DAY_S, 9.7)
    keeps_its_limits(world, flown)
    first_day = outage(world, cold, *flown[-1])
    second_day = outage(world, cold, *first_day[-1])
    assert second_day[-1][0].charge_wh < world.plant.floor_wh - 100.0
    with pytest.raises(BadInput, match="surroundings_c: -16"):
        Greedy(world)


def test_a_battery_that_its_heater_keeps_too_hot_dies_in_an_outage_and_is_refused() -> None:
    wrapped = shipped.changed(shipped.satellite("rich"), battery={"conductance_w_k": 0.1})
    world = made("starcloud-1", wrapped)
    blind = Greedy(replace(world, plant=replace(world.plant, charge_max_c=math.inf)))
    flown = polled(world, blind, wrapped, DAY_S, 9.7)
    assert min(state.charge_wh for state, _ in outage(world, wrapped, *flown[-1])) < world.plant.floor_wh - 100.0
    with pytest.raises(BadInput, match=r"conductance_w_k: 0\.1: in a hold .* 67 C, and above charge_max_c, 45,"):
        Greedy(world)


@pytest.mark.parametrize(("conductance_w_k", "hot"), [(0.45, True), (2.0, False)])
def test_a_battery_that_work_makes_too_hot_is_told_of_by_the_forecast(conductance_w_k: float, hot: bool) -> None:
    """This one cools in a hold, is charged again, and keeps its floor."""
    satellite = shipped.changed(shipped.satellite("rich"), battery={"conductance_w_k": conductance_w_k})
    world = made("starcloud-1", satellite)
    flight = forecast(world, Greedy(world), fresh(satellite), horizon_s=DAY_S)
    floor, too_hot = flight.violations(world.plant)
    assert (floor, too_hot > 0) == (0, hot)
    assert (flight.trace.battery_c.max() > 45.0) == hot
    flown = polled(world, Greedy(world), satellite, DAY_S, 9.7)
    keeps_its_limits(world, flown + outage(world, satellite, *flown[-1]))


def test_a_plate_that_warms_on_after_the_stop_passes_its_limit_and_is_refused() -> None:
    warm = shipped.changed(
        shipped.satellite("rich"),
        radiator={"area_m2": 0.5, "limit_c": 46.0},
        loads={"hold_w": 200.0, "bus_w": 10.0},
        array={"area_m2": 6.0},
    )
    world = made("starcloud-1", warm)
    state = fresh(warm)._replace(heat_j=float(world.plant.heat_at(world.plant.limit_c)))
    held = outage(world, warm, state, 0.0)
    assert max(float(world.plant.plate_c(each.heat_j)) for each, _ in held) > world.plant.limit_c + 1.0
    with pytest.raises(BadInput, match=r"area_m2: 0\.5: in a hold"):
        Greedy(world)


@st.composite
def satellites(draw: st.DrawFn) -> Satellite:
    def between(least: float, most: float) -> float:
        return draw(st.floats(least, most))

    return shipped.changed(
        shipped.satellite(draw(st.sampled_from(shipped.SATELLITES))),
        array={"area_m2": between(0.3, 6.0)},
        battery={
            "capacity_wh": between(100.0, 3000.0),
            "depth_of_discharge": between(0.05, 0.9),
            "charge_c_rate": between(0.2, 1.0),
            "discharge_c_rate": between(0.2, 1.5),
            "self_discharge_per_day": draw(st.sampled_from([0.001, 0.1])),
            "surroundings_c": between(-1.0, 20.0),
            "heat_capacity_j_k": between(500.0, 20000.0),
            "conductance_w_k": between(0.05, 4.0),
            "initial_c": between(-1.0, 25.0),
        },
        loads={
            "bus_w": between(10.0, 120.0),
            "host_w": between(0.0, 150.0),
            "hold_w": draw(st.sampled_from([0.0, 0.0, 200.0])),
            "eclipse_heater_w": between(0.0, 60.0),
        },
        radiator={
            "area_m2": between(0.5, 4.0),
            "absorbed_sunlit_w_m2": draw(st.sampled_from([40.0, 400.0])),
            "latent_j": draw(st.sampled_from([0.0, 1e5, 1e6])),
            "limit_c": between(46.0, 70.0),
        },
    )


def survives(satellite: Satellite, orbit: str, gpu: str, restart_s: float, days: float) -> None:
    world = made(orbit, satellite, gpu, restart_s)
    try:
        rule = Greedy(world)
    except BadInput:
        return
    flown = polled(world, rule, satellite, days * DAY_S, 9.3)
    flown += outage(world, satellite, *flown[-1])
    # Too hot to be charged, a battery has not what the reserve counts on. No rule knows it; the forecast tells.
    if max(state.battery_c for state, _ in flown) <= satellite.battery.charge_max_c:
        keeps_its_limits(world, flown)


drawn = given(
    satellites(), st.sampled_from(shipped.ORBITS), st.sampled_from(shipped.GPUS), st.sampled_from([0.0, 60.0, 300.0])
)


@settings(
    max_examples=8, deadline=None, derandomize=True, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
)
@drawn
def test_any_satellite_that_is_accepted_keeps_its_limits(
    satellite: Satellite, orbit: str, gpu: str, restart_s: float
) -> None:
    survives(satellite, orbit, gpu, restart_s, 0.5)


@pytest.mark.slow
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@drawn
def test_any_of_many_satellites_keeps_its_limits(satellite: Satellite, orbit: str, gpu: str, restart_s: float) -> None:
    survives(satellite, orbit, gpu, restart_s, 2.0)


@pytest.mark.parametrize(
    ("section", "values", "words"),
    [
        ("battery", {"capacity_wh": 80.0}, "capacity_wh: 80"),
        ("battery", {"discharge_c_rate": 0.05}, "discharge_c_rate"),
        ("loads", {"bus_w": 600.0}, "satellite"),
        ("array", {"area_m2": 0.25}, "area_m2"),
        ("battery", {"surroundings_c": -0.1}, "surroundings_c: -0.1: below charge_min_c, 0"),
        ("battery", {"initial_c": -5.0}, "initial_c: -5: below charge_min_c, 0"),
        ("battery", {"initial_c": 45.5}, r"initial_c: 45\.5: above charge_max_c, 45"),
        ("battery", {"surroundings_c": 46.0}, "surroundings_c: 46: above charge_max_c, 45, .* keep it cooler"),
        ("loads", {"eclipse_heater_w": 250.0}, "conductance_w_k: 2: in a hold heater and losses"),
        ("radiator", {"absorbed_sunlit_w_m2": 900.0}, "area_m2: 2: in a hold in lasting sunlight"),
    ],
)
def test_a_satellite_that_would_not_live_through_a_hold_is_refused(
    section: str, values: dict[str, float], words: str
) -> None:
    with pytest.raises(BadInput, match=words) as caught:
        Greedy(made("starcloud-1", shipped.changed(shipped.satellite("rich"), **{section: values})))
    assert "\n" not in str(caught.value)


def test_the_reserve_of_one_umbra_is_bus_and_heater_over_the_discharge_efficiency() -> None:
    """E ≥ E_floor + (P_bus + P_heat) t_umbra / η_d."""
    satellite = shipped.changed(shipped.satellite("rich"), battery={"self_discharge_per_day": 0.0})
    its = plant(satellite)
    sky = environment(track(shipped.orbit("starcloud-1")), 0.0, 7000.0, 10.0)
    needed = reserve_wh(its, sky, 0.0) - its.floor_wh
    dark_h = max(end - start for start, end in eclipses(sky)) / 3600.0
    assert needed.max() == pytest.approx(60.0 * dark_h / 0.96, rel=0.01)
    assert needed[-1] == 0.0


def test_a_charge_at_the_limit_ends_a_poll_at_the_reserve_and_one_below_does_not() -> None:
    satellite = shipped.satellite("starved")
    world = made("starcloud-1", satellite)
    sky = world.timeline.span(0.0, DAY_S)
    reserve = reserve_wh(world.plant, sky, 0.0)
    load = stored_wh(world.plant, sky, world.command(Mode.TRAIN), 0.0)
    least = reserve_after_wh(reserve, load, 4)
    for i in range(0, 8000, 371):
        after = least[i] + load[i : i + 5] - load[i]
        assert (after - reserve[i : i + 5]).min() == pytest.approx(0.0, abs=1e-9)


def test_it_does_not_chatter() -> None:
    for satellite in shipped.SATELLITES:
        world = made("starcloud-1", shipped.satellite(satellite))
        flown = forecast(world, Greedy(world), fresh(shipped.satellite(satellite)), horizon_s=DAY_S)
        assert flown.train_s / max(flown.restarts, 1) > 0.8 * DWELL_S


@pytest.mark.parametrize("lost", [0.02, 0.03])
def test_a_faded_battery_that_never_holds_a_whole_dwell_goes_on_training(lost: float) -> None:
    """Of 700 Wh, 70 may be used; a dwell and the umbra's reserve together ask for more."""
    shallow = shipped.changed(
        shipped.satellite("starved"), battery={"depth_of_discharge": 0.1, "discharge_c_rate": 1.2}
    )
    world = made("starcloud-1", shallow, "h100-sxm")
    new, rule = fresh(shallow), Greedy(world)
    old = new._replace(discharge_wh=lost * 700.0 / shallow.battery.fade_per_cycle, charge_wh=(1.0 - lost) * 700.0)
    first, later = (forecast(world, rule, state, horizon_s=DAY_S) for state in (new, old))
    assert later.steps > 0.95 * first.steps > 0.0
    assert later.trace.charge_wh.min() >= world.plant.floor_wh


def test_an_empty_battery_is_off_and_a_full_one_trains() -> None:
    world = made("starcloud-1", shipped.satellite("starved"))
    rule, cold_j = Greedy(world), world.plant.heat_at(0.0)
    assert rule.poll(0.0, 0.0, cold_j, False, 700.0) == 0.0
    assert rule.poll(0.0, math.inf, cold_j, False, 700.0) == 350.0
    assert world.command(Mode.OFF) == OFF
