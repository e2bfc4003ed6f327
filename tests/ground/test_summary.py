"""The closing table says what the ledger says."""

import json
import shutil
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pipeline.config import BadInput
from pipeline.ground.summary import show, summarise, table

VALIDATION = {
    "loss": 1.875,
    "standard_error": 0.0125,
    "bits_per_byte": 2.705,
    "bits_per_byte_error": 0.018,
    "windows": 1700,
}
TOTALS = {"tokens": 1536000, "orbits": 4.25, "eclipses": 4, "train_wh": 812.5, "train_s": 9000.0, "skipped": 0}


def event(kind: str, wall: float, step: int, **fields: Any) -> dict[str, Any]:
    return {"event": kind, "mission_s": 10.0 * wall, "step": step, "wall": wall} | fields


# Launched, killed after step 900, resumed from 800 an hour later, finished.
FIRST = [
    event("launch", 100.0, 0, unigram_loss=3.35, lost_steps=0),
    event("validation", 130.0, 500, **(VALIDATION | {"loss": 2.5})),
    event("sealed", 140.0, 900, checkpoint=800),
    event("step", 150.0, 900, loss=2.1),
]
SECOND = [
    event("resume", 3750.0, 800, unigram_loss=3.35, lost_steps=100),
    event("sealed", 3780.0, 1000, checkpoint=1000),
    event("validation", 3790.0, 1000, **VALIDATION),
    event("quarantined", 3791.0, 1000),
    event("sealed", 3800.0, 1000, checkpoint=1000),
    event("done", 3800.0, 1000, **TOTALS, lost_steps=100),
]


def written(console: Console) -> str:
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def shown(events: list[dict[str, Any]]) -> str:
    console = Console(width=80, file=StringIO())
    console.print(table(summarise(events)))
    return written(console)


def test_a_finished_run_shows_every_figure() -> None:
    text = shown(FIRST + SECOND)
    for line in (
        "validation loss   1.8750 ± 0.0125 nats per token",
        "unigram model     3.3500 nats per token",
        "bits per byte     2.7050 ± 0.0180",
        "steps             1,000",
        "lost steps        100 (computed again)",
        "tokens            1,536,000",
        "orbits            4.25",
        "eclipses          4",
        "energy            812.5 Wh for training (modelled)",
        "checkpoints       2 sealed, 1 quarantined",
        "wall time         1:40 in 2 launches",
    ):
        assert line in text, text


def test_the_hour_without_power_is_no_wall_time() -> None:
    assert summarise(FIRST + SECOND).wall_s == pytest.approx(100.0)


def test_mission_time_is_counted_from_the_first_launch_by_the_clock_as_it_is_set_now() -> None:
    assert summarise(FIRST + SECOND).mission_s == 37_000.0
    set_back = {"event": "clock_set", "mission_s": 0.0, "wall": 3760.0, "step": 800, "seconds": -37_600.0}
    after = [line | {"mission_s": line["mission_s"] - 37_600.0} for line in SECOND[1:]]
    assert summarise([*FIRST, SECOND[0], set_back, *after]).mission_s == 37_000.0
    assert summarise(SECOND).mission_s == 500.0, "of the other launch no line is left"


def test_what_the_store_does_before_and_after_a_launch_is_neither_its_time_nor_its_end() -> None:
    """A copy is opened before the first launch, a checkpoint restored before the second, one mirrored after the end."""
    opened, restored = event("mirror_opened", 90.0, 0), event("restored", 3749.0, 900, checkpoint=800)
    mirrored = event("mirrored", 3805.0, 1000, checkpoint=1000)
    summary = summarise([opened, *FIRST, restored, *SECOND, mirrored])
    assert (summary.wall_s, summary.ending) == (pytest.approx(100.0), "done")


def test_a_run_cut_short_shows_what_is_known_and_makes_up_nothing() -> None:
    text = shown(FIRST)
    assert "2.5000" in text
    assert "900" in text
    for absent in ("tokens  ", "orbits", "energy", "None", "nan"):
        assert absent not in text


def test_totals_of_an_earlier_stop_are_not_shown_for_a_later_launch() -> None:
    stopped = event("stopped", 160.0, 900, **TOTALS, lost_steps=0)
    assert "tokens" not in summarise([*FIRST, stopped, SECOND[0]]).totals
    assert summarise([*FIRST, stopped]).totals["tokens"] == 1536000


def test_token_files_have_no_bits_per_byte() -> None:
    unknown = event("validation", 3790.0, 1000, **(VALIDATION | {"bits_per_byte": None, "bits_per_byte_error": None}))
    assert "bits per byte" not in shown([*FIRST, unknown])


def test_a_validation_that_was_not_finite_says_so() -> None:
    figures = dict.fromkeys(("loss", "standard_error", "bits_per_byte", "bits_per_byte_error"))
    text = shown([*FIRST, event("validation", 3790.0, 1000, **(VALIDATION | figures))])
    assert "validation loss   not finite" in text
    assert "nan" not in text


def test_a_finished_run_ends_with_a_sample(run_dir: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run_dir, tmp_path / "copy"))
    (copy / "ledger.jsonl").write_text("".join(json.dumps(line) + "\n" for line in FIRST + SECOND))
    console = Console(width=80, file=StringIO())
    show(copy, console)
    text = written(console)
    assert text.splitlines()[0] == f"{copy}: done"
    assert "the " in text.split("wall time")[1]


def test_no_ledger_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no launch"):
        show(tmp_path, Console(quiet=True))
