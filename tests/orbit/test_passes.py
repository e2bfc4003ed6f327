"""When a ground station sees the satellite, and where that satellite stands over the Earth."""

from itertools import pairwise

import brahe
import numpy as np
import pytest
import shipped

from pipeline.config.mission import Station
from pipeline.orbit import environment, passes, track
from pipeline.orbit.earth import earth_fixed, latitude_longitude_deg, site_km
from pipeline.orbit.passes import elevation_deg

DAY_S = 86400.0
REDMOND = Station(name="Redmond", latitude_deg=47.674, longitude_deg=-122.12, mask_deg=10.0)
SVALBARD = Station(name="Svalbard", latitude_deg=78.23, longitude_deg=15.41, mask_deg=10.0)


def test_redmond_sees_starcloud_1_four_times_a_day_and_svalbard_never() -> None:
    path = track(shipped.orbit("starcloud-1"))
    seen = passes(path, REDMOND, 0.0, 7.0 * DAY_S)
    assert len(seen) / 7.0 == pytest.approx(4.1, abs=0.1)
    assert np.mean([each.end_s - each.start_s for each in seen]) / 60.0 == pytest.approx(6.8, abs=0.1)
    gaps = [(after.start_s - before.end_s, after.start_s - before.start_s) for before, after in pairwise(seen)]
    silent_h, apart_h = np.max(gaps, axis=0) / 3600.0
    assert apart_h == pytest.approx(18.7, abs=0.05)
    assert silent_h == pytest.approx(18.6, abs=0.05)
    assert all(10.0 <= each.highest_deg <= 90.0 for each in seen)
    assert passes(path, SVALBARD, 0.0, 7.0 * DAY_S) == []


def test_a_satellite_stands_where_an_independent_library_puts_it() -> None:
    brahe.set_global_eop_provider_from_static_provider(brahe.StaticEOPProvider.from_zero())
    path = track(shipped.orbit("starcloud-1"))
    propagator = brahe.SGPPropagator.from_tle(*shipped.orbit("starcloud-1").tle, 60.0)
    time_s = np.arange(0.0, DAY_S, 600.0)
    jd, fraction = path.julian(time_s)
    theirs = np.array([propagator.state_itrf(propagator.epoch + float(t))[:3] for t in time_s]) / 1e3
    np.testing.assert_allclose(earth_fixed(path.positions_km(time_s), jd + fraction), theirs, atol=0.1)


def test_a_station_stands_on_the_ellipsoid() -> None:
    for station in (REDMOND, SVALBARD):
        place = np.array([station.longitude_deg, station.latitude_deg, 120.0])
        theirs = brahe.position_geodetic_to_ecef(place, brahe.AngleFormat.DEGREES) / 1e3
        site, up = site_km(station.latitude_deg, station.longitude_deg, 120.0)
        np.testing.assert_allclose(site, theirs, atol=1e-3)
        assert np.linalg.norm(up) == pytest.approx(1.0)


def test_overhead_is_90_degrees_the_horizon_0_and_the_other_side_below() -> None:
    site, up = site_km(REDMOND.latitude_deg, REDMOND.longitude_deg, REDMOND.altitude_m)
    east = np.cross([0.0, 0.0, 1.0], up)
    places = np.stack([site + 500.0 * up, site + 500.0 * east / np.linalg.norm(east), -site])
    elevations = elevation_deg(REDMOND, places)
    assert elevations[:2] == pytest.approx([90.0, 0.0], abs=1e-4)
    assert elevations[2] < -89.0


def test_a_pass_cut_by_the_ends_of_the_search_is_given_as_cut() -> None:
    path = track(shipped.orbit("starcloud-1"))
    whole = passes(path, REDMOND, 0.0, DAY_S)[0]
    middle_s = round(0.5 * (whole.start_s + whole.end_s))
    (late,) = passes(path, REDMOND, middle_s, 3000.0)
    assert late.start_s == middle_s
    assert late.end_s == pytest.approx(whole.end_s, abs=0.5)
    (early,) = passes(path, REDMOND, middle_s - 3000.0, 3000.0)
    assert early.start_s == pytest.approx(whole.start_s, abs=0.5)
    assert early.end_s == middle_s


def test_a_pass_begins_and_ends_between_samples_and_the_transmitter_is_on_all_through_it() -> None:
    path = track(shipped.orbit("starcloud-1"))
    seen, finer = (passes(path, REDMOND, 2.0 * DAY_S, DAY_S, step_s) for step_s in (10.0, 0.5))
    np.testing.assert_allclose(np.array(seen), np.array(finer), atol=0.3)
    sky = environment(path, 2.0 * DAY_S, DAY_S, 10.0, (SVALBARD, REDMOND))
    heard = [any(each.start_s < moment < each.end_s for each in seen) for moment in sky.time_s]
    np.testing.assert_array_equal(sky.transmitting, heard)
    assert 0.01 < np.mean(heard) < 0.03


def test_latitude_reaches_the_inclination_and_no_further() -> None:
    path = track(shipped.orbit("starcloud-1"))
    time_s = np.arange(0.0, DAY_S, 10.0)
    jd, fraction = path.julian(time_s)
    latitude, longitude = latitude_longitude_deg(earth_fixed(path.positions_km(time_s), jd + fraction))
    assert latitude.max() == pytest.approx(45.4, abs=0.05)
    assert latitude.min() == pytest.approx(-45.4, abs=0.05)
    assert -180.0 <= longitude.min() < -179.0
    assert 179.0 < longitude.max() <= 180.0
