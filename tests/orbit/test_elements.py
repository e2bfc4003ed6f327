"""From a configured orbit to a path: elements that are wrong are refused, orbits that are given are flown."""

import time
from datetime import UTC, datetime

import numpy as np
import pytest
import shipped
from sgp4.api import Satrec

from pipeline.config.errors import BadInput
from pipeline.config.mission import Orbit
from pipeline.orbit import track
from pipeline.orbit.elements import Track, checksum
from pipeline.orbit.sun import sun_direction

FIRST, SECOND = shipped.orbit("starcloud-1").tle  # type: ignore[misc]
DAY_S = 86400.0


def sealed(line: str) -> str:
    """The line with a checksum that is right."""
    return line[:68] + str(checksum(line))


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (FIRST[:-1] + "1", SECOND, ["line 1", "checksum 1", "expected 0"]),
        (FIRST, SECOND[:-1] + "9", ["line 2", "checksum 9", "expected 6"]),
        (FIRST, SECOND.replace("45.3997", "45.3998"), ["line 2", "expected 7"]),
        (FIRST[:-1], SECOND, ["line 1", "68 characters", "69"]),
        (FIRST, SECOND + " ", ["line 2", "70 characters", "69"]),
        ("", "", ["line 1", "0 characters"]),
        (SECOND, FIRST, ["line 1", "begin with '1 '"]),
        (FIRST, sealed(SECOND.replace("66303", "66304")), ["66303", "66304"]),
        (FIRST, sealed(SECOND.replace("45.3997", "4x.3997")), ["line 2, inclination", "4x.3997"]),
        (FIRST, sealed(SECOND.replace("15.21652070", "15.2165207O")), ["line 2", "'15.2165207O'"]),
        (sealed(FIRST.replace("26207.16029198", "26207.1602919B")), SECOND, ["line 1", "'26207.1602919B'"]),
        (FIRST, sealed(SECOND.replace("15.21652070", " 0.00000000")), ["copy the elements"]),
        (FIRST, SECOND.replace("15.21652070", "-5.21652070"), ["line 2, mean motion", "'-5.21652070'"]),
        (FIRST, sealed(SECOND.replace(" 45.3997", " 4 .3997")), ["line 2, inclination", "not a number"]),
        (FIRST, sealed(SECOND.replace(" 45.3997", "200.3997")), ["line 2, inclination", "180"]),
        (FIRST, sealed(SECOND.replace(" 45.3997", "-45.3997")), ["line 2, inclination", "0"]),
        (FIRST, sealed(SECOND.replace("271.0639", "999.0639")), ["line 2, right ascension", "360"]),
        (FIRST, sealed(SECOND.replace("91.9012", "9-.9012")), ["line 2, mean anomaly", "not a number"]),
        (sealed(FIRST.replace("26207.16", "26400.16")), SECOND, ["line 1, epoch", "no day of 2026"]),
        (sealed(FIRST.replace("26207.16", "26000.16")), SECOND, ["line 1, epoch", "no day of 2026"]),
        (sealed(FIRST.replace("22976-3", "22976+5")), SECOND, ["line 1, drag term", "22976+5"]),
        (sealed(FIRST.replace("-3 0  999", "-3 4  999")), SECOND, ["line 1, ephemeris type", "'4'", "0 or 2"]),
    ],
)
def test_elements_that_cannot_be_right_are_refused_in_one_line(first: str, second: str, words: list[str]) -> None:
    with pytest.raises(BadInput) as caught:
        track(Orbit(tle=(first, second)))
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("orbit.tle: ")
    for word in words:
        assert word in message


def test_elements_of_every_form_that_catalogues_write_are_read() -> None:
    plus = sealed(FIRST.replace(" .00005005", "-.00005005").replace(" 22976-3", "-22976-3"))
    assert track(Orbit(tle=(plus, SECOND))).period_s == track(Orbit(tle=(FIRST, SECOND))).period_s
    five = [sealed(line.replace("66303", "A6303", 1)) for line in (FIRST, SECOND)]
    assert track(Orbit(tle=(five[0], five[1]))).satrec.satnum == 106303


