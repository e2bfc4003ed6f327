"""The environment of a mission of any length: days computed when first asked for, always on the same grid."""

from collections.abc import Sequence
from functools import lru_cache

from pipeline.config.mission import Station
from pipeline.orbit.elements import Track
from pipeline.orbit.environment import Environment, environment

DAY_S = 86400.0


class Timeline:
    """Day k covers mission seconds [86,400 k, 86,400 (k + 1)].

    The grid does not depend on when a process started, so that a resumed run sees the bits that an uninterrupted one
    saw.
    """

    step_s = 10.0  # between two samples

    def __init__(self, track: Track, stations: Sequence[Station] = ()) -> None:
        self.track = track
        self.stations = stations
        self.day = lru_cache(maxsize=64)(self._day)
        self.span = lru_cache(maxsize=4)(self._span)

    @staticmethod
    def number(time_s: float) -> int:
        """The day that a mission second falls in."""
        return int(time_s // DAY_S)

    def light(self, time_s: float) -> float:
        """Visible share of the Sun's disk at one moment, linear between samples."""
        number = self.number(time_s)
        light = self.day(number).illumination
        sample = (time_s - number * DAY_S) / self.step_s
        before = int(sample)
        after = min(before + 1, len(light) - 1)
        return float(light[before] + (light[after] - light[before]) * (sample - before))

    def _span(self, start_s: float, duration_s: float) -> Environment:
        """Any stretch on a grid of its own, for planning."""
        return environment(self.track, start_s, duration_s, self.step_s, self.stations)

    def _day(self, number: int) -> Environment:
        return environment(self.track, number * DAY_S, DAY_S, self.step_s, self.stations)
