"""Mission time: seconds since the start of the orbit's clock."""

import time
from datetime import UTC, datetime
from typing import Protocol

AHEAD_S = 2.0  # a clock that is disciplined gently never runs so far ahead; less than what telemetry is believed ahead


class Clock(Protocol):
    def now(self) -> float:
        """Mission time [s]."""
        ...

    def spend(self, seconds: float) -> None:
        """Let `seconds` of modelled work or waiting pass."""
        ...

    def follow(self) -> float:
        """Goes forward with this machine's clock where that has been set forward; returns by how much [s]."""
        ...


class SimulatedClock:
    """Advances by modelled time only: an eclipse of half an hour costs no real second, and a run is repeatable."""

    def __init__(self, now_s: float = 0.0):
        self._now_s = now_s

    def now(self) -> float:
        return self._now_s

    def spend(self, seconds: float) -> None:
        self._now_s += seconds

    def follow(self) -> float:
        return 0.0


class RealClock:
    """This machine's clock against the orbit's start. Work takes the time it takes; only waiting is slept.

    Between two calls of `follow`, no piece of work is measured by a clock that was set meanwhile.
    """

    def __init__(self, start: datetime):
        self._start = start
        self._offset_s = self._utc_s() - time.monotonic()

    def now(self) -> float:
        return time.monotonic() + self._offset_s

    def spend(self, seconds: float) -> None:
        time.sleep(seconds)

    def follow(self) -> float:
        ahead_s = self._utc_s() - self.now()
        if ahead_s < AHEAD_S:  # never back: what was done was done
            return 0.0
        self._offset_s += ahead_s
        return ahead_s

    def _utc_s(self) -> float:
        return (datetime.now(UTC) - self._start).total_seconds()
