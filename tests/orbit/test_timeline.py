"""Days on one grid: the same bits for a resumed run as for an uninterrupted one."""

import numpy as np
import pytest
import shipped

from pipeline.config.mission import Station
from pipeline.orbit import Environment, Timeline, track
from pipeline.orbit.hazard import CENTRE_DEG, PEAK, hazard

DAY_S = 86400.0
REDMOND = Station(name="Redmond", latitude_deg=47.674, longitude_deg=-122.12, mask_deg=10.0)


def same(a: Environment, b: Environment) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in vars(a))


def test_a_day_has_the_same_bits_whatever_was_asked_for_first() -> None:
    path = track(shipped.orbit("starcloud-1"))
    forwards, backwards = Timeline(path, [REDMOND]), Timeline(path, [REDMOND])
    numbers = [-1, 0, 1, 5]
    first = [forwards.day(number) for number in numbers]
    backwards.span(12_345.0, 50_000.0)
    second = [backwards.day(number) for number in reversed(numbers)][::-1]
    assert all(map(same, first, second))


def test_days_lie_on_a_fixed_grid_and_meet_at_midnight() -> None:
    timeline = Timeline(track(shipped.orbit("iss")))
    before, after = timeline.day(3), timeline.day(4)
    np.testing.assert_array_equal(after.time_s, 4.0 * DAY_S + 10.0 * np.arange(8641))
    for name in vars(before):
        assert getattr(before, name)[-1] == getattr(after, name)[0], name


@pytest.mark.parametrize(
    ("time_s", "day"), [(0.0, 0), (DAY_S - 1e-9, 0), (DAY_S, 1), (-1e-9, -1), (-DAY_S, -1), (-DAY_S - 1.0, -2)]
)
def test_every_moment_falls_in_one_day_before_the_start_too(time_s: float, day: int) -> None:
    assert Timeline.number(time_s) == day


def test_before_mission_second_0_there_is_light_and_shadow_too() -> None:
    """A real clock may stand before the epoch of the elements."""
    sky = Timeline(track(shipped.orbit("starcloud-1"))).day(-2)
    assert (sky.time_s[0], sky.time_s[-1]) == (-2.0 * DAY_S, -DAY_S)
    assert 0.6 < sky.sunlit_fraction < 0.7


@pytest.mark.parametrize("name", shipped.ORBITS)
def test_every_column_stays_in_its_range(name: str) -> None:
    sky = Timeline(track(shipped.orbit(name)), [REDMOND]).day(0)
    assert np.all((sky.illumination >= 0.0) & (sky.illumination <= 1.0))
    assert np.all((sky.flux_w_m2 > 1315.0) & (sky.flux_w_m2 < 1410.0))
    assert set(np.unique(sky.transmitting)) <= {0.0, 1.0}
    assert np.all((sky.hazard >= 1.0) & (sky.hazard <= PEAK))
    assert sky.step_s == 10.0


def test_a_span_covers_what_was_asked_for_both_ends_included() -> None:
    timeline = Timeline(track(shipped.orbit("iss")))
    sky = timeline.span(17.0, 95.0)
    np.testing.assert_array_equal(sky.time_s, 17.0 + 10.0 * np.arange(11))
    assert len(timeline.span(0.0, 0.0).time_s) == 2


def test_upsets_are_most_frequent_over_the_south_atlantic() -> None:
    latitude, longitude = np.array([CENTRE_DEG[0], 50.0, -25.0, -25.0]), np.array([CENTRE_DEG[1], 10.0, 155.0, 335.0])
    np.testing.assert_allclose(hazard(latitude, longitude), [PEAK, 1.0, 1.0, PEAK])
