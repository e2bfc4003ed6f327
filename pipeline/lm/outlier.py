"""Which losses and gradient norms stand out from those just before them."""

import numpy as np
from jaxtyping import Bool, Float

WINDOW = 64  # steps before a step that it is measured against
# In units of a robust standard deviation, upwards. Losses of a sound run stay within 4 of them. Gradient norms have a
# heavy tail (over 8 once in 200 to 1,400 steps, over 20 less than once in 900, measured on Python's documentation),
# while a flip in the exponent of a gradient that matters multiplies it by 2^16 and more.
LOSS_LIMIT, NORM_LIMIT = 8.0, 20.0
_NORMAL = 1.4826  # from median absolute deviation to standard deviation, of a normal distribution
_LEAST = 0.01  # of the median: less spread than this is no measure


def outliers(
    before: Float[np.ndarray, " past"], values: Float[np.ndarray, " steps"], limit: float
) -> Bool[np.ndarray, " steps"]:
    """Whether each value is not finite, or more than `limit` deviations over the median of the WINDOW before it.

    Median and median absolute deviation, because what they look for must not move them. None of the first WINDOW
    values of a run is called an outlier for its size.
    """
    series = np.concatenate([before, values])
    found = ~np.isfinite(values)
    for i in range(len(values)):
        window = _finite(series[: len(before) + i])
        if len(window) == WINDOW and not found[i]:
            found[i] = _height(window, values[i]) > limit
    return found


def remember(before: Float[np.ndarray, " past"], values: Float[np.ndarray, " steps"]) -> Float[np.ndarray, " past"]:
    """What the next steps are measured against."""
    return _finite(np.concatenate([before, values]))


def _finite(series: Float[np.ndarray, " past"]) -> Float[np.ndarray, " past"]:
    """The last WINDOW values that are finite."""
    return series[np.isfinite(series)][-WINDOW:]


def _height(window: Float[np.ndarray, " past"], value: float) -> float:
    """Over the window's median, in robust standard deviations."""
    middle = np.median(window)
    spread = _NORMAL * np.median(np.abs(window - middle))
    return float((value - middle) / max(spread, _LEAST * abs(middle), np.finfo(np.float32).tiny))
