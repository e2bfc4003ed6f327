"""The satellite's books close, and its limits hold, whatever it is commanded."""

import math

import hypothesis.strategies as st
import jax
import numpy as np
import pytest
import shipped
from hypothesis import given, settings

from pipeline.config.errors import BadInput
from pipeline.config.mission import Satellite
from pipeline.power import OFF, Ambient, Command, Plant, State, fresh, plant
from pipeline.power.plant import STEFAN_BOLTZMANN, ZERO_C_K

SUN = Ambient(0.0, 1.0, 1361.0, 0.0)
DARK = Ambient(0.0, 0.0, 1361.0, 0.0)
_step = jax.jit(Plant.step)


def step(made: Plant, state: State, command: Command, ambient: Ambient, dt_s: float = 10.0) -> State:
    with jax.enable_x64(True):
        return State(*(float(value) for value in _step(made, state, command, ambient, dt_s)))


def flown(made: Plant, state: State, command: Command, ambient: Ambient, steps: int, dt_s: float = 10.0) -> State:
    for _ in range(steps):
        state = step(made, state, command, ambient, dt_s)
    return state


def rich(**sections: dict[str, float]) -> tuple[Plant, State]:
    satellite = shipped.changed(shipped.satellite("rich"), **sections)
    return plant(satellite), fresh(satellite)


satellites = st.builds(
    lambda name, capacity, area, ends, rates, leak, fade, cold: shipped.changed(
        shipped.satellite(name),
        array={"area_m2": area},
        battery={
            "capacity_wh": capacity,
            "charge_efficiency": ends[0],
            "discharge_efficiency": ends[1],
            "charge_c_rate": rates[0],
            "discharge_c_rate": rates[1],
            "self_discharge_per_day": leak,
            "fade_per_cycle": fade,
            "surroundings_c": cold,
        },
    ),
    st.sampled_from(shipped.SATELLITES),
    st.floats(50.0, 3000.0),
    st.floats(0.2, 6.0),
    st.tuples(st.floats(0.8, 1.0), st.floats(0.8, 1.0)),
    st.tuples(st.floats(0.1, 2.0), st.floats(0.1, 2.0)),
    st.floats(0.0, 0.2),
    st.floats(0.0, 0.01),
    st.floats(-40.0, 30.0),
)


@jax.jit
def _fly(made: Plant, state: State, inputs: tuple[Command, Ambient]) -> tuple[State, tuple[jax.Array, ...]]:
    def one(state: State, now: tuple[Command, Ambient]) -> tuple[State, tuple[jax.Array, ...]]:
        after = made.step(state, *now, 10.0)
        return after, (after.charge_wh, made.full_wh(after), after.unserved_wh)

    return jax.lax.scan(one, state, inputs)


def day_of(made: Plant, state: State, seed: int) -> tuple[State, float]:
    """A day of random commands of random length under a sky of random light: its end, and what was demanded [Wh]."""
    random = np.random.default_rng(seed)
    count = 8640
    pieces = np.repeat(np.arange(count), random.integers(1, 400, count))[:count]
    on, cap_w, light = random.random(count) < 0.5, random.uniform(0.0, 1500.0, count), random.random(count)
    gpu_w, host_w = (on * cap_w)[pieces], (on * 80.0)[pieces]
    lit = np.where(np.arange(count) % 570 < 380, 1.0, np.where(random.random(count) < 0.02, light, 0.0))
    sky = Ambient(10.0 * np.arange(count), lit, np.full(count, 1361.0), (random.random(count) < 0.05).astype(float))

    with jax.enable_x64(True):
        end, (charge_wh, full_wh, unserved_wh) = _fly(
            made, State(*map(np.float64, state)), (Command(gpu_w, host_w), sky)
        )
    charge_wh, full_wh, unserved_wh = np.asarray(charge_wh), np.asarray(full_wh), np.asarray(unserved_wh)
    assert np.all(charge_wh >= 0.0)
    assert np.all(charge_wh <= np.maximum(full_wh, 0.0) * (1.0 + 1e-12))
    assert np.all(np.diff(unserved_wh) >= 0.0)
    demanded_wh = float(((gpu_w + host_w) / made.regulator_efficiency + made.bus_load_w(sky)).sum()) / 360.0
    return State(*(float(value) for value in end)), demanded_wh


