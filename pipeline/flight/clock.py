"""Mission time: seconds since the start of the orbit's clock."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

STRAYED_S = 2.0  # a clock that is disciplined gently is never so far away; less than what telemetry is believed ahead
SETTLED_S = 60.0  # a clock that was set is believed once it has stayed so for so long
BEHIND_S = 600.0  # so long a launch waits for a clock to be set that is behind the checkpoint


class Clock(Protocol):
    def now(self) -> float:
        """Mission time [s]."""
        ...

    def spend(self, seconds: float) -> None:
        """Let `seconds` of modelled work or waiting pass."""
        ...

    def strayed_s(self) -> float:
        """How far this machine's clock has been ahead of mission time for a while [s], negative where behind; 0 where
        it goes with it, or has not stayed so for long."""
        ...

    @property
    def unsettled(self) -> bool:
        """Whether this machine's clock was set so lately that nobody knows yet whether for good."""
        ...

    def shift(self, seconds: float) -> None:
        """Goes with this machine's clock, which was set by so much."""
        ...


class SimulatedClock:
    """Advances by modelled time only: an eclipse of half an hour costs no real second, and a run is repeatable."""

    def __init__(self, now_s: float = 0.0):
        self._now_s = now_s

    def now(self) -> float:
        return self._now_s

    def spend(self, seconds: float) -> None:
        self._now_s += seconds

    def strayed_s(self) -> float:
        return 0.0

    @property
    def unsettled(self) -> bool:
        return False

    def shift(self, seconds: float) -> None:
        raise NotImplementedError("nobody sets a simulated clock")


class RealClock:
    """This machine's clock against the orbit's start, as it was when last believed: it may be wrong for a moment. Work
    takes the time it takes; only waiting is slept.
    """

    def __init__(self, start: datetime):
        self._start = start
        self._offset_s = self._utc_s() - time.monotonic()
        self._strayed: tuple[float, float] | None = None  # since when [monotonic s], and by how much [s]

    def now(self) -> float:
        return time.monotonic() + self._offset_s

    def spend(self, seconds: float) -> None:
        time.sleep(seconds)

    def strayed_s(self) -> float:
        ahead_s = self._utc_s() - self.now()
        if abs(ahead_s) < STRAYED_S:
            self._strayed = None
            return 0.0
        if self._strayed is None or abs(ahead_s - self._strayed[1]) >= STRAYED_S:
            self._strayed = time.monotonic(), ahead_s
        return 0.0 if self.unsettled else ahead_s

    @property
    def unsettled(self) -> bool:
        return self._strayed is not None and time.monotonic() - self._strayed[0] < SETTLED_S

    def shift(self, seconds: float) -> None:
        self._offset_s += seconds
        self._strayed = None

    def read(self) -> float:
        """Believes this machine's clock at once, as long as nothing hangs on it; returns by how much it was set [s]."""
        before_s, self._offset_s = self._offset_s, self._utc_s() - time.monotonic()
        return self._offset_s - before_s

    def _utc_s(self) -> float:
        return (datetime.now(UTC) - self._start).total_seconds()


def wait_until_set(
    clock: RealClock, saved_s: float, told: Callable[[], float | None], wait: Callable[[str], None]
) -> float:
    """How far this machine's clock is behind the checkpoint, for good [s]; 0: it is not.

    A network or a GNSS receiver may set it soon, and is waited for. If nobody sets it, or telemetry goes by it too,
    then it was the clock of the checkpoint that was wrong.

    Args:
        saved_s: mission time of the checkpoint [s].
        told: mission time of the newest reading from outside, of none later than the clock [s].
        wait: lets a moment pass, for the reason given.
    """
    since_s = time.monotonic()
    before = told()  # by a feed that was there before, perhaps
    why = (
        f"mission.clock: this machine's clock is {saved_s - clock.now():.0f} s behind the checkpoint; waiting until it "
        f"is set, {BEHIND_S / 60.0:.0f} minutes at most"
    )
    while (behind_s := saved_s - clock.now()) > 0.0:
        if told() != before or time.monotonic() - since_s >= BEHIND_S:
            return behind_s
        wait(why)
        if abs(clock.read()) >= STRAYED_S:
            since_s = time.monotonic()
    return 0.0
