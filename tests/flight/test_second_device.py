"""A run whose disk is lost goes on from its copies on the second device; without a second device it just goes on."""

import os
import select
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest
from launching import final_bits, ledger, start

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


def let_go(pipe: Path) -> None:
    """Of who waits for it."""
    writer = os.open(pipe, os.O_RDWR)
    pipe.unlink()
    os.close(writer)


def test_a_launch_whose_second_device_hangs_goes_on_without_it_and_copies_when_it_answers(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, second = tmp_path / "run", tmp_path / "second/run"
    assert train.main(command) == 0
    shutil.rmtree(second)
    shutil.rmtree(run / "checkpoints/60")
    second.mkdir()
    os.mkfifo(second / "config.yaml")  # to open it waits for a writer, for ever
    monkeypatch.setattr("pipeline.flight.directory.ANSWER_S", 0.5)
    command += ["--train.log_every", "7"]

    def answer() -> None:
        while not ledger(run, "resume"):
            time.sleep(0.05)
        let_go(second / "config.yaml")

    answering = threading.Thread(target=answer)
    answering.start()
    assert train.main(command) == 0
    answering.join()
    said = [event["reason"] for event in ledger(run, "mirror_failed")]
    assert said == [f"checkpoint.mirror_dir: {tmp_path / 'second'} does not answer; mount it anew"]
    assert layout.steps(run / "checkpoints")[-1] == layout.steps(second / "checkpoints")[-1] == 60
    assert (second / "config.yaml").read_bytes() == (run / "config.yaml").read_bytes()
    assert load(["--config", str(run / "config.yaml")]).mirror == second


def test_a_hanging_second_device_of_a_new_run_fails_the_launch_and_a_signal_ends_the_wait(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = tmp_path / "second/run/config.yaml"
    pipe.parent.mkdir()
    (tmp_path / "third/run").mkdir(parents=True)
    os.mkfifo(pipe)
    monkeypatch.setattr("pipeline.flight.directory.ANSWER_S", 0.5)
    assert train.main(command) == 1
    assert capsys.readouterr().err == (
        f"train.py run: checkpoint.mirror_dir: {tmp_path / 'second'} does not answer, and may hold the only copies of "
        f"this run, for {tmp_path / 'run'} has no whole ones; mount it anew, or leave the key out to start anew\n"
    )
    assert not (tmp_path / "run").exists()
    (tmp_path / "run/checkpoints/7").mkdir(parents=True)  # nor is one of any use that does not say of which run it is
    assert train.main(command) == 1
    assert "does not answer" in capsys.readouterr().err
    let_go(pipe)

    os.mkfifo(other := tmp_path / "third/run/config.yaml")
    process = start(*command, "--checkpoint.mirror_dir", tmp_path / "third")
    asks = os.open(other, os.O_RDWR)
    os.write(asks, b"1")  # is read once the launch has asked, and that then waits for more
    while select.select([asks], [], [], 0)[0]:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    assert process.wait(60) == train.RESUMABLE
    assert time.monotonic() - began < 5, "and not when the wait is over"
    os.close(asks)


def test_copies_of_another_run_are_neither_taken_nor_touched(command: list[str], tmp_path: Path) -> None:
    """Two runs of one name; the second device is given to the second run later, as a resume may."""
    size, mirror = command[:-5], command[-3:-1]
    first, second = tmp_path / "run", tmp_path / "elsewhere/run"
    assert train.main(command) == 0
    theirs = {path: path.read_bytes() for path in (tmp_path / "second").rglob("*") if path.is_file()}
    other = [*size, "--seed", "1", "--run_dir", str(second)]
    assert train.main([*other, "--budget.steps", "40"]) == 0
    assert train.main([*other, "--budget.steps", "40", *mirror]) == 0
    (said,) = ledger(second, "mirror_failed")
    assert "holds another run: seed 1 (was 0)" in said["reason"]
    assert layout.steps(second / "checkpoints")[-1] == 40
    assert not ledger(second, "repaired")
    assert theirs == {path: path.read_bytes() for path in (tmp_path / "second").rglob("*") if path.is_file()}
    shutil.rmtree(first)
    assert train.main(command) == 0, "the first run's copies still serve it"


def test_copies_that_came_home_in_a_launch_that_was_cut_short_are_gone_on_from(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, second = tmp_path / "run", tmp_path / "second/run"
    assert train.main(command) == 0
    whole = final_bits(run)
    shutil.rmtree(run)
    shutil.copytree(second / "checkpoints/60", run / "checkpoints/60")  # and no more: then the power went
    (run / "checkpoints/60.mending").mkdir()
    (second / "config.yaml").rename(tmp_path / "config.yaml")
    assert train.main([*command, "--seed", "1"]) == 2, "the checkpoint says whose it is"
    assert "holds another run: seed 1 (was 0)" in capsys.readouterr().err
    assert train.main(command) == 0
    assert final_bits(run) == whole


def test_damage_to_what_is_shared_with_the_second_device_is_mended_and_not_copied(
    command: list[str], tmp_path: Path
) -> None:
    run, second = tmp_path / "run", tmp_path / "second/run"
    assert train.main([*command, "--corpus.tokenizer", "char"]) == 0
    whole = (run / "tokenizer.json").read_bytes()
    (run / "tokenizer.json").write_bytes(whole.replace(b'"t": ', b'"\xff": '))
    (second / "config.yaml").write_bytes((second / "config.yaml").read_bytes().replace(b"seed: 0", b"seed: 4"))
    assert train.main([*command, "--corpus.tokenizer", "char"]) == 0
    assert (run / "tokenizer.json").read_bytes() == (second / "tokenizer.json").read_bytes() == whole
    assert (second / "config.yaml").read_bytes() == (run / "config.yaml").read_bytes()


def test_a_second_device_that_is_the_runs_own_directory_is_refused(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main([*command, "--checkpoint.mirror_dir", str(tmp_path)]) == 2
    assert f"checkpoint.mirror_dir: {tmp_path}: the run itself is there" in capsys.readouterr().err
