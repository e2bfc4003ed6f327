"""An interrupted run ends with the bits of the uninterrupted one, wherever it was killed."""

import random
import shutil
import signal
import time
from pathlib import Path

import pytest
from launching import final_bits, finish, ledger, start

from pipeline.checkpoint import layout

DONE, RESUMABLE = 0, 75


def in_phase(run: Path, phase: str) -> bool:
    """Whether the process at work in `run` is, as far as its files show, in `phase`."""
    events = [event["event"] for event in ledger(run)] if (run / "ledger.jsonl").exists() else []
    if phase == "compilation":
        return bool(events) and events[-1] in ("launch", "resume", "mode")
    if phase == "saving":
        return any(path.name.endswith(".saving") for path in (run / "checkpoints").glob("*"))
    if phase == "evaluation":
        steps = [event["at"] for event in ledger(run, "step")] if events else []
        return bool(steps) and steps[-1] % 100 == 0 and events[-1] != "validation"
    return "first_step" in events and ledger(run)[-1]["step"] > random.Random(phase).randrange(100, 600)


def kill_once(tiny: Path, run: Path, phase: str) -> bool:
    """Starts the run and kills it in `phase`; False if it was done first."""
    process = start("run", "--config", tiny, "--run_dir", run)
    give_up = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < give_up:
        if in_phase(run, phase):
            process.send_signal(signal.SIGKILL)
            process.communicate()
            return True
        time.sleep(0.002)
    process.communicate(timeout=10)
    return False


@pytest.mark.parametrize("phase", ["compilation", "saving", "evaluation", "training"])
def test_killed_in_each_phase_it_ends_with_the_same_bits(
    phase: str, tiny: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert kill_once(tiny, run, phase)
    code, _, err = finish("run", "--config", tiny, "--run_dir", run)
    assert code == DONE, err
    assert final_bits(run) == final_bits(uninterrupted)
    assert [event["end"] for event in ledger(run, "cooldown")][:1] == [ledger(uninterrupted, "cooldown")[0]["end"]]


@pytest.mark.slow
def test_twenty_kills_at_random_instants_end_with_the_same_bits(
    tiny: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    """Instants are drawn over the whole life of a process: imports, compilation, training, saving, evaluation."""
    run, rng, kills = tmp_path / "run", random.Random(20), 0
    while kills < 20:
        process = start("run", "--config", tiny, "--run_dir", run)
        time.sleep(rng.uniform(0.3, 9.0))
        kills += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if (run / "ledger.jsonl").exists() and ledger(run, "done") and kills < 20:
            assert final_bits(run) == final_bits(uninterrupted)
            shutil.rmtree(run)
    code, _, err = finish("run", "--config", tiny, "--run_dir", run)
    assert code == DONE, err
    assert final_bits(run) == final_bits(uninterrupted)


def test_another_seed_ends_with_other_bits(tiny: Path, uninterrupted: Path, tmp_path: Path) -> None:
    """The control: the comparison above can fail."""
    run = tmp_path / "run"
    code, _, err = finish("run", "--config", tiny, "--run_dir", run, "--seed", 1)
    assert code == DONE, err
    assert final_bits(run) != final_bits(uninterrupted)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_seals_exits_75_and_the_same_line_resumes(
    number: signal.Signals, tiny: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = start("run", "--config", tiny, "--run_dir", run)
    while not (run / "ledger.jsonl").exists() or not ledger(run, "step"):
        time.sleep(0.01)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == RESUMABLE, err
    stopped = ledger(run, "stopped")[-1]
    assert ledger(run, "sealed")[-1]["checkpoint"] == stopped["step"] > 0
    code, _, err = finish("run", "--config", tiny, "--run_dir", run)
    assert code == DONE, err
    assert ledger(run, "resume")[-1]["step"] == stopped["step"]
    assert ledger(run, "resume")[-1]["lost_steps"] == 0
    assert final_bits(run) == final_bits(uninterrupted)


def test_the_same_line_on_a_finished_run_changes_nothing(tiny: Path, uninterrupted: Path) -> None:
    before = final_bits(uninterrupted)
    code, out, err = finish("run", "--config", tiny, "--run_dir", uninterrupted)
    assert code == DONE, err
    assert final_bits(uninterrupted) == before
    assert "validation" in out


def test_a_damaged_newest_checkpoint_is_quarantined_and_the_run_ends_with_the_same_bits(
    tiny: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert kill_once(tiny, run, "training")
    newest = run / "checkpoints" / str(layout.steps(run / "checkpoints")[-1])
    victim = max((path for path in newest.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    flipped = bytearray(victim.read_bytes())
    flipped[len(flipped) // 2] ^= 1
    victim.write_bytes(flipped)
    code, _, err = finish("run", "--config", tiny, "--run_dir", run)
    assert code == DONE, err
    assert ledger(run, "quarantined")
    assert (run / "quarantine" / newest.name).exists()
    assert final_bits(run) == final_bits(uninterrupted)


@pytest.mark.slow
def test_a_killed_run_in_fp16_ends_with_the_same_bits_and_the_same_loss_scale(tiny: Path, tmp_path: Path) -> None:
    runs = [tmp_path / "whole", tmp_path / "killed"]
    fp16 = tmp_path / "fp16.yaml"
    fp16.write_text(tiny.read_text().replace("precision: fp32", "precision: fp16"))
    assert kill_once(fp16, runs[1], "evaluation")
    for run in runs:
        code, _, err = finish("run", "--config", fp16, "--run_dir", run)
        assert code == DONE, err
    assert final_bits(runs[0]) == final_bits(runs[1])
    assert any("loss_scale" in name for name in final_bits(runs[0]))
