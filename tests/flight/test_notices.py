"""Signals that ask for a stop, and what a launch demands of the disk: a sealed checkpoint before power ends."""

import ctypes
import signal
import threading
import time

import pytest

from pipeline.config import BadInput, load
from pipeline.flight.notices import Notices, require_notice

CONFIG = load(["--config", "configs/demo.yaml"])


def test_a_disk_that_is_too_slow_is_refused_and_one_that_stalled_once_is_not() -> None:
    for fine in ((None,), (1.0,), (41.0, None), (None, 41.0), (41.0, 0.5), (0.5, 41.0)):
        require_notice(CONFIG, *fine)
    for slow in ((41.0,), (41.0, 32.0)):
        with pytest.raises(BadInput, match=rf"checkpoint.notice_s: .* takes {min(slow):.1f} s here .*; use a faster"):
            require_notice(CONFIG, *slow)


def test_a_first_ctrl_c_asks_for_a_seal_and_a_second_ends_it_at_once() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background ignores it
    notices = Notices(60.0)
    try:
        signal.raise_signal(signal.SIGINT)
        assert notices.pending is not None
        assert notices.pending.kind == "SIGINT"
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    finally:
        notices.release()
        signal.signal(signal.SIGINT, before)


def test_a_notice_counts_from_the_signal_and_not_from_when_python_hears_of_it() -> None:
    """What the ledger says of time left is how anybody knows that notices are met."""
    before_s = time.monotonic()
    notices = Notices(60.0)
    try:
        threading.Timer(0.05, signal.raise_signal, [signal.SIGTERM]).start()
        ctypes.CDLL(None).usleep(600_000)  # as a computation, and a thread that gets the signal does not end it
        assert notices.pending is not None
        assert time.monotonic() - before_s - 0.3 < 60.0 - notices.pending.seconds_left < time.monotonic() - before_s
        left_s = notices.pending.seconds_left
        signal.raise_signal(signal.SIGHUP)
        assert notices.pending == ("SIGTERM", pytest.approx(left_s, abs=0.3)), "the first counts"
    finally:
        notices.release()
    assert signal.set_wakeup_fd(-1) == -1, "as it was"


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_what_nohup_or_a_script_has_ignored_stops_nothing(number: signal.Signals) -> None:
    before = signal.signal(number, signal.SIG_IGN)
    notices = Notices(20.0)
    try:
        signal.raise_signal(number)
        assert notices.pending is None
    finally:
        notices.release()
        assert signal.signal(number, before) == signal.SIG_IGN