def test_elements_flown_past_decay_are_refused_where_a_position_is_asked_for() -> None:
    path = track(Orbit(tle=(FIRST, SECOND), start="2060-01-01T00:00:00Z"))
    with pytest.raises(BadInput, match=r"no position at 2060-01-01.*orbit\.start"):
        path.positions_km(np.arange(3.0))


@pytest.mark.parametrize("start", ["1970-07-26T00:00:00Z", "2023-07-26T00:00:00Z", "2029-07-26T00:00:00Z"])
def test_a_mission_far_from_its_elements_is_refused(start: str) -> None:
    path = track(Orbit(tle=(FIRST, SECOND), start=start))
    with pytest.raises(BadInput, match=r"no position at .* \d+ days from the epoch"):
        path.positions_km(np.zeros(1))


def test_newer_elements_serve_a_mission_that_began_long_before_them() -> None:
    path = track(Orbit(tle=(FIRST, SECOND), start="2023-07-26T00:00:00Z"))
    assert np.isfinite(path.positions_km(np.array([1096.0 * 86400.0]))).all()


@pytest.mark.parametrize("name", ["iss", "sso-550-dawn-dusk"])
def test_an_orbit_that_nobody_measured_does_not_age(name: str) -> None:
    path = track(shipped.orbit(name))
    assert np.isfinite(path.positions_km(np.array([10.0 * 365.0 * DAY_S]))).all()
    with pytest.raises(BadInput, match=r"no position at .* 26500 days .*set the clock") as caught:
        path.positions_km(np.array([26500.0 * DAY_S]))
    assert "newer elements" not in str(caught.value)


def test_a_position_that_is_no_number_is_refused() -> None:
    """SGP4 itself sees no error in a satellite that flies backwards."""
    backwards = Satrec.twoline2rv(FIRST, SECOND.replace("15.21652070", "-5.21652070"))
    with pytest.raises(BadInput, match=r"no position at 2026-07-26.* not a number"):
        Track(backwards, backwards.jdsatepoch, backwards.jdsatepochF).positions_km(np.zeros(1))


def test_mission_second_0_is_the_epoch_of_the_elements_or_the_start_that_was_given() -> None:
    assert (
        abs((track(Orbit(tle=(FIRST, SECOND))).utc(0.0) - datetime(2026, 7, 26, 3, 50, 49, 227072, UTC)).microseconds)
        < 100
    )
    later = track(Orbit(tle=(FIRST, SECOND), start="2026-07-27T12:00:00+02:00"))
    assert abs((later.utc(0.0) - datetime(2026, 7, 27, 10, tzinfo=UTC)).total_seconds()) < 1e-3
    offset_s = (later.utc(0.0) - track(Orbit(tle=(FIRST, SECOND))).utc(0.0)).total_seconds()
    here, there = later.positions_km(np.zeros(1)), track(Orbit(tle=(FIRST, SECOND))).positions_km(np.array([offset_s]))
    np.testing.assert_allclose(here, there, atol=0.01)


def test_a_start_without_a_zone_is_utc_wherever_the_machine_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    time.tzset()
    try:
        assert track(Orbit(tle=(FIRST, SECOND), start="2026-07-27T12:00:00")).utc(0.0).hour == 12
    finally:
        monkeypatch.undo()
        time.tzset()


def crossing(path_name: str) -> tuple[np.ndarray, float]:
    """Position [km] and Julian date of an ascending crossing of the equator in the first day."""
    path = track(shipped.orbit(path_name))
    time_s = np.arange(1.0, 1.2 * path.period_s)
    position = path.positions_km(time_s)
    up = np.flatnonzero((position[:-1, 2] < 0.0) & (position[1:, 2] >= 0.0))[0]
    jd, fraction = path.julian(time_s[up : up + 1])
    return position[up], float((jd + fraction)[0])


