"""Beside another trainer: taking turns, what each turn is charged for, and the real nanoGPT where there is one."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from benching import TEXT, write_config

from pipeline.config import BadInput, Config, RunFailed, dump_yaml, load, load_file
from pipeline.ground.bench import main, nanogpt, peer, peer_table, race, worker
from pipeline.ground.bench.energy import Meters
from pipeline.ground.bench.worker import Worker

NO_METERS = Meters({})
CHECKOUT = os.environ.get("NANOGPT")

# Loss 4 - 0.01 step; a step takes 2 ms of its own clock, and says so without waiting.
TRAINER = """
import json, sys
step, used = {first}, 1.0
def answer(**what):
    print(json.dumps(what | dict(processor_s=used, peak_bytes=1000)), flush=True)
answer(step=step, parameters=7)
for line in sys.stdin:
    asked = json.loads(line)
    if "train" in asked:
        steps = {chunk} * -(-(asked["train"] - step) // {chunk})
        step, used = step + steps, used + steps * {ms} / 1000
        answer(step=step, seconds=steps * {ms} / 1000)
    else:
        used += 100.0
        answer(loss=4.0 - 0.01 * step)
"""

# The part of nanoGPT's train.py that the gate sees.
PRINTS_LIKE_NANOGPT = """
import time
class Model:
    def parameters(self):
        return []
raw_model = Model()
iter_num, device_type = 0, "cpu"
print("step 0: train loss 4.2, val loss 4.2")
while True:
    time.sleep(0.01)
    print(f"iter {iter_num}: loss {4.0 - iter_num:.4f}, time 10.00ms, mfu -100.00%")
    iter_num += 1
"""


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "SETTLE_S", 0.0)


def trainer(folder: Path, name: str, first: int, chunk: int, ms: float) -> Worker:
    script = folder / f"{name}.py"
    script.write_text(TRAINER.format(first=first, chunk=chunk, ms=ms))
    return Worker(name, [sys.executable, str(script)], folder / f"{name}.log", folder)


def test_turns_are_taken_and_validation_costs_no_time(tmp_path: Path) -> None:
    with trainer(tmp_path, "muon", 10, 10, 4.0) as ours, trainer(tmp_path, "eager", 1, 1, 2.0) as theirs:
        courses = race.race({"muon": ours, "eager": theirs}, {"muon": 100, "eager": 100}, 20, 20, NO_METERS)
    mine, its = courses["muon"], courses["eager"]
    assert [turn.steps for turn in mine.turns.values()] == [turn.steps for turn in its.turns.values()] == [20] * 4
    assert [turn.seconds / turn.steps for turn in its.turns.values()] == pytest.approx([0.002] * 4)
    assert [turn.processor_s / turn.steps for turn in mine.turns.values()] == pytest.approx([0.004] * 4)
    assert [point.step for point in mine.curve] == [20, 40, 60, 80, 100]
    assert [point.step for point in its.curve] == [100]
    assert its.curve[-1].seconds == pytest.approx(its.launch_s + 99 * 0.002)
    assert mine.curve[-1].processor_s == pytest.approx(1.0 + 90 * 0.004), "five validations of 100 s are not in it"


def test_what_a_turn_draws_is_that_of_whoever_works(tmp_path: Path) -> None:
    """Two looks a turn: what the first one finds was drawn before it. Nothing is known of what is drawn at rest."""

    class Counter:
        looks = 0.0

        def joules(self) -> float:
            self.looks += 1.0
            return self.looks

        def close(self) -> None:
            pass

    with trainer(tmp_path, "muon", 1, 1, 4.0) as ours:
        courses = race.race({"muon": ours}, {"muon": 60}, 20, 100, Meters({"gpu": Counter()}))
    assert [turn.joules for turn in courses["muon"].turns.values()] == [{"gpu": 4.0}, {"gpu": 6.0}]
    assert race.row(courses["muon"], 10)["joules_per_token"] == {"gpu": {"median": 0.025, "least": 0.02, "most": 0.03}}


def test_whoever_has_fewer_steps_to_go_stops_there(tmp_path: Path) -> None:
    with trainer(tmp_path, "muon-short", 1, 1, 4.0) as ours, trainer(tmp_path, "eager", 1, 1, 2.0) as theirs:
        courses = race.race({"muon-short": ours, "eager": theirs}, {"muon-short": 25, "eager": 60}, 20, 100, NO_METERS)
    assert [point.step for point in courses["muon-short"].curve] == [25]
    assert courses["muon-short"].turns.keys() == {1}
    assert courses["eager"].turns.keys() == {1, 2}
    assert race.pair("muon-short", courses["muon-short"], "eager", courses["eager"])["speed"][
        "median"
    ] == pytest.approx(0.5)


def two_courses(mine: dict[str, float], its: dict[str, float]) -> tuple[race.Course, race.Course]:
    """Ours and its, with what a turn of each draws."""
    points = [race.Point(20, 3.0, 6.0, 3.0), race.Point(40, 4.0, 8.0, 2.0)]
    return (
        race.Course(1, 2.0, dict.fromkeys((1, 2, 3), race.Turn(20, 1.0, 2.0, mine)), points, None),
        race.Course(
            1, 1.0, dict.fromkeys((1, 2, 3), race.Turn(20, 2.0, 3.0, its)), [race.Point(40, 10.0, 20.0, 2.5)], None
        ),
    )


def test_the_table_says_what_each_draws_where_it_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    mine, its = two_courses({"gpu": 8.0}, {})
    answer = {
        "provenance": "made up", "others": 0.0, "cores": 2, "steps": {"muon": 40, "eager": 40}, "turn": 20,
        "shape": {"depth": 1, "width": 8, "context": 4, "batch": 2},
        "arms": {"muon": race.row(mine, 10), "eager": race.row(its, 10)},
        "pairs": {"muon / eager": race.pair("muon", mine, "eager", its)},
    }  # fmt: skip
    peer_table.show(answer)
    printed = capsys.readouterr().out
    assert "muon, drawn a token: gpu 40 (40 to 40) mJ" in printed
    assert "eager, drawn" not in printed


def test_ratios_are_of_the_same_turn_and_the_crossing_lies_between_validations() -> None:
    mine, its = two_courses({}, {})
    pair = race.pair("muon", mine, "eager", its)
    assert pair["speed"]["median"] == pytest.approx(2.0)
    assert pair["speed_by_processor"]["median"] == pytest.approx(1.5)
    assert pair["time_to_its_final_loss"] == {"seconds": pytest.approx(3.5), "processor_s": pytest.approx(7.0)}
    assert pair["share_of_its_time"]["seconds"] == pytest.approx(0.35)
    assert pair["loss_at_equal_steps"] == {40: [2.0, 2.5]}
    assert pair["loss_at_equal_time"]["seconds"]["0.25"] == [None, None], "nobody had validated yet"
    assert pair["loss_at_equal_time"]["seconds"]["1"] == [2.0, 2.5]
    assert race.first_below([1.0, 2.0], [3.0, 2.0], 1.9) is None
    assert race.first_below([1.0, 2.0], [3.0, 2.0], 3.5) == 1.0
    assert race.first_below([1.0, 2.0], [np.inf, 2.0], 2.5) == 2.0


def test_the_gate_stops_nanogpt_where_it_is_told_to(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(PRINTS_LIKE_NANOGPT)
    command = [sys.executable, nanogpt.__file__, "--compile=False"]
    with Worker("eager", command, tmp_path / "log", tmp_path) as held:
        assert (held.first["step"], held.first["loss"], held.first["parameters"]) == (1, 4.0, 0)
        found = held.ask(train=5)
        assert (found["step"], found["loss"]) == (5, 0.0)
        assert 0.04 <= found["seconds"] < 4.0
        assert found["processor_s"] > 0.0
        assert held.ask(train=6)["step"] == 6
    assert "iter 5" in (tmp_path / "log").read_text()
    assert "iter 7" not in (tmp_path / "log").read_text()


def test_a_trainer_that_dies_says_why(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("raise SystemExit('no module named torch')")
    with pytest.raises(RunFailed, match="eager: ended with exit code 1: no module named torch"):
        Worker("eager", [sys.executable, nanogpt.__file__], tmp_path / "log", tmp_path)


def test_a_bench_steers_no_hardware_and_writes_to_no_second_device(tmp_path: Path) -> None:
    real = ["--mission.clock", "real", "--telemetry.source", "udp", "--gpu.actuator", "nvml", "--gpu.sm_mhz", "1200"]
    given = load(["--config", str(write_config(tmp_path)), *real, "--checkpoint.mirror_dir", str(tmp_path / "second")])
    made = worker.on_the_ground(given)
    assert load_file_of(made, tmp_path) == made, "it is valid as it stands in a file"
    assert made.mirror is None
    assert made.mission.clock == made.telemetry.source == made.gpu.actuator == "simulated"
    assert (made.model, made.optimizer, made.train, made.corpus) == (
        given.model, given.optimizer, given.train, given.corpus,
    )  # fmt: skip


def load_file_of(config: Config, folder: Path) -> Config:
    written = folder / "again.yaml"
    written.write_text(dump_yaml(config))
    return load_file(written)


def test_it_gets_the_same_tokens_as_its_own_preparation_gives(tmp_path: Path) -> None:
    config = load(["--config", str(write_config(tmp_path))])
    peer.write_tokens(config, tmp_path)
    letters = sorted(set(TEXT))
    own = np.array([letters.index(letter) for letter in TEXT])  # as data/shakespeare_char/prepare.py
    cut = int(len(own) * 0.9)
    train, held_out = (np.fromfile(tmp_path / name, np.uint16) for name in ("train.bin", "val.bin"))
    assert abs(len(train) - cut) <= 1
    assert len(train) + len(held_out) == len(own)
    ours = np.concatenate([train, held_out])
    same = {(int(a), int(b)) for a, b in zip(own, ours, strict=True)}
    assert len(same) == len(letters), "one number for each letter, whatever numbers"


def test_its_settings_are_its_readmes_in_our_shape(tmp_path: Path) -> None:
    config = load(["--config", str(write_config(tmp_path))])
    given = peer.settings(config, "compiled", 300)
    assert given[0] == "config/train_shakespeare_char.py"
    shape = {"--n_layer=1", "--n_embd=32", "--n_head=2", "--block_size=16", "--batch_size=2", "--max_iters=300"}
    assert shape | {"--lr_decay_iters=300", "--compile=True", "--device=cpu", "--dropout=0.0"} <= set(given)
    assert peer.settings(config, "eager", 300)[3] == "--compile=False"


def test_on_a_gpu_its_settings_are_those_for_a_gpu(tmp_path: Path) -> None:
    changes = ["--train.device", "cuda", "--train.batch", "12", "--train.microbatch", "4", "--train.precision", "bf16"]
    config = load(["--config", str(write_config(tmp_path)), *changes])
    given = peer.settings(config, "compiled", 305)
    batch = {"--batch_size=4", "--gradient_accumulation_steps=3"}
    # It answers every tenth step, the last one too, and keeps the dropout of its own file.
    assert batch | {"--device=cuda", "--log_interval=10", "--max_iters=310", "--lr_decay_iters=305"} <= set(given)
    assert not any("dropout" in word for word in given)


def test_the_peer_may_take_more_steps() -> None:
    assert [peer.ends(arm, 700, None) for arm in ("muon", "muon-short", "compiled")] == [700, 100, 700]
    assert [peer.ends(arm, 700, 5000) for arm in ("muon", "muon-short", "compiled")] == [700, 100, 5000]


def test_a_wrong_argument_is_named_in_one_line(tmp_path: Path) -> None:
    command = ["--peer", "nanogpt", "--peer-path", str(tmp_path)]
    with pytest.raises(BadInput, match=r"--peer-path: .* has no train\.py; give a checkout of nanoGPT"):
        main(command)
    with pytest.raises(BadInput, match="--arms: sgd: not known"):
        main([*command, "--arms", "sgd"])
    (tmp_path / "config").mkdir()
    for name in (*peer.FILES[:3], peer.RECOMMENDED):
        (tmp_path / name).touch()
    for wrong in (["--segment", "5"], ["--steps", "90"], ["--steps", "300"]):  # 300 are 42 of muon-short
        with pytest.raises(BadInput, match=f"{wrong[0]}: {wrong[1]}: "):
            main([*command, *wrong])
    with pytest.raises(BadInput, match="--peer-path"):
        main(["--peer", "nanogpt"])
    with pytest.raises(BadInput, match="--peer"):
        main(["--peer", "megatron", "--peer-path", "."])


@pytest.mark.skipif(not CHECKOUT, reason="set NANOGPT to the directory of a nanoGPT checkout")
def test_beside_the_real_nanogpt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    command = ["--peer", "nanogpt", "--peer-path", str(CHECKOUT), "--config", str(write_config(tmp_path))]
    command += ["--steps", "12", "--segment", "4", "--evaluate_every", "4", "--arms", "adamw,eager"]
    before = {
        path: path.stat().st_mtime_ns for path in Path(str(CHECKOUT)).rglob("*") if "__pycache__" not in str(path)
    }
    assert main([*command, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    adamw, eager = answer["arms"]["adamw"], answer["arms"]["eager"]
    assert adamw["parameters"] == pytest.approx(eager["parameters"], rel=0.1)
    unigram = np.log(len(set(TEXT)))
    assert all(0.0 < point["loss"] < 1.5 * unigram for point in adamw["curve"] + eager["curve"])
    assert eager["curve"][-1]["step"] == 12
    assert answer["pairs"]["adamw / eager"]["speed"]["median"] > 0.0
    assert before == {path: path.stat().st_mtime_ns for path in before}, "the checkout is left as it is"
