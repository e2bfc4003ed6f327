"""What announces that the process will be stopped. Polled wherever time passes."""

import signal
from types import FrameType
from typing import NamedTuple


class Notice(NamedTuple):
    """A sealed checkpoint must exist within `seconds_left`."""

    kind: str  # SIGTERM | SIGINT
    seconds_left: float


class Interrupted(Exception):
    """Raised by `Notices.check` where work has nothing of its own to save."""


class Notices:
    """Takes over SIGTERM and SIGINT. The first asks for a sealed stop; a SIGINT after it stops at once."""

    def __init__(self, grace_s: float = 30.0):
        self.pending: Notice | None = None
        self._grace_s = grace_s
        self._before = {number: signal.signal(number, self._receive) for number in (signal.SIGTERM, signal.SIGINT)}

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.pending and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.pending = self.pending or Notice(signal.Signals(number).name, self._grace_s)

    def check(self) -> None:
        """Raises Interrupted if a notice is pending: for data preparation, before there is a state to save."""
        if self.pending:
            raise Interrupted(self.pending.kind)

    def release(self) -> None:
        """Gives the signals back to whoever had them."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
