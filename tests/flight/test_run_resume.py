"""An interrupted run ends with the bits of the uninterrupted one, wherever it was killed."""

import json
import os
import random
import shutil
import signal
import time
from datetime import timedelta
from pathlib import Path

import pytest
import shipped
from launching import ROOT, final_bits, finish, ledger, start, wait_for
from rich.console import Console
from variations import slow

import train
from pipeline.checkpoint import layout, metas
from pipeline.config import BadInput, Config, RunFailed, load, load_file
from pipeline.flight.directory import changed, open_directory
from pipeline.flight.recorded import record
from pipeline.flight.run import Outcome
from pipeline.orbit import track
from pipeline.orbit.elements import checksum

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


def kill_once(tiny: Path, run: Path, phase: str, cold: bool = False) -> bool:
    """Starts the run and kills it in `phase`; False if it was done first."""
    process = start("run", "--config", tiny, "--run_dir", run, cold=cold or phase == "compilation")
    give_up = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < give_up:
        if in_phase(run, phase):
            process.send_signal(signal.SIGKILL)
            process.communicate()
            return True
        time.sleep(0.002)
    process.communicate(timeout=10)
    return False


@pytest.mark.parametrize(
    "phases", [["saving", "evaluation", "training"], *slow(["compilation"], ["saving"], ["evaluation"], ["training"])]
)
def test_killed_in_each_phase_it_ends_with_the_same_bits(
    phases: list[str], tiny: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    for phase in phases:
        assert kill_once(tiny, run, phase), phase
    code, _, err = finish("run", "--config", tiny, "--run_dir", run, "--json")
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
    code, _, err = finish("run", "--config", tiny, "--run_dir", run, "--json")
    assert code == DONE, err
    assert final_bits(run) == final_bits(uninterrupted)


def test_another_seed_ends_with_other_bits(tiny: Path, uninterrupted: Path, tmp_path: Path) -> None:
    """The control: the comparison above can fail."""
    code, _, err = finish("run", "--config", tiny, "--run_dir", tmp_path / "run", "--seed", 1, "--json")
    assert code == DONE, err
    assert final_bits(tmp_path / "run") != final_bits(uninterrupted)


def test_a_notice_while_a_year_is_planned_is_heard_at_once(tiny: Path, tmp_path: Path) -> None:
    """Unheard, it took minutes: longer than power lasts, and whoever sent it would have killed the process."""
    run = tmp_path / "run"
    long = ["--budget.orbits", "null", "--budget.until", "2027-07-20T00:00:00Z", "--mission.policy", "optimal"]
    hot = ["--satellite", str(ROOT / "configs" / "satellites" / "heat-limited.yaml"), "--mission.step_flops", "1e12"]
    process = start("--config", tiny, "--run_dir", run, *long, *hot)
    for _ in range(600):
        if (run / "ledger.jsonl").exists():
            break
        time.sleep(0.1)
    time.sleep(8.0)
    assert process.poll() is None
    assert not (run / "plan.json").exists(), "it plans still"
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 75, err
    assert time.monotonic() - began < 20.0


@pytest.mark.parametrize("number", [signal.SIGTERM, *slow(signal.SIGINT, signal.SIGHUP)])
def test_a_signal_seals_exits_75_and_the_same_line_resumes(
    number: signal.Signals, tiny: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    before = signal.signal(number, signal.SIG_DFL)  # a suite under nohup ignores some
    process = start("run", "--config", tiny, "--run_dir", run)
    signal.signal(number, before)
    while not (run / "ledger.jsonl").exists() or not ledger(run, "step"):
        time.sleep(0.01)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == RESUMABLE, err
    stopped = ledger(run, "stopped")[-1]
    assert ledger(run, "sealed")[-1]["checkpoint"] == stopped["step"] > 0
    code, _, err = finish("run", "--config", tiny, "--run_dir", run, "--json")
    assert code == DONE, err
    assert ledger(run, "resume")[-1]["step"] == stopped["step"]
    assert ledger(run, "resume")[-1]["lost_steps"] == 0
    assert final_bits(run) == final_bits(uninterrupted)


@pytest.mark.parametrize("clock", ["simulated", *slow("real")])
def test_newer_elements_move_the_satellite_and_not_the_clock(clock: str, tiny: Path, tmp_path: Path) -> None:
    run, orbit = tmp_path / "run", shipped.orbit("starcloud-1")
    arguments = ["run", "--config", tiny, "--run_dir", run, "--mission.clock", clock, "--mission.restart_s", 0]
    arguments += ["--budget.orbits", "null", "--json"]
    process = start(*arguments, "--budget.steps", 20_000)
    wait_for("first_step", run, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == RESUMABLE, process.communicate()[1]
    before, sealed = ledger(run)[-1], next(iter(metas(run / "checkpoints")))["spacecraft"]
    assert orbit.tle is not None
    newer = orbit.tle[0].replace("26207.", "26216.")  # nine days later
    newer = newer[:68] + str(checksum(newer))
    arguments += ["--orbit.tle", f'["{newer}", "{orbit.tle[1]}"]', "--budget.steps", before["step"] + 10]
    code, _, err = finish(*arguments)
    assert code == DONE, err
    after, recorded = ledger(run, "resume")[-1], load_file(run / "config.yaml").orbit
    if clock == "real":
        assert after["mission_s"] - after["wall"] == pytest.approx(before["mission_s"] - before["wall"], abs=1.0)
    else:
        assert after["mission_s"] == sealed["now_s"]  # of a hold that has just begun nothing is sealed
    assert recorded.tle == (newer, orbit.tle[1])
    assert abs(track(recorded).utc(0.0) - track(orbit).utc(0.0)) < timedelta(milliseconds=1)
    again = open_directory(load([str(argument) for argument in arguments[1:] if argument != "--json"]))
    assert again.orbit == recorded, "a third launch tells time as the second"


def test_each_launch_says_what_its_satellite_must_keep_and_what_was_changed(
    tiny: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(uninterrupted, tmp_path / "run"))
    code, _, err = finish("run", "--config", tiny, "--run_dir", run, "--satellite.battery.capacity_wh", 1500, "--json")
    assert code == DONE, err
    before, after = ledger(run, "launch")[0], ledger(run, "resume")[-1]
    assert [before[name] for name in ("capacity_wh", "floor_wh", "limit_c")] == [700.0, 490.0, 60.0]
    assert [after[name] for name in ("capacity_wh", "floor_wh", "limit_c")] == [1500.0, 1050.0, 60.0]
    assert after["changed"] == {"satellite.battery.capacity_wh": [700.0, 1500.0]}, "run_dir is no news"
    code, _, err = finish("run", "--config", tiny, "--run_dir", run, "--json")
    assert code == DONE, err
    assert "changed" not in ledger(run, "resume")[-1]


def test_of_many_changes_some_are_told_and_the_rest_counted_in_what_json_can_say(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.flight.directory._MOST_CHANGED", 2)
    saved = load(["--config", str(tiny)])
    curve = json.dumps([[i / 100, 100.0 + i] for i in range(101)])
    given = ["--gpu.curve", curve, "--mission.policy", "optimal", "--mission.restart_s", "7", "--train.log_every", "3"]
    now = load(["--config", str(tiny), "--name", "other", "--orbit.start", "2026-08-01T00:00:00Z", *given])
    told = changed(now, json.loads(saved.model_dump_json()))
    assert list(told["changed"]) == ["train.log_every", "gpu.curve"]
    assert told["changed"]["train.log_every"] == [saved.train.log_every, 3]
    assert told["changed_more"] == 2
    assert len(json.dumps(told, allow_nan=False)) < 600, "a long value is cut"
    assert changed(saved, json.loads(saved.model_dump_json())) == {}
    assert changed(saved, {}) == {}, "of an earlier version"


def test_a_ground_station_may_be_added_to_a_run(tiny: Path, tmp_path: Path) -> None:
    words = ["--config", str(tiny), "--run_dir", str(tmp_path / "run")]
    open_directory(load(words))
    record(load(words))
    station = '[{"name": "Svalbard", "latitude_deg": 78.2, "longitude_deg": 15.4}]'
    assert open_directory(load([*words, "--mission.stations", station])).mission.stations
    with pytest.raises(BadInput, match="seed 1"):
        open_directory(load([*words, "--seed", "1"]))


@pytest.mark.parametrize(
    ("number", "library", "code"),
    [
        (signal.SIGINT, "pydantic_core", 130),
        (signal.SIGINT, "_multiarray_umath", 130),
        (signal.SIGTERM, "pydantic_core", RESUMABLE),
    ],
)
def test_a_signal_while_everything_is_imported_ends_it_without_a_word(
    number: signal.Signals, library: str, code: int, tiny: Path, tmp_path: Path
) -> None:
    """An exception in the middle of an import is lost, or aborts the process."""
    before = signal.signal(number, signal.default_int_handler)  # a suite in the background ignores it
    process = start("run", "--config", tiny, "--run_dir", tmp_path / "run")
    signal.signal(number, before)
    while library not in Path(f"/proc/{process.pid}/maps").read_text():
        assert process.poll() is None
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (code, "")


@pytest.mark.parametrize("ended", [Outcome.STOPPED, RunFailed("the disk is full")])
def test_a_signal_after_the_end_changes_nothing_of_how_it_ended(
    ended: Outcome | RunFailed, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python takes a while to close, and at last gives up every handler that is a function."""

    def fly(config: Config, quiet: bool) -> tuple[Outcome, dict[str, object]]:
        if isinstance(ended, RunFailed):
            raise ended
        return ended, {}

    monkeypatch.setattr("pipeline.flight.run.fly", fly)
    before = {number: signal.signal(number, train._leave) for number in train.STOPS}  # as the command does
    try:
        code = train.main(["run", "--config", str(tiny), "--run_dir", str(tmp_path / "run"), "--json"])
        assert code == (RESUMABLE if ended is Outcome.STOPPED else train.FAILED)
        assert {signal.getsignal(number) for number in before} == {signal.SIG_IGN}
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.parametrize("words", [[], ["--json"]])
@pytest.mark.parametrize("lost", ["closed", "full"])
def test_a_run_is_done_whoever_reads_of_it(
    lost: str, words: list[str], tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = os.pipe() if lost == "closed" else (os.open("/dev/full", os.O_WRONLY), os.open("/dev/full", 1))
    os.close(reader)
    monkeypatch.setattr("pipeline.flight.run.fly", lambda config, quiet: (Outcome.DONE, {}))
    monkeypatch.setattr("pipeline.ground.summary.show", lambda directory: Console().print("done"))
    with os.fdopen(writer, "w") as out:
        monkeypatch.setattr("sys.stdout", out)
        assert train.main(["run", "--config", str(tiny), "--run_dir", str(tmp_path / "run"), *words]) == DONE


def test_the_same_line_on_a_finished_run_changes_nothing(tiny: Path, uninterrupted: Path) -> None:
    before = final_bits(uninterrupted)
    code, out, err = finish("run", "--config", tiny, "--run_dir", uninterrupted)
    assert code == DONE, err
    assert final_bits(uninterrupted) == before
    assert "validation" in out


def test_a_damaged_newest_checkpoint_is_quarantined_and_the_run_ends_with_the_same_bits(
    tiny: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(uninterrupted, tmp_path / "run"))
    newest = run / "checkpoints" / str(layout.steps(run / "checkpoints")[-1])
    victim = max((path for path in newest.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    flipped = bytearray(victim.read_bytes())
    flipped[len(flipped) // 2] ^= 1
    victim.write_bytes(flipped)
    code, _, err = finish("run", "--config", tiny, "--run_dir", run, "--json")
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
        code, _, err = finish("run", "--config", fp16, "--run_dir", run, "--json")
        assert code == DONE, err
    assert final_bits(runs[0]) == final_bits(runs[1])
    assert any("loss_scale" in name for name in final_bits(runs[0]))
