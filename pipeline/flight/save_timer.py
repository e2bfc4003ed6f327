"""When the next periodic save is due: at the interval that costs least here and now, at the longest at the latest."""

import math
import time
from collections.abc import Callable

from pipeline.checkpoint import Store
from pipeline.checkpoint.policy import daly_s, wait_s
from pipeline.config.tree import Checkpoint
from pipeline.flight.clock import Clock
from pipeline.flight.risk import Risk

FIRST_S = 60.0  # until a save has been measured: the first shows what one costs, and that the disk takes it


class SaveTimer:
    """Counts from the first work that no save holds: a hold puts nothing at risk.

    What saves cost is measured by the wall's clock, and so is the time between faults of this machine. On the simulated
    clock, where a second of the wall lets minutes of the mission pass, spans of the mission are brought to the wall's
    measure by the pace since the last save. Saves change nothing that is computed and take no simulated time, so that
    neither depends on the machine.
    """

    def __init__(
        self,
        config: Checkpoint,
        store: Store,
        risk: Risk,
        clock: Clock,
        wall: Callable[[], float] = time.monotonic,
    ):
        self._config, self._store, self._risk, self._clock, self._wall = config, store, risk, clock, wall
        self._begun: tuple[float, float] | None = None  # mission and wall, when work began that no save holds

    def work_begins(self) -> None:
        """To be called before each piece of work."""
        if self._begun is None:
            self._begun = self._clock.now(), self._wall()

    def tried(self, started: bool) -> None:
        """A save holds all work so far; or it failed, and is tried again when the next is due, not at every chunk."""
        self._begun = None if started else (self._clock.now(), self._wall())

    def shift(self, seconds: float) -> None:
        """Mission time was set by so much."""
        if self._begun:
            self._begun = self._begun[0] + seconds, self._begun[1]

    def wait_s(self, stop_s: float | None) -> float:
        """How long until the next periodic save [mission s]; not above 0 when it is due.

        Args:
            stop_s: the next planned stop, which is sealed anyway [mission s]; None where none is in view.
        """
        if self._begun is None:
            return self._config.interval_s
        if self._store.wants_save:
            return 0.0
        begun_s, now_s = self._begun[0], self._clock.now()
        since_s, wall_s = now_s - begun_s, self._wall() - self._begun[1]
        longest_s = self._config.interval_s - max(since_s, wall_s)
        cost_s, seal_s = self._store.blocking_s, self._store.time_to_seal_s
        if cost_s is None or seal_s is None:
            return min(longest_s, FIRST_S - wall_s)
        if since_s <= 0.0 or wall_s <= 0.0:
            return longest_s
        pace = since_s / wall_s
        since = self._risk.between(begun_s, now_s)
        ahead = math.inf if stop_s is None else self._risk.between(now_s, stop_s - seal_s * pace)
        best_s = max(daly_s(cost_s, self._config.mtbf_s), seal_s)
        weighted_s = wait_s(since / pace, ahead / pace, best_s)
        return min(longest_s, weighted_s * pace * since_s / since)
