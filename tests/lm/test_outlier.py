"""What stands out is found, whatever the run is doing, and what is usual is not."""

import numpy as np
import pytest

from pipeline.lm.outlier import LOSS_LIMIT, NORM_LIMIT, WINDOW, outliers, remember


def falling(steps: int, seed: int = 0) -> np.ndarray:
    """A loss with noise, steep at first."""
    return 3.0 + 3.0 * np.exp(-np.arange(steps) / 40) + 0.1 * np.random.default_rng(seed).standard_normal(steps)


@pytest.mark.parametrize("at", [70, 300])
def test_a_jump_is_found_in_the_steep_part_too(at: int) -> None:
    series = falling(400)
    series[at] += 2.0
    found = outliers(np.array([]), series, LOSS_LIMIT)
    assert np.flatnonzero(found).tolist() == [at]


def test_a_spread_that_includes_the_fall_would_hide_it() -> None:
    """The control: deviations from the median of the window, as they are usually taken."""
    series = falling(400)
    series[70] += 2.0
    window = series[70 - WINDOW : 70]
    deviation = 1.4826 * np.median(np.abs(window - np.median(window)))
    assert series[70] - np.median(window) < LOSS_LIMIT * deviation


@pytest.mark.parametrize("seed", range(5))
def test_noise_alone_is_no_outlier(seed: int) -> None:
    assert not outliers(np.array([]), falling(2000, seed), LOSS_LIMIT).any()


def test_a_first_step_that_is_not_finite_is_one() -> None:
    assert outliers(np.array([]), np.array([4.0, np.nan, np.inf, 3.9]), LOSS_LIMIT).tolist() == [
        False,
        True,
        True,
        False,
    ]


def test_how_the_steps_are_grouped_makes_no_difference() -> None:
    series = np.random.default_rng(3).lognormal(sigma=1.5, size=500)
    whole = outliers(np.array([]), series, NORM_LIMIT)
    assert whole.any()
    before, parts = np.array([]), []
    for chunk in np.split(series, [1, 4, 11, 100, 250]):
        parts.append(outliers(before, chunk, NORM_LIMIT))
        before = remember(before, chunk)
    assert np.concatenate(parts).tolist() == whole.tolist()
    assert len(before) == WINDOW


def test_a_lasting_rise_is_soon_usual() -> None:
    series = np.concatenate([falling(200), 9.0 + falling(200)])
    found = np.flatnonzero(outliers(np.array([]), series, LOSS_LIMIT))
    assert found[0] == 200
    assert found[-1] < 200 + WINDOW


def test_a_constant_series_is_measured_all_the_same() -> None:
    constant = np.full(WINDOW, 2.0)
    assert outliers(constant, np.array([2.0, 2.01, 3.0]), LOSS_LIMIT).tolist() == [False, False, True]
