"""How often a control arm is struck, and how long it is waited for."""

import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.config import RunFailed
from pipeline.drill import control as controls
from pipeline.drill.control import MOST_FAULTS, OVERWRITE, Bench, Saver, control


@pytest.mark.parametrize(
    ("losses", "faults", "lost"),
    [("10", 2, 1), ("11", 2, 2), ("00010", 4, 1), ("0" * 50, MOST_FAULTS, 0)],
)
def test_an_arm_that_has_lost_nothing_is_struck_again_until_it_has_been_often_enough(
    losses: str, faults: int, lost: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = iter(losses)
    monkeypatch.setitem(controls.FAULTS, "kill", (OVERWRITE, lambda bench, arm: next(told) == "1"))
    (found,) = control(["kill"], 2, Bench(tmp_path, None, random.Random(0), {}, 0))
    assert (found.faults, found.lost) == (faults, lost)


@pytest.fixture
def saver(tmp_path: Path) -> Iterator[Saver]:
    """At work."""
    started = Saver(OVERWRITE, tmp_path / "at", 1 << 10, {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])})
    started.until("sealed", 1)
    yield started
    started.kill()


def test_after_ctrl_c_no_thread_holds_up_the_end_of_the_drill(saver: Saver, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(saver, "drain", interrupt)
        with pytest.raises(KeyboardInterrupt):
            saver.ended()
    assert all(thread.finished.is_set() for thread in threading.enumerate() if isinstance(thread, threading.Timer))


def test_an_arm_that_hangs_is_ended_and_named(saver: Saver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controls, "HANG_S", 0.2)
    with pytest.raises(RunFailed, match="or hung"):
        saver.until("sealed", 10**9)
