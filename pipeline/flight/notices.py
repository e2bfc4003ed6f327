"""What announces that the process will be stopped. Polled wherever time passes."""

import math
import os
import signal
import threading
import time
from types import FrameType
from typing import NamedTuple

from pipeline.config import Config, Refused

# SIGPWR is how Linux daemons of power supplies say that the mains failed; SIGHUP is a terminal that was closed.
KINDS = {
    signal.SIGTERM: "SIGTERM",
    signal.SIGINT: "SIGINT",
    signal.SIGHUP: "SIGHUP",
    signal.SIGPWR: "POWER_LOSS",
}
SAFE = "SAFE"  # how the reason of a directive, and of a mode, begins that the watchdog gave


class Notice(NamedTuple):
    """Power, or this process, will end: a sealed checkpoint must exist within `seconds_left`."""

    kind: str  # from outside SIGTERM, SIGINT, SIGHUP, POWER_LOSS; from within UMBRA, LOW_CHARGE, HOT, SAFE, PAST_END
    seconds_left: float


class Interrupted(Exception):
    """Raised by `Notices.check` where work has nothing of its own to save."""


class Notices:
    """Takes over SIGTERM, SIGINT, SIGHUP and SIGPWR. The first asks for a sealed stop; a SIGINT after it stops at once.

    A SIGHUP or SIGINT that is ignored stays so: that is how nohup lets a run outlive its terminal, and a script one in
    the background the Ctrl-C that is meant for the script.
    """

    def __init__(self, seconds: float):
        """`seconds`: from a signal to the end of power or process, as whoever sends it promises [s]."""
        self._seconds, self._received_s = seconds, math.inf
        self._kind: str | None = None
        spared = [number for number in (signal.SIGHUP, signal.SIGINT) if signal.getsignal(number) == signal.SIG_IGN]
        self._before = {number: signal.signal(number, self._receive) for number in KINDS if number not in spared}
        reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        threading.Thread(target=self._listen, args=(reader,), daemon=True, name="notices").start()
        self._wakeup = signal.set_wakeup_fd(self._writer)

    def _listen(self, reader: int) -> None:
        """Takes the time of a signal as it comes: its handler is called when what the device computes is done."""
        with os.fdopen(reader, "rb", buffering=0) as numbers:
            while number := numbers.read(1):
                if number[0] in KINDS:
                    self._received_s = min(self._received_s, time.monotonic())

    @property
    def pending(self) -> Notice | None:
        """The notice that came first, with what is left of its time now."""
        if self._kind is None:
            return None
        return Notice(self._kind, self._seconds - (time.monotonic() - self._received_s))

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._kind and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not self._kind:
            self._received_s = min(self._received_s, time.monotonic())
            self._kind = KINDS[signal.Signals(number)]

    def check(self) -> None:
        """Raises Interrupted if a notice is pending: for data preparation, before there is a state to save."""
        if self._kind:
            raise Interrupted(self._kind)

    def release(self) -> None:
        """Gives the signals back to whoever had them."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        try:
            signal.set_wakeup_fd(self._wakeup)
        except OSError:  # whose it was has closed it meanwhile
            signal.set_wakeup_fd(-1)
        os.close(self._writer)


def require_notice(config: Config, *seal_s: float | None) -> None:
    """
    Args:
        seal_s: what sealing took, as measured in more ways than one [s], None where it was not: a disk that stalled
            once is not a slow disk, and a run that was grounded would never measure it again.

    Raises:
        Refused: sealing takes longer than power lasts after a notice.
    """
    from pipeline.plan.stops import NOTICE_S  # at launch, notices are received long before planning is imported

    shortest_s = min(config.checkpoint.notice_s, NOTICE_S)
    known = [seconds for seconds in seal_s if seconds is not None]
    if len(known) == len(seal_s) and min(known) > shortest_s:
        raise Refused(
            f"checkpoint.notice_s: {config.checkpoint.notice_s:g}, a planned stop has {NOTICE_S:g} s of notice, and "
            f"sealing a checkpoint takes {min(known):.1f} s here (measured); use a faster disk, or a smaller model"
        )
