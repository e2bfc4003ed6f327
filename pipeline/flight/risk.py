"""How much of the risk along the track lies between two moments: what the save policy measures its intervals in."""

from functools import lru_cache

import numpy as np
from jaxtyping import Float

from pipeline.orbit import Timeline
from pipeline.orbit.timeline import DAY_S


class Risk:
    """Weighted seconds, ∫ √h dt, with h the rate of upsets relative to the quiet part of the orbit (see
    `checkpoint.policy`)."""

    def __init__(self, timeline: Timeline):
        self._timeline = timeline
        self._day = lru_cache(maxsize=4)(self._summed)

    def between(self, begin_s: float, end_s: float) -> float:
        """From one mission second to a later one; 0 if it is not later."""
        total, at_s = 0.0, begin_s
        while at_s < end_s:
            number = Timeline.number(at_s)
            until_s = min(end_s, (number + 1) * DAY_S)
            time_s, summed = self._day(number)
            before, after = np.interp([at_s, until_s], time_s, summed)
            total, at_s = total + float(after - before), until_s
        return total

    def _summed(self, number: int) -> tuple[Float[np.ndarray, " time"], Float[np.ndarray, " time"]]:
        day = self._timeline.day(number)
        weight = np.sqrt(day.hazard)
        return day.time_s, np.concatenate([[0.0], np.cumsum(weight[1:] + weight[:-1]) * 0.5 * day.step_s])
