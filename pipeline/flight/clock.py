"""Mission time: seconds since the start of the orbit's clock."""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    def now(self) -> float:
        """Mission time [s]."""
        ...

    def spend(self, seconds: float) -> None:
        """Let `seconds` of modelled work or waiting pass."""
        ...


class SimulatedClock:
    """Advances by modelled time only: an eclipse of half an hour costs no real second, and a run is repeatable."""

    def __init__(self, now_s: float = 0.0):
        self._now_s = now_s

    def now(self) -> float:
        return self._now_s

    def spend(self, seconds: float) -> None:
        self._now_s += seconds


class RealClock:
    """This machine's clock against the orbit's start. Work takes the time it takes; only waiting is slept."""

    def __init__(self, start: datetime):
        self._offset_s = (datetime.now(UTC) - start).total_seconds() - time.monotonic()

    def now(self) -> float:
        return time.monotonic() + self._offset_s

    def spend(self, seconds: float) -> None:
        time.sleep(seconds)
