"""How sure a mean over held-out windows is."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

RESAMPLES = 2000


class Interval(NamedTuple):
    """95 % interval and standard error of a mean, in the unit of the values."""

    low: float
    high: float
    standard_error: float


def mean_interval(values: Float[np.ndarray, " n"], seed: int = 0) -> Interval | None:
    """Bootstrap interval of the mean of `values`, which stand in the order of the text; None for fewer than two.

    Neighbouring windows come from the same document and are hard or easy together, so blocks of about n^(1/3)
    neighbours are drawn, not single windows (circular block bootstrap: Politis & Romano 1992). Drawing single
    windows would call the mean surer than it is.
    """
    n = len(values)
    if n < 2:
        return None
    length = max(1, round(n ** (1 / 3)))
    blocks = -(-n // length)
    sums = np.cumsum(np.concatenate([[0.0], values, values[:length]]), dtype=np.float64)
    block_means = (sums[length:] - sums[:-length])[:n] / length
    random = np.random.default_rng(seed)
    means = np.array([block_means[random.integers(n, size=blocks)].mean() for _ in range(RESAMPLES)])
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(low), float(high), float(means.std(ddof=1)))