@settings(max_examples=15, deadline=None)
@given(satellites, st.integers(0, 2**32 - 1))
def test_a_day_of_random_commands_closes_its_books_and_keeps_its_charge_in_bounds(
    satellite: Satellite, seed: int
) -> None:
    made, begin = plant(satellite), fresh(satellite)
    end, demanded_wh = day_of(made, begin, seed)
    stored_wh = end.charge_wh - begin.charge_wh
    spent_wh = end.bus_wh + end.payload_wh + end.loss_wh + stored_wh
    assert spent_wh == pytest.approx(end.harvest_wh, rel=1e-6, abs=1e-6 * demanded_wh)
    assert end.bus_wh + end.payload_wh + end.unserved_wh == pytest.approx(demanded_wh, rel=1e-6)
    heat_j = 3600.0 * (end.payload_wh - end.rejected_wh)
    assert end.heat_j - begin.heat_j == pytest.approx(heat_j, rel=1e-6, abs=3600e-6 * demanded_wh)
    assert end.harvest_wh <= made.array_w(SUN) * 24.0


def test_the_array_gives_what_the_equation_says() -> None:
    made = plant(shipped.changed(shipped.satellite("rich"), array={"age_years": 2.0, "pointing_deg": 30.0}))
    expected_w = 1361.0 * 2.4 * 0.30 * (1 - 0.0025 * 32) * 0.90 * math.cos(math.radians(30)) * 0.975**2 * 0.95
    assert made.array_w(SUN) == pytest.approx(expected_w)
    assert made.array_w(SUN._replace(illumination=0.25)) == pytest.approx(expected_w / 4)
    assert made.array_w(SUN._replace(time_s=365.25 * 86400.0)) == pytest.approx(expected_w * 0.975)
    assert made.array_w(DARK) == 0.0


def test_loads_are_what_the_bus_asks_for() -> None:
    made, _ = rich()
    assert made.bus_load_w(SUN) == 45.0
    assert made.bus_load_w(DARK) == 60.0
    assert made.bus_load_w(DARK._replace(transmitting=1.0)) == 80.0
    assert made.payload_w(Command(350.0, 70.0)) == pytest.approx(420.0 / 0.93)


@pytest.mark.parametrize("c_rate", [0.05, 0.2])
def test_the_battery_charges_no_faster_than_its_c_rate(c_rate: float) -> None:
    made, state = rich(battery={"charge_c_rate": c_rate, "initial_charge": 0.5, "self_discharge_per_day": 0.0})
    after = step(made, state, OFF, SUN)
    assert after.charge_wh - 500.0 == pytest.approx(0.96 * c_rate * 1000.0 / 360.0)
    assert after.harvest_wh == pytest.approx((45.0 + c_rate * 1000.0) / 360.0), "the rest is left in the array"


def test_the_battery_discharges_no_faster_than_its_c_rate_and_says_what_was_not_served() -> None:
    made, state = rich(battery={"discharge_c_rate": 0.3, "self_discharge_per_day": 0.0})
    after = step(made, state, Command(400.0, 65.0), DARK)  # 500 W, and 60 W of bus and heater
    assert 1000.0 - after.charge_wh == pytest.approx(300.0 / 0.96 / 360.0)
    assert after.unserved_wh == pytest.approx(260.0 / 360.0)
    assert after.payload_wh == pytest.approx(240.0 / 360.0), "the payload is cut first"
    assert after.bus_wh == pytest.approx(60.0 / 360.0)


def test_an_empty_battery_in_the_dark_serves_nothing_and_does_not_go_below_0() -> None:
    made, state = rich()
    end = flown(made, state._replace(charge_wh=0.05), OFF, DARK, 20)
    assert 0.0 <= end.charge_wh < 1e-12
    assert end.bus_wh + end.unserved_wh == pytest.approx(60.0 * 200.0 / 3600.0)


def test_a_full_battery_takes_no_more() -> None:
    made, state = rich()
    end = flown(made, state, OFF, SUN, 20)
    assert end.charge_wh == pytest.approx(1000.0, abs=1e-9)
    leaked_wh = 1000.0 * 200.0 * made.self_discharge_per_s
    assert end.harvest_wh == pytest.approx(45.0 * 200.0 / 3600.0 + leaked_wh / 0.96, rel=1e-3)


