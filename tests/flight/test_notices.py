"""Signals that ask for a stop, and what a launch demands of the disk: a sealed checkpoint before power ends."""

import signal

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
    notices = Notices(60.0)
    try:
        signal.raise_signal(signal.SIGINT)
        assert notices.pending is not None
        assert notices.pending.kind == "SIGINT"
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    finally:
        notices.release()
