"""Eclipses against an independent library, and against the figures that were found with four of them."""

import time

import brahe
import numpy as np
import pytest
import shipped
from sgp4.exporter import export_tle

from pipeline.config.mission import Orbit
from pipeline.orbit import Environment, Track, eclipses, environment, track
from pipeline.orbit.shadow import illumination
from pipeline.orbit.sun import sun_direction

DAY_S = 86400.0


@pytest.fixture(scope="module", autouse=True)
def offline() -> None:
    """Earth orientation of zero: polar motion and UT1 − UTC move nothing that is tested here, and need a download."""
    brahe.set_global_eop_provider_from_static_provider(brahe.StaticEOPProvider.from_zero())


def by_brahe(path: Track, time_s: np.ndarray) -> np.ndarray:
    """Visible share of the Sun's disk: brahe's own SGP4, frames, Sun and cone, in GCRF."""
    lines = export_tle(path.satrec)
    propagator = brahe.SGPPropagator.from_tle(*lines, 60.0)
    start = brahe.Epoch.from_jd(path.start_jd, brahe.TimeSystem.UTC) + path.start_fraction * DAY_S
    moments = [start + float(second) for second in time_s]
    return np.array([brahe.eclipse_conical(propagator.state_gcrf(m)[:3], brahe.sun_position(m)) for m in moments])


def dark_s(sky: Environment) -> float:
    """Time in shadow, penumbra counted by the share of light it takes [s]."""
    return float(np.trapezoid(1.0 - sky.illumination, sky.time_s))


def edges_s(time_s: np.ndarray, light: np.ndarray) -> np.ndarray:
    """Moments of half light."""
    flips = np.flatnonzero((light[1:] < 0.5) != (light[:-1] < 0.5))
    share = (light[flips] - 0.5) / (light[flips] - light[flips + 1])
    return time_s[flips] + (time_s[1] - time_s[0]) * share


@pytest.mark.parametrize("name", shipped.ORBITS)
def test_a_day_of_eclipses_agrees_with_an_independent_library(name: str) -> None:
    path = track(shipped.orbit(name))
    ours = environment(path, 0.0, DAY_S, 10.0)
    theirs = by_brahe(path, ours.time_s)
    theirs_s = 10.0 * float((1.0 - theirs).sum() - 0.5 * (2.0 - theirs[0] - theirs[-1]))
    assert abs(dark_s(ours) - theirs_s) / 60.0 / path.revolutions(DAY_S) < 0.02
    np.testing.assert_allclose(ours.illumination.mean(), theirs.mean(), atol=3e-4)
    found = np.array([edge for eclipse in eclipses(ours) for edge in eclipse if 0.0 < edge < DAY_S])
    np.testing.assert_allclose(found, edges_s(ours.time_s, theirs), atol=10.0)


def minutes_an_orbit(path: Track, count: int) -> float:
    """Minutes of eclipse an orbit over the first `count` revolutions."""
    return dark_s(environment(path, 0.0, count * path.period_s, 1.0)) / 60.0 / count


def test_starcloud_1_is_dark_for_32_minutes_an_orbit_in_july() -> None:
    path = track(shipped.orbit("starcloud-1"))
    assert path.period_s / 60.0 == pytest.approx(94.63, abs=0.005)
    midnight_s = -0.16029198 * DAY_S
    sky = environment(path, midnight_s, DAY_S, 1.0)
    whole = [end - start for start, end in eclipses(sky) if start > sky.time_s[0] and end < sky.time_s[-1]]
    assert len(whole) >= 14
    assert np.mean(whole) / 60.0 == pytest.approx(32.097, abs=0.02)


def test_dawn_dusk_at_550_km_is_dark_for_21_minutes_an_orbit_at_solstice() -> None:
    """An average over the day, whose last eclipse is cut off; over whole orbits it is 21.54."""
    path = track(shipped.orbit("sso-550-dawn-dusk"))
    day = environment(path, 0.0, DAY_S, 1.0)
    assert dark_s(day) / 60.0 / path.revolutions(DAY_S) == pytest.approx(21.46, abs=0.01)
    assert minutes_an_orbit(path, 15) == pytest.approx(21.54, abs=0.01)


def test_an_eclipse_found_is_the_time_in_shadow() -> None:
    sky = environment(track(shipped.orbit("starcloud-1")), 0.0, DAY_S, 10.0)
    assert sum(end - start for start, end in eclipses(sky)) == pytest.approx(dark_s(sky), abs=1.0 * len(eclipses(sky)))
    assert sky.sunlit_fraction == pytest.approx(1.0 - dark_s(sky) / DAY_S)


def test_an_orbit_that_starts_and_ends_in_shadow_has_its_eclipses_cut_off_there() -> None:
    path = track(shipped.orbit("starcloud-1"))
    (start, end), *_ = [each for each in eclipses(environment(path, 0.0, 9000.0, 10.0)) if each[0] > 0.0]
    inside = environment(path, start + 300.0, 600.0, 10.0)
    assert eclipses(inside) == [(start + 300.0, start + 900.0)]
    assert end - start > 900.0


