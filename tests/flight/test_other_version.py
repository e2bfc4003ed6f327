"""Software is replaced in mid-mission, and sometimes put back: what one version left, the other takes up, or refuses in
one line and leaves as it is."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import pytest
from launching import ledger
from test_mission import mission
from variations import slow
from xxhash import xxh3_128_hexdigest

import train
from pipeline.checkpoint import layout, restore, seal, verify
from pipeline.config import BadInput
from pipeline.flight.recorded import _HASH, CONFIG, recorded
from pipeline.flight.spacecraft import KEPT


@pytest.fixture
def command(tiny: Path, tmp_path: Path) -> list[str]:
    """Of a run that is done."""
    size = ["--budget.orbits", "null", "--budget.steps", "20"]
    command = ["--config", str(tiny), "--run_dir", str(tmp_path / "run"), *size, "--json"]
    assert train.main(command) == 0
    return command


def written_with(run: Path, old: str, new: str) -> None:
    """config.yaml as another version would have written it."""
    text = (run / CONFIG).read_text().rpartition(_HASH)[0]
    assert old in text
    text = text.replace(old, new, 1)
    (run / CONFIG).write_text(f"{text}{_HASH}{xxh3_128_hexdigest(text.encode())}\n")


def sealed_with(run: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Every checkpoint, what is beside its arrays changed, under a new SEAL."""
    for step in layout.steps(run / "checkpoints"):
        here = layout.path(run / "checkpoints", step)
        leaves, meta = seal.read(here, step).leaves, json.loads((here / restore.META).read_bytes())
        change(meta)
        (here / restore.META).write_text(json.dumps(meta))
        (here / seal.NAME).unlink()
        seal.write(here, step, leaves)


def test_a_rule_that_came_later_stops_no_run_whose_launch_keeps_to_it(command: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    full_w = recorded(run).gpu.curve[-1][1]
    written_with(run, f"idle_w: {recorded(run).gpu.idle_w}", f"idle_w: {full_w + 1}")  # once it might
    with pytest.raises(BadInput, match=r"gpu.idle_w: .*; use the version that wrote it"):
        recorded(run)
    assert train.main(command) == 0
    assert recorded(run) is not None, "written anew"


def test_a_key_that_is_not_known_is_named_and_nothing_is_called_damaged(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    written_with(run, "model:\n", "model:\n  newer: 1\n")
    capsys.readouterr()
    for words in (command, ["downlink", "pack", str(run), "--out", str(tmp_path / "out")]):
        assert train.main(words) == 2
        said = capsys.readouterr().err
        assert f"{run}/config.yaml: not as this version of Dayside has it: model.newer: 1: " in said
        assert "use the version that wrote it" in said
    assert train.main(["verify", str(run)]) == 0
    assert "copies on a second device were not checked" in capsys.readouterr().err

    (run / CONFIG).unlink()
    sealed_with(run, lambda meta: meta["config"]["model"].update(newer=1))
    assert train.main(command) == 2
    assert "the configuration in its checkpoints is not as this version of Dayside has it" in capsys.readouterr().err
    assert train.main(["verify", str(run)]) == 1
    assert capsys.readouterr().err.endswith(f"{run}/config.yaml: lost\n")


@pytest.mark.parametrize(
    ("section", "kept", "named"),
    [
        ("progress", {"newer": 1}, "progress.newer"),
        ("spacecraft", {"payload": [1.0] * 9}, "spacecraft: "),
        *slow(
            ("progress", {"cooldown": [1, 2, 3]}, "progress: "),
            ("spacecraft", {"newer": 1}, "spacecraft.newer"),
            ("spacecraft", {"mode": 9}, "spacecraft: 9 is not a valid Mode"),
        ),
    ],
)
def test_what_a_newer_version_keeps_and_this_one_does_not_know_is_not_left_out(
    section: str,
    kept: dict[str, Any],
    named: str,
    command: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run, before = tmp_path / "run", {}
    sealed_with(run, lambda meta: (before.update(meta[section]), meta[section].update(kept)))
    capsys.readouterr()
    assert train.main(command) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"train.py run: checkpoint: {named}")
    assert said.endswith("not as this version of Dayside keeps it; go on with the one that wrote it")
    assert not any(problems for _, problems in verify(run))
    sealed_with(run, lambda meta: meta.update({section: before}))
    assert train.main(command) == 0


def test_what_is_kept_of_the_satellite_is_known() -> None:
    _, craft, _ = mission()
    assert set(craft.as_json()) == KEPT


def test_who_goes_on_under_other_software_is_told_so(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert train.main(command) == 0
    assert not ledger(run, "other_software"), "it is the same"
    sealed_with(run, lambda meta: meta["software"].update(jax="0.1"))
    capsys.readouterr()
    assert train.main(command[:-1]) == 0
    assert f"other software: jax 0.1, now {jax.__version__}: from here on the last bits need not be the same" in (
        capsys.readouterr().err
    )
    assert len(ledger(run, "other_software")) == 1
    sealed_with(run, lambda meta: meta.pop("software"))
    assert train.main(command) == 0, "a version that did not say"
    assert len(ledger(run, "other_software")) == 1
