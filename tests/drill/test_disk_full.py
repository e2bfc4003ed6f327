"""A run that ends on a full disk: whenever it says so, it is an outage, which the next launch gets over."""

from collections.abc import Callable
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.drill import disk_full as module
from pipeline.drill.disk_full import CANNOT_END, SAYS, disk_full


@pytest.mark.parametrize("when", ["while the disk is full", "as it gets room", "when it has room"])
def test_a_run_that_gives_up_is_started_again_whenever_that_is(when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lines, stops = [SAYS], list[str]()

    @contextmanager
    def full() -> Any:
        yield
        if when == "as it gets room":
            lines.append(CANNOT_END)

    def wait(until: Callable[[], bool]) -> bool:
        """Nothing more is sealed: the process says why, and ends."""
        if not until():
            lines.append(CANNOT_END)
        return until()

    launch = SimpleNamespace(said=lambda: " ".join(lines), wait=wait)
    longest_s = 1e9 if when == "while the disk is full" else 0.0
    disk, dice = SimpleNamespace(full=full), SimpleNamespace(random=lambda: 1.0, uniform=lambda *_: longest_s)
    run: Any = SimpleNamespace(disk=disk, newest=100, start=lambda: launch, wait=wait, stopped=stops.append, dice=dice)
    monkeypatch.setattr(module, "reach_training", lambda run: True)
    assert disk_full(run)
    assert stops == ["disk-full"]
