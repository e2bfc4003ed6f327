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
    finite = np.isfinite(series)
    earlier = (np.cumsum(finite) - finite)[len(before) :]  # finite values before each
    found = ~finite[len(before) :]
    judged = ~found & (earlier >= WINDOW)
    if judged.any():
        windows = np.lib.stride_tricks.sliding_window_view(series[finite], WINDOW)[earlier[judged] - WINDOW]
        found[judged] = _heights(windows, values[judged]) > limit
    return found


def remember(before: Series, values: Series) -> Series:
    """What the next steps are measured against: the last WINDOW values that are finite."""
    series = np.concatenate([before, values])
    return series[np.isfinite(series)][-WINDOW:]


def _heights(windows: Float[np.ndarray, "step window"], values: Series) -> Series:
    """Of each value over the level of its window, in robust standard deviations."""
    level = np.median(windows[:, -RECENT:], axis=1)
    scatter = _NORMAL * np.median(np.abs(np.diff(windows)), axis=1) / np.sqrt(2.0)
    return (values - level) / np.maximum(np.maximum(scatter, _LEAST * np.abs(level)), np.finfo(np.float32).tiny)
