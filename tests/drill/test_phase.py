"""What a launch is doing is told from what anybody can see."""

import os
from pathlib import Path

import pytest

from pipeline.drill.phase import PHASES, phase

FIRST = (("resume", 0), ("first_step", 0))


@pytest.mark.parametrize(
    ("seen", "wanted"),
    [
        ((), "imports"),
        ((("restored", 0), ("resume", 0), ("mode", 0)), "compilation"),
        ((*FIRST, ("step", 7)), "training"),
        ((*FIRST, ("step", 100)), "evaluation"),
        ((*FIRST, ("step", 100), ("validation", 100), ("telemetry", 100)), "training"),
        ((*FIRST, ("step", 250)), "evaluation"),
        ((*FIRST, ("step", 250), ("validation", 250)), "closing"),
        ((*FIRST, ("step", 250), ("validation", 250), ("done", 250)), "closing"),
    ],
)
def test_the_ledger_tells(seen: tuple[tuple[str, int], ...], wanted: str, tmp_path: Path) -> None:
    assert phase(os.getpid(), tmp_path, tmp_path / "corpus", dict(seen), seen[-1][1] if seen else 0, 100, 250) == wanted
    assert wanted in PHASES


def test_files_tell_before_there_is_a_line(tmp_path: Path) -> None:
    (tmp_path / "checkpoints" / "7.saving").mkdir(parents=True)
    (tmp_path / "corpus").mkdir()
    with (tmp_path / "corpus" / "tokens").open("w"):
        assert phase(os.getpid(), tmp_path, tmp_path / "corpus", {}, 0, 100, 250) == "corpus"
        with (tmp_path / "checkpoints" / ".lock").open("w"):
            assert phase(os.getpid(), tmp_path, tmp_path / "corpus", {}, 0, 100, 250) == "restore"
    assert phase(os.getpid(), tmp_path, tmp_path / "corpus", dict(FIRST), 0, 100, 250) == "saving"
