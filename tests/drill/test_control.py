"""How often a control arm is struck."""

import random
from pathlib import Path

import pytest

from pipeline.drill import control as controls
from pipeline.drill.control import MOST_FAULTS, Bench, control


@pytest.mark.parametrize(
    ("losses", "faults", "lost"),
    [("10", 2, 1), ("11", 2, 2), ("00010", 4, 1), ("0" * 50, MOST_FAULTS, 0)],
)
def test_an_arm_that_has_lost_nothing_is_struck_again_until_it_has_been_often_enough(
    losses: str, faults: int, lost: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = iter(losses)
    monkeypatch.setitem(controls.FAULTS, "kill", (controls.OVERWRITE, lambda bench, arm: next(told) == "1"))
    (found,) = control(["kill"], 2, Bench(tmp_path, None, random.Random(0), {}, 0))
    assert (found.faults, found.lost) == (faults, lost)
