"""Which losses and gradient norms stand out from those just before them."""

import numpy as np
from jaxtyping import Bool, Float

WINDOW = 64  # steps whose scatter a step is measured by
RECENT = 16  # the last of them, whose level it is measured against
# Upwards, in robust standard deviations. Losses of sound runs stayed within 4.3 of them. Gradient norms have a heavy
# tail: over 8 13 times in 3,300 steps, over 20 three times (measured on Python's documentation, two tokenizers); while
# a flip in the upper bits of an exponent multiplies a gradient by 2^16 and more.
LOSS_LIMIT, NORM_LIMIT = 6.0, 20.0
_NORMAL = 1.4826  # from median absolute deviation to standard deviation, of a normal distribution
_LEAST = 0.01  # of the level: less scatter than this is no measure

Series = Float[np.ndarray, " step"]


def outliers(before: Series, values: Series, limit: float) -> Bool[np.ndarray, " step"]:
    """Whether each value is not finite, or more than `limit` deviations over those before it.

    Medians, because what they look for must not move them; and of differences between neighbours, because a loss that
    falls steeply, as at the start of a run, would hide anything behind its own fall. None of the first WINDOW values
    of a run is called an outlier for its size.
    """
    series = np.concatenate([before, values])
    found = ~np.isfinite(values)
    for i in range(len(values)):
        window = _finite(series[: len(before) + i])
        if len(window) == WINDOW and not found[i]:
            found[i] = _height(window, values[i]) > limit
    return found


def remember(before: Series, values: Series) -> Series:
    """What the next steps are measured against."""
    return _finite(np.concatenate([before, values]))


def _finite(series: Series) -> Series:
    """The last WINDOW values that are finite."""
    return series[np.isfinite(series)][-WINDOW:]


def _height(window: Series, value: float) -> float:
    """Over the level, in robust standard deviations."""
    level = np.median(window[-RECENT:])
    scatter = _NORMAL * np.median(np.abs(np.diff(window))) / np.sqrt(2.0)
    return float((value - level) / max(scatter, _LEAST * abs(level), np.finfo(np.float32).tiny))