def test_below_freezing_the_battery_gives_but_does_not_take() -> None:
    made, state = rich(battery={"initial_charge": 0.5})
    cold = state._replace(battery_c=-0.01)
    assert step(made, cold, OFF, SUN).charge_wh < 500.0, "self-discharge alone"
    assert step(made, cold, OFF, SUN).unserved_wh == 0.0
    assert step(made, cold, OFF, DARK).charge_wh == pytest.approx(500.0 - 60.0 / 0.96 / 360.0, abs=1e-3)
    assert step(made, state._replace(battery_c=0.0), OFF, SUN).charge_wh > 500.0


def test_above_its_limit_the_battery_gives_but_does_not_take() -> None:
    made, state = rich(battery={"initial_charge": 0.5})
    hot = state._replace(battery_c=45.01)
    assert step(made, hot, OFF, SUN).charge_wh < 500.0, "self-discharge alone"
    assert step(made, hot, OFF, SUN).unserved_wh == 0.0
    assert step(made, hot, OFF, DARK).charge_wh == pytest.approx(500.0 - 60.0 / 0.96 / 360.0, abs=1e-3)
    assert step(made, state._replace(battery_c=45.0), OFF, SUN).charge_wh > 500.0


def test_the_eclipse_heater_and_losses_warm_the_battery_towards_its_surroundings() -> None:
    made, state = rich(battery={"surroundings_c": -10.0})
    assert flown(made, state, OFF, SUN, 2000, 100.0).battery_c == pytest.approx(-10.0, abs=0.5)
    held = flown(made, state._replace(charge_wh=1000.0), OFF, DARK, 2000)
    loss_w = 60.0 / 0.96 - 60.0
    steady_c = -10.0 + (15.0 + loss_w) / 2.0
    assert held.battery_c == pytest.approx(steady_c + (15.0 - steady_c) * math.exp(-20_000.0 * 2.0 / 8000.0), abs=0.1)


@pytest.mark.parametrize(
    ("section", "values", "words"),
    [
        ("battery", {"heat_capacity_j_k": 239.0}, "battery.heat_capacity_j_k: 239: .* at least 240;"),
        ("battery", {"conductance_w_k": 200.0}, "battery.heat_capacity_j_k: 8000: .* at least 2.4e\\+04;"),
        ("radiator", {"area_m2": 50.0}, "radiator.heat_capacity_j_k: 20000: .* at least 4.28e"),
    ],
)
def test_heat_that_comes_and_goes_faster_than_it_is_stepped_is_refused(
    section: str, values: dict[str, float], words: str
) -> None:
    with pytest.raises(BadInput, match=words):
        rich(**{section: values})


def test_the_longest_step_is_as_good_as_ten_short_ones_where_heat_moves_as_fast_as_is_accepted() -> None:
    made, state = rich(battery={"heat_capacity_j_k": 240.0, "initial_c": 40.0}, radiator={"heat_capacity_j_k": 1720.0})
    coarse, fine = flown(made, state, OFF, DARK, 30), flown(made, state, OFF, DARK, 300, 1.0)
    assert coarse.battery_c == pytest.approx(fine.battery_c, abs=1.0)
    assert made.plate_c(coarse.heat_j) == pytest.approx(made.plate_c(fine.heat_j), abs=1.0)


def test_self_discharge_takes_its_share_of_a_day() -> None:
    made, state = rich(
        battery={"self_discharge_per_day": 0.1}, loads={"bus_w": 0.0, "eclipse_heater_w": 0.0, "transmitter_w": 0.0}
    )
    end = flown(made, state, OFF, DARK, 1440, 60.0)
    assert end.charge_wh == pytest.approx(900.0, rel=1e-4)
    assert end.loss_wh == pytest.approx(100.0, rel=1e-3)
    assert end.discharge_wh == 0.0, "what leaks does not age the cells"


def test_cells_fade_by_full_cycles() -> None:
    made, state = rich(battery={"fade_per_cycle": 0.01, "self_discharge_per_day": 0.0})
    assert made.full_wh(state) == 1000.0
    assert made.full_wh(state._replace(discharge_wh=5000.0)) == pytest.approx(950.0), "five cycles"
    worn = state._replace(discharge_wh=5000.0, charge_wh=940.0)
    assert flown(made, worn, OFF, SUN, 100).charge_wh == pytest.approx(950.0, abs=0.01)


