"""A run whose disk is lost goes on from its copies on the second device; without a second device it just goes on."""

import shutil
from pathlib import Path

import pytest
from launching import final_bits, ledger

import train
from pipeline.checkpoint import layout
from pipeline.config import dump_yaml, load


@pytest.fixture
def command(tiny: Path, tmp_path: Path) -> list[str]:
    (tmp_path / "second").mkdir()
    size = ["--budget.orbits", "null", "--budget.steps", "60", "--train.eval_every", "20", "--train.eval_batches", "2"]
    where = ["--run_dir", str(tmp_path / "run"), "--checkpoint.mirror_dir", str(tmp_path / "second")]
    return ["--config", str(tiny), *size, "--checkpoint.interval_s", "20", *where, "--json"]


def test_a_run_whose_disk_is_lost_ends_with_the_same_bits_from_its_copies(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, second = tmp_path / "run", tmp_path / "second/run"
    assert train.main(command) == 0
    whole, copies = final_bits(run), layout.steps(second / "checkpoints")
    assert copies[-1] == 60
    for lost in run.iterdir():
        if lost.name != "cache":  # compiled programs: to save time here
            shutil.rmtree(lost) if lost.is_dir() else lost.unlink()
    left = next(step for step in copies if 0 < step < 60)
    for step in copies[copies.index(left) + 1 :]:
        shutil.rmtree(second / "checkpoints" / str(step))

    assert train.main([*command, "--seed", "1"]) == 2, "the copies are of another run"
    assert "seed 1 (was 0)" in capsys.readouterr().err
    shutil.move(second.parent, tmp_path / "away")
    assert train.main(command) == 2, "nobody knows whether there are copies"
    assert "checkpoint.mirror_dir: " in capsys.readouterr().err
    assert not layout.steps(run / "checkpoints")
    shutil.move(tmp_path / "away", second.parent)

    assert train.main(command) == 0
    assert ledger(run, "resume")[0]["step"] == left
    assert [event["checkpoint"] for event in ledger(run, "repaired")] == [left]
    assert final_bits(run) == whole


def test_a_run_whose_second_device_is_lost_trains_on_and_says_so(command: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text(dump_yaml(load(command[:-1])))  # it was launched before
    shutil.rmtree(tmp_path / "second")
    assert train.main(command) == 0
    (said,) = ledger(run, "mirror_failed")
    assert "is not there; mount it" in said["reason"]
    assert layout.steps(run / "checkpoints")[-1] == 60
