"""What may still be written to a flash device today: its cells wear out by bytes.

A token bucket: credit grows evenly through the day and every save is charged to it. The bucket holds a sixteenth of the
day's budget (an orbit's share in low orbit), and fills at fifteen sixteenths of it a day, so that no span of 24 hours
sees more than the budget of optional saves, as long as one fits in that sixteenth. A save that must be made is charged
too, below zero if need be: the optional ones after it wait until the debt is paid.
"""

from dataclasses import dataclass

DAY_S = 86400.0
BURST = 1 / 16  # of the day's budget


@dataclass(frozen=True)
class Allowance:
    """Credit at one moment. `budget_bytes` [bytes a day]."""

    budget_bytes: float
    credit_bytes: float
    at_s: float

    @classmethod
    def full(cls, budget_bytes: float, at_s: float) -> "Allowance":
        return cls(budget_bytes, BURST * budget_bytes, at_s)

    @property
    def _bytes_per_s(self) -> float:
        return (1.0 - BURST) * self.budget_bytes / DAY_S

    def at(self, time_s: float, size: float = 0.0) -> "Allowance":
        """The credit at `time_s`; a clock that was set back earns nothing by that. The bucket always has room for one
        save of `size` [bytes]."""
        most = max(BURST * self.budget_bytes, size)
        earned = self._bytes_per_s * max(0.0, time_s - self.at_s)
        return Allowance(self.budget_bytes, min(most, self.credit_bytes + earned), time_s)

    def charge(self, size: float, time_s: float) -> "Allowance":
        """After a save of `size` [bytes] at `time_s`."""
        now = self.at(time_s, size)
        return Allowance(now.budget_bytes, now.credit_bytes - size, now.at_s)

    def wait_s(self, size: float, time_s: float) -> float:
        """How long from `time_s` until an optional save of `size` [bytes] is paid for [s]; 0 when it is."""
        return max(0.0, size - self.at(time_s, size).credit_bytes) / self._bytes_per_s
