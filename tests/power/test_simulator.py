"""The plant flown along an orbit: pieces add up, and its state survives a checkpoint to the bit."""

import json
from typing import Any

import numpy as np
import pytest
import shipped

from pipeline.config.errors import BadInput, Refused, RunFailed
from pipeline.orbit import Timeline, track
from pipeline.power import OFF, Command, Simulator, State, fresh, from_json, to_json

DAY_S = 86400.0
SATELLITE = shipped.satellite("starcloud-1")


@pytest.fixture(scope="module")
def simulator() -> Simulator:
    return Simulator(SATELLITE, Timeline(track(shipped.orbit("starcloud-1"))))


def close(a: State, b: State) -> None:
    for name in State._fields:
        assert getattr(a, name) == pytest.approx(getattr(b, name), rel=1e-9, abs=1e-9), name


@pytest.mark.parametrize("start_s", [0.0, 3000.0, DAY_S - 500.0, -DAY_S - 500.0])
def test_pieces_that_respect_the_grid_add_up_to_one_advance(simulator: Simulator, start_s: float) -> None:
    command = Command(300.0, 80.0)
    whole = simulator.advance(fresh(SATELLITE), command, start_s, 6000.0)
    pieces, now_s = fresh(SATELLITE), start_s
    for seconds in (10.0, 990.0, 500.0, 3000.0, 20.0, 1480.0):
        pieces = simulator.advance(pieces, command, now_s, seconds)
        now_s += seconds
    close(pieces, whole)


def test_an_end_beyond_the_elements_is_refused_before_a_day_is_flown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock far ahead would else be told so after minutes."""
    simulator, flown = Simulator(SATELLITE, Timeline(track(shipped.orbit("starcloud-1")))), []
    monkeypatch.setattr(simulator, "_within_day", lambda state, *rest: flown.append(rest) or state)
    with pytest.raises(BadInput, match="no position"):
        simulator.advance(fresh(SATELLITE), OFF, 0.0, 2000.0 * DAY_S)
    assert not flown


def test_across_midnight_nothing_is_lost_or_counted_twice(simulator: Simulator) -> None:
    end = simulator.advance(fresh(SATELLITE), OFF, 1.5 * DAY_S, 2.25 * DAY_S)
    bus_w = SATELLITE.loads.bus_w
    assert end.bus_wh > 2.25 * 24.0 * bus_w
    heated_wh = end.bus_wh - 2.25 * 24.0 * bus_w
    sky = simulator.timeline.day(2)
    dark_h = np.trapezoid(1.0 - sky.illumination, sky.time_s) / 3600.0
    assert heated_wh == pytest.approx(2.25 * dark_h * SATELLITE.loads.eclipse_heater_w, rel=0.05)
    assert end.unserved_wh == 0.0


def test_pieces_off_the_grid_differ_by_the_error_of_integration_alone(simulator: Simulator) -> None:
    command = Command(300.0, 80.0)
    whole = simulator.advance(fresh(SATELLITE), command, 0.0, 6000.0)
    pieces, now_s = fresh(SATELLITE), 0.0
    for seconds in [7.3] * 800 + [160.0]:
        pieces = simulator.advance(pieces, command, now_s, seconds)
        now_s += seconds
    assert pieces.charge_wh == pytest.approx(whole.charge_wh, abs=0.5)
    assert pieces.payload_wh == pytest.approx(whole.payload_wh, rel=1e-9)


def test_no_time_changes_nothing(simulator: Simulator) -> None:
    assert simulator.advance(fresh(SATELLITE), Command(300.0, 80.0), 123.4, 0.0) == fresh(SATELLITE)


def test_the_same_flight_has_the_same_bits(simulator: Simulator) -> None:
    other = Simulator(SATELLITE, Timeline(track(shipped.orbit("starcloud-1"))))
    other.advance(fresh(SATELLITE), OFF, 9.0 * DAY_S, 5000.0)
    args = fresh(SATELLITE), Command(300.0, 80.0), 50_000.0, 90_000.0
    assert simulator.advance(*args) == other.advance(*args)


def test_the_moments_light_is_the_days(simulator: Simulator) -> None:
    day = simulator.timeline.day(2)
    for index in (0, 100, 333, 8640):
        seen = simulator._sky(2, float(day.time_s[index]) - 2.0 * DAY_S)
        assert seen.illumination == pytest.approx(day.illumination[index], abs=1e-6)
        assert seen.flux_w_m2 == pytest.approx(day.flux_w_m2[index], rel=1e-9)


def test_a_state_survives_json_to_the_bit(simulator: Simulator) -> None:
    state = simulator.advance(fresh(SATELLITE), Command(311.7, 80.0), 17.3, 33_333.3)
    assert from_json(json.loads(json.dumps(to_json(state)))) == state
    assert all(type(value) is float for value in state)


def wrong(**values: Any) -> dict[str, Any]:
    return {**to_json(fresh(SATELLITE)), **values}


@pytest.mark.parametrize(
    ("saved", "words"),
    [
        (wrong(charge_wh="full"), "charge_wh: 'full'"),
        (wrong(charge_wh=None), "charge_wh: None"),
        (wrong(charge_wh=True), "charge_wh: True"),
        (wrong(charge_wh=[1.0]), "charge_wh"),
        (wrong(heat_j=float("nan")), "heat_j: nan"),
        (wrong(battery_c=float("inf")), "battery_c: inf"),
        (wrong(charge_wh=10**400), "charge_wh"),
        (None, "plant state"),
        ([1.0] * 10, "plant state"),
    ],
)
def test_garbage_is_not_taken_for_a_state(saved: Any, words: str) -> None:
    with pytest.raises(RunFailed) as caught:
        from_json(saved)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("saved", "words"),
    [
        ({}, "charge_wh"),
        ({k: v for k, v in wrong().items() if k != "heat_j"}, "heat_j"),
        (wrong(charge_kwh=1.0), "charge_kwh"),
    ],
)
def test_a_state_of_another_version_is_refused(saved: dict[str, Any], words: str) -> None:
    with pytest.raises(Refused, match=rf"{words}.*: missing or unknown; go on with the version"):
        from_json(saved)


def test_a_fresh_plate_with_molten_material_holds_its_latent_heat() -> None:
    warm = shipped.changed(SATELLITE, radiator={"initial_c": 52.0})
    simulator = Simulator(warm, Timeline(track(shipped.orbit("iss"))))
    assert float(simulator.plant.plate_c(fresh(warm).heat_j)) == pytest.approx(52.0)
    assert fresh(warm).heat_j == pytest.approx(400_000.0 + 2.0 * 20_000.0)
    assert float(simulator.plant.plate_c(fresh(SATELLITE).heat_j)) == pytest.approx(20.0)