def test_what_the_cells_give_ages_them() -> None:
    made, state = rich(battery={"fade_per_cycle": 0.01})
    end = flown(made, state, OFF, DARK, 180)
    assert end.discharge_wh == pytest.approx(60.0 / 0.96 / 2.0), "bus and heater for half an hour"
    assert made.full_wh(end) == pytest.approx(1000.0 * (1.0 - 0.01 * end.discharge_wh / 1000.0))
    assert step(made, end, OFF, SUN).discharge_wh == end.discharge_wh


def test_the_floor_is_the_planners_duty_and_not_the_cells() -> None:
    made, state = rich()
    assert made.floor_wh == pytest.approx(700.0)
    below = step(made, state._replace(charge_wh=700.0), OFF, DARK)
    assert below.charge_wh < 700.0
    assert below.unserved_wh == 0.0


@pytest.mark.parametrize("ambient", [SUN, DARK])
def test_in_the_steady_state_the_radiator_gives_off_what_it_takes_up(ambient: Ambient) -> None:
    made, state = rich()
    fed = Command(200.0, 70.0)
    state = state._replace(charge_wh=1000.0)
    for _ in range(3000):
        state = step(made, state._replace(charge_wh=1000.0), fed, ambient)
    emitted_w = 2.0 * 0.85 * STEFAN_BOLTZMANN * (made.plate_c(state.heat_j) + ZERO_C_K) ** 4
    assert emitted_w == pytest.approx(270.0 / 0.93 + made.absorbed_w(ambient), rel=1e-4)
    assert made.radiated_w(state.heat_j, ambient) == pytest.approx(270.0 / 0.93, rel=1e-4)


def test_at_rest_the_plate_settles_where_it_was_said_to() -> None:
    for name in shipped.SATELLITES:
        made = plant(shipped.satellite(name))
        for ambient in (SUN, DARK):
            assert made.radiated_w(made.resting_j(ambient), ambient) == pytest.approx(0.0, abs=1e-6)


def test_while_it_melts_the_plate_keeps_its_temperature_and_no_heat_is_lost() -> None:
    satellite = shipped.satellite("heat-limited")
    made, state = plant(satellite), fresh(satellite)
    temperatures, enthalpies, command = [], [], Command(350.0, 70.0)
    for _ in range(2000):
        state = step(made, state._replace(charge_wh=1500.0), command, SUN)
        temperatures.append(made.plate_c(state.heat_j))
        enthalpies.append(state.heat_j)
    plate_c, heat_j = np.array(temperatures), np.array(enthalpies)
    melting = (heat_j >= 0.0) & (heat_j <= made.latent_j)
    assert melting.sum() > 50
    assert np.all(plate_c[melting] == made.melting_c)
    assert np.all(np.diff(plate_c) >= 0.0)
    assert plate_c[-1] > made.melting_c
    net_j = 3600.0 * (state.payload_wh - state.rejected_wh)
    assert state.heat_j - fresh(satellite).heat_j == pytest.approx(net_j, rel=1e-9)
    # 420 W at a plate of 45 °C: what is left of it melts the paraffin, and takes as long as it must.
    net_w = 420.0 / 0.93 - float(made.radiated_w(0.0, SUN))
    assert melting.sum() * 10.0 == pytest.approx(made.latent_j / net_w, abs=20.0)


@given(st.floats(-60.0, 120.0), st.sampled_from(shipped.SATELLITES))
def test_enthalpy_and_temperature_are_each_others_inverse(plate_c: float, name: str) -> None:
    made = plant(shipped.satellite(name))
    assert made.plate_c(made.heat_at(plate_c)) == pytest.approx(plate_c, abs=1e-9)


def test_a_hot_junction_lowers_the_limit_of_the_plate() -> None:
    made, _ = rich(radiator={"junction_k_w": 0.2})
    assert made.limit_at(100.0) == 60.0
    assert made.limit_at(200.0) == 60.0, "the power at which both limits meet"
    assert made.limit_at(300.0) == pytest.approx(40.0)
