"""What announces that the process will be stopped. Polled wherever time passes."""

import signal
from types import FrameType


class Interrupted(Exception):
    """Raised by `Notices.check` where work has nothing of its own to save."""


class Notices:
    """Takes over SIGTERM and SIGINT. The first asks for a sealed stop; a SIGINT after it stops at once."""

    def __init__(self) -> None:
        self.pending: str | None = None  # SIGTERM or SIGINT
        self._before = {number: signal.signal(number, self._receive) for number in (signal.SIGTERM, signal.SIGINT)}

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.pending and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.pending = self.pending or signal.Signals(number).name

    def check(self) -> None:
        """Raises Interrupted if a notice is pending: for data preparation, before there is a state to save."""
        if self.pending:
            raise Interrupted(self.pending)

    def release(self) -> None:
        """Gives the signals back to whoever had them."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