@pytest.mark.parametrize(
    ("name", "ltan_h"), [("sso-550-dawn-dusk", 18.0), ("sso-650-dawn-dusk", 18.0), ("sso-ltan-1030", 10.5)]
)
def test_a_sun_synchronous_orbit_crosses_the_equator_northwards_at_its_local_time(name: str, ltan_h: float) -> None:
    """Apparent solar time differs from mean by the equation of time, -1.8 min on 21 June."""
    position, julian = crossing(name)
    sun, _ = sun_direction(np.array([julian]))
    hour_angle = np.degrees(np.arctan2(position[1], position[0]) - np.arctan2(sun[0, 1], sun[0, 0]))
    apparent_h = (12.0 + hour_angle / 15.0) % 24.0
    assert apparent_h - -1.8 / 60.0 == pytest.approx(ltan_h, abs=0.5 / 60.0)


def node_deg(name: str, day: float) -> float:
    """Right ascension of the plane's ascending node [deg], from the normal of the orbit averaged over a revolution."""
    path = track(shipped.orbit(name))
    time_s = day * DAY_S + np.linspace(0.0, path.period_s, 400, endpoint=False)
    _, position, velocity = path.satrec.sgp4_array(*path.julian(time_s))
    x, y, _ = np.cross(position, velocity).mean(axis=0)
    return float(np.degrees(np.arctan2(x, -y)) % 360.0)


@pytest.mark.parametrize("name", ["sso-550-dawn-dusk", "sso-650-dawn-dusk", "sso-ltan-1030"])
def test_a_sun_synchronous_orbit_keeps_its_local_time(name: str) -> None:
    """The node turns with the mean Sun, 0.98565° a day: five years move it by less than half a minute of local time."""
    for days in (90.0, 5.0 * 365.2422):
        off = node_deg(name, days) - node_deg(name, 0.0) - days * 360.0 / 365.2422
        assert (off + 180.0) % 360.0 - 180.0 == pytest.approx(0.0, abs=0.125)


def test_a_circular_orbit_is_as_round_high_and_inclined_as_was_asked() -> None:
    path = track(shipped.orbit("iss"))
    time_s = np.arange(0.0, path.period_s, 10.0)
    radius_km = np.linalg.norm(path.positions_km(time_s), axis=-1)
    assert radius_km.mean() - 6378.137 == pytest.approx(420.0, abs=10.0)  # oblateness moves it by kilometres
    assert np.ptp(radius_km) < 25.0
    assert path.period_s == pytest.approx(2.0 * np.pi * np.sqrt((6378.137 + 420.0) ** 3 / 398600.8))
    _, position, velocity = path.satrec.sgp4_array(*path.julian(time_s))
    normal = np.cross(position, velocity)
    inclination = np.degrees(np.arccos(normal[:, 2] / np.linalg.norm(normal, axis=-1)))
    np.testing.assert_allclose(inclination, 51.64, atol=0.05)
    assert node_deg("iss", 0.0) == pytest.approx(0.0, abs=0.4) or node_deg("iss", 0.0) == pytest.approx(360.0, abs=0.4)


def test_revolutions_count_from_mission_second_0_in_both_directions() -> None:
    path = track(shipped.orbit("starcloud-1"))
    assert path.revolutions(0.0) == 0.0
    assert path.revolutions(3.0 * path.period_s) == pytest.approx(3.0)
    assert path.revolutions(-path.period_s) == pytest.approx(-1.0)
    crossings = np.diff(np.sign(path.positions_km(np.arange(0.0, DAY_S, 10.0))[:, 2]))
    assert np.count_nonzero(crossings > 0) == pytest.approx(path.revolutions(DAY_S), abs=1.0)