def test_no_eclipse_is_found_where_there_is_none() -> None:
    orbit = Orbit(kind="sso", altitude_km=650.0, ltan_h=18.0, start="2026-03-20T00:00:00Z")
    sky = environment(track(orbit), 0.0, DAY_S, 10.0)
    assert eclipses(sky) == []
    assert dark_s(sky) == 0.0


@pytest.mark.parametrize("altitude_km", [200.0, 550.0, 2000.0])
def test_light_falls_through_the_penumbra_and_never_leaves_0_to_1(altitude_km: float) -> None:
    """From the sub-solar point to the middle of the umbra, at the orbit's radius."""
    angle = np.linspace(0.0, np.pi, 200_001)
    radius_km = 6378.137 + altitude_km
    position = radius_km * np.stack([np.cos(angle), np.sin(angle), np.zeros_like(angle)], axis=-1)
    light = illumination(position, np.tile([1.0, 0.0, 0.0], (len(angle), 1)), np.ones(len(angle)))
    assert light.min() == 0.0
    assert light.max() == 1.0
    assert np.all(np.diff(light) <= 1e-9)
    assert np.all(light[angle < np.pi / 2] == 1.0), "full Sun on the day side"
    assert np.count_nonzero((light > 0.0) & (light < 1.0)) > 50
    # The Sun is 0.533° wide, and so is the penumbra as an angle around the Earth.
    width_deg = np.degrees(np.ptp(angle[(light > 0.0) & (light < 1.0)]))
    assert width_deg == pytest.approx(0.533, abs=0.01)


def beta_deg(track: Track, time_s: np.ndarray) -> np.ndarray:
    """Beta angle at each mission second [deg]: arcsin(h·s) of the orbit's normal and the Sun (Vallado, 5.3)."""
    jd, fraction = track.julian(time_s)
    _, position, velocity = track.satrec.sgp4_array(jd, fraction)
    normal = np.cross(position, velocity)
    sun, _ = sun_direction(jd + fraction)
    return np.degrees(np.arcsin(np.einsum("ti,ti->t", normal, sun) / np.linalg.norm(normal, axis=-1)))


def test_beta_decides_how_long_eclipses_are() -> None:
    """For a circular orbit and a cylindrical shadow, cos(half arc) = sqrt(h² + 2Rh) / ((R + h) cos β)."""
    for name in ("iss", "sso-550-dawn-dusk", "sso-ltan-1030"):
        path = track(shipped.orbit(name))
        beta = np.radians(np.mean(beta_deg(path, np.linspace(0.0, 15 * path.period_s, 500))))
        h, earth = shipped.orbit(name).altitude_km, 6378.137
        half = np.arccos(np.sqrt(h * h + 2.0 * earth * h) / ((earth + h) * np.cos(beta)))
        assert minutes_an_orbit(path, 15) == pytest.approx(half / np.pi * path.period_s / 60.0, abs=0.5)


@pytest.mark.parametrize(("days", "step_s", "limit_s"), [(1.0, 10.0, 0.02), (365.25, 30.0, 2.0)])
def test_a_day_and_a_year_are_computed_faster_than_anyone_waits_for(days: float, step_s: float, limit_s: float) -> None:
    path = track(shipped.orbit("starcloud-1"))
    took = []
    for _ in range(20 if days == 1.0 else 3):
        began = time.process_time()  # one thread: what else the machine does is not counted
        environment(path, 0.0, days * DAY_S, step_s)
        took.append(time.process_time() - began)
        if took[-1] < limit_s:
            break
    assert min(took) < limit_s


@pytest.mark.parametrize("radius_km", [6928.0, 26600.0, 42164.0])
def test_the_penumbra_is_whole_however_high(radius_km: float) -> None:
    """Against the Sun's disk counted point by point, from the umbra's edge to full light."""
    sun_km, sun = 149597870.7, np.array([[1.0, 0.0, 0.0]])
    x, y = np.meshgrid(np.linspace(-1.0, 1.0, 401), np.linspace(-1.0, 1.0, 401))
    disk = x * x + y * y <= 1.0
    for off_km in np.linspace(6100.0, 6650.0, 56):
        satellite = np.array([-np.sqrt(radius_km**2 - off_km**2), off_km, 0.0])
        to_sun = np.array([sun_km, 0.0, 0.0]) - satellite
        away_km = np.linalg.norm(to_sun)
        apart = np.arccos(-satellite @ to_sun / radius_km / away_km)
        a, b = np.arcsin(695700.0 / away_km), np.arcsin(6378.137 / radius_km)
        hidden = np.mean(((x * a - apart) ** 2 + (y * a) ** 2 <= b * b)[disk])
        seen = illumination(satellite[None], sun, np.ones(1))[0]
        assert seen == pytest.approx(1.0 - hidden, abs=0.005), off_km
