"""Whether a 95 % interval holds what it is of: on made text whose truth is known."""

from collections.abc import Callable

import numpy as np
import pytest

from pipeline.corpus.uncertainty import WIDE, mean_interval, ratio_values, standard_error

TRIALS = 400


def misses(draw: Callable[[np.random.Generator], np.ndarray], trials: int = TRIALS) -> float:
    """Share of intervals that do not hold the mean, which is 0."""
    random = np.random.default_rng(1)
    found = [mean_interval(draw(random)) for _ in range(trials)]
    return float(np.mean([one is None or not one.low < 0.0 < one.high for one in found]))


def documents(random: np.random.Generator) -> np.ndarray:
    """60 documents of 1 to 29 windows, each hard or easy as a whole."""
    lengths = random.integers(1, 30, size=60)
    return np.repeat(random.normal(size=60), lengths) + random.normal(size=int(lengths.sum()))


@pytest.mark.parametrize("correlation", [0.0, 0.6, 0.9])
def test_neighbours_that_are_alike_are_no_proof_of_each_other(correlation: float) -> None:
    """As independent, the windows would miss in 5, 33 and 65 of 100 cases; in blocks of n^(1/3), in 6, 9 and 28."""

    def draw(random: np.random.Generator) -> np.ndarray:
        values = np.zeros(800)
        for i, noise in enumerate(random.normal(size=799), 1):
            values[i] = correlation * values[i - 1] + noise
        return values[200:]  # without the start, which is 0

    assert misses(draw) < 0.09


def test_windows_of_one_document_are_no_proof_of_each_other() -> None:
    assert misses(documents) < 0.09


@pytest.mark.parametrize("windows", [2, 3, 5, 8, 20])
def test_few_windows_prove_little(windows: int) -> None:
    assert misses(lambda random: random.normal(size=windows), 4000) < 0.065


def test_a_single_window_as_proof_of_nothing_is_the_control() -> None:
    """Single windows, taken as independent, fail what the intervals above pass."""
    random = np.random.default_rng(1)
    drawn = [documents(random) for _ in range(TRIALS)]
    missed = [abs(values.mean()) > 1.96 * values.std(ddof=1) / np.sqrt(len(values)) for values in drawn]
    assert np.mean(missed) > 0.3


def test_bits_per_byte_are_a_ratio_whose_bytes_scatter_too() -> None:
    """Documents of more bytes per token cost more nats per token, or as many: the control takes bytes for known."""
    random = np.random.default_rng(4)
    missed = np.zeros((2, 2))
    for alike in (0, 1):
        for _ in range(TRIALS):
            lengths = random.integers(1, 30, size=60)
            per_document = random.normal(4.0, 1.0, size=60)
            units = np.repeat(per_document, lengths)
            nats = np.repeat(per_document if alike else np.full(60, 4.0), lengths) + 0.01 * random.normal(
                size=len(units)
            )
            found = mean_interval(ratio_values(nats, units)), mean_interval(nats / units.mean())
            missed[alike] += [one is None or not one.low < 1.0 < one.high for one in found]
    assert (missed[:, 0] / TRIALS < 0.1).all()
    assert missed[0, 1] / TRIALS > 0.5


def test_a_ratio_is_that_of_the_sums() -> None:
    nats, units = np.array([1.0, 2.0, 6.0]), np.array([1.0, 1.0, 2.0])
    assert ratio_values(nats, units).mean() == pytest.approx(9.0 / 4.0)
    np.testing.assert_allclose(ratio_values(nats, np.ones(3)), nats)


def test_an_infinite_loss_has_no_error() -> None:
    assert np.isnan(standard_error(np.array([1.0, np.inf, 2.0])) or 0.0)


def test_the_error_of_independent_windows_is_that_of_the_textbook() -> None:
    random = np.random.default_rng(2)
    squares = [(standard_error(random.normal(2.0, 0.5, 1000)) or 0.0) ** 2 for _ in range(TRIALS)]
    assert np.sqrt(np.mean(squares)) == pytest.approx(0.5 / 1000**0.5, rel=0.08)


def test_one_window_has_no_interval() -> None:
    assert mean_interval(np.array([2.0])) is None
    assert standard_error(np.array([2.0])) is None


def test_windows_that_agree_leave_no_doubt() -> None:
    assert standard_error(np.full(7, 3.0)) == 0.0


def test_so_many_standard_errors_are_the_interval_of_many_windows() -> None:
    values = np.random.default_rng(3).normal(size=1000)
    interval, error = mean_interval(values), standard_error(values)
    assert interval is not None
    assert error is not None
    assert interval.high - interval.low == pytest.approx(2.0 * WIDE * error, rel=2e-3)
