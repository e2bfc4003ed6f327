"""The proof on a GPU: what a part that fails leaves behind, what it all comes to, and all of it on a processor."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from recorded_nvml import RecordedNvml

from pipeline.config import BadInput
from pipeline.flight.child import ROOT
from pipeline.flight.nvml import card
from pipeline.ground.bench import gpu, main
from pipeline.ground.bench.gpu import Proof
from pipeline.ground.bench.gpu_findings import findings
from pipeline.ground.bench.gpu_parts import CURVE, MODELLED, PLANNED, SIGKILLS, SMALL_BESIDE, SMALL_SPEED, Part, parts
from pipeline.ground.calibrate.curve import software

TEXT = Path(__file__).parents[3] / "shared" / "data" / "tinyshakespeare.txt"


@pytest.fixture
def proof(tmp_path: Path) -> Proof:
    return again(tmp_path)


def again(out: Path) -> Proof:
    made = Proof(out, True, time.monotonic() + 600.0)
    made.go_on()
    return made


def gone(pid: int) -> bool:
    """Within ten seconds: whoever adopts an orphan takes its exit code when it likes."""
    for _ in range(100):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.1)
    return False


def commands_are(monkeypatch: pytest.MonkeyPatch, folder: Path, program: str) -> None:
    """What the bench starts in place of `train.py`."""
    monkeypatch.setattr(gpu, "ROOT", folder)
    (folder / "train.py").write_text(f"import sys; {program}")


def below(pid: int) -> list[int]:
    children = [int(word) for path in Path(f"/proc/{pid}/task").glob("*/children") for word in path.read_text().split()]
    return children + [one for child in children for one in below(child)]


def test_a_part_that_fails_or_hangs_says_so_and_the_next_one_runs(proof: Proof) -> None:
    proof.run(Part("refused", ["verify", "/nowhere"], 60.0))
    proof.run(Part("hangs", ["plan", "--config", "/dev/stdin"], 0.1))
    proof.run(Part("late", ["verify", "/nowhere"], 1e9))
    proof.run(Part("before its time", ["verify", "/nowhere"], 60.0, after="refused"))
    found = json.loads((proof.out / "gpu.json").read_text())["parts"]
    assert found["refused"]["failed"].startswith("exit 2, said: train.py verify: /nowhere")
    assert found["hangs"]["failed"].startswith("not done after 0 s")
    assert found["late"]["not_run"].endswith("s were left of 1000000000")
    assert found["before its time"]["not_run"] == "without refused"
    failed = [name for name in found if again(proof.out).turn(Part(name, [], 0.0))]
    assert failed == ["refused", "hangs"]  # the others have not been tried, and come first
    assert again(proof.out).turn(Part("before its time", [], 0.0, after="refused"))  # but not before it


def test_a_part_that_the_end_of_the_minutes_cut_off_has_not_failed(tmp_path: Path) -> None:
    again(tmp_path).run(Part("failed", ["verify", "/nowhere"], 60.0))
    proof = Proof(tmp_path, True, time.monotonic() + 1.0)
    proof.go_on()
    part = Part("long", ["plan", "--config", "/dev/stdin"], 0.5)
    proof.run(part)
    assert proof.parts["long"]["failed"] == "not done after 1 s"
    assert proof.parts["long"]["cut_off"] == "the minutes were over 1 s after it began"
    assert proof.turn(Part("untried", [], 1.0)) < proof.turn(part) < proof.turn(Part("failed", [], 1.0))


def test_of_what_a_command_prints_the_last_line_is_its_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    commands_are(
        monkeypatch, tmp_path, r"sys.stdout.buffer.write(b'\xff said\n{}\n'); sys.stderr.buffer.write(b'\xff')"
    )
    assert gpu._ask([], 60.0, {}) == {"exit": 0, "answer": {}}


def test_called_again_it_asks_for_what_has_no_answer(proof: Proof, run_dir: Path) -> None:
    answer = ["verify", str(run_dir), "--json"]
    proof.run(Part("answered", answer, 60.0))
    proof.run(Part("failed", ["verify", "/nowhere"], 60.0))
    later = again(proof.out)
    assert later.parts == proof.parts
    later.run(Part("answered", ["verify", "/nowhere"], 60.0))  # is not asked for
    later.run(Part("failed", answer, 60.0))
    assert all("answer" in part for part in later.parts.values())
    assert later.parts["answered"] == proof.parts["answered"]


def test_one_process_for_each_seed_at_once_and_only_those_that_failed_are_asked_again(
    proof: Proof, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patch:
        commands_are(patch, tmp_path, "print(sys.argv[-1]) if sys.argv[1] == 'drill' else sys.exit('no such verb')")
        proof.run(Part("both", ["drill"], 60.0, seeds=(1, 2)))
        proof.run(Part("none", ["dril"], 60.0, seeds=(1, 2)))
    assert proof.is_well("both")
    assert proof.parts["both"]["answer"] == {"1": 1, "2": 2}
    assert proof.parts["none"]["failed"] == "seed 1: exit 1, said: no such verb"
    assert "answer" not in proof.parts["none"]

    asked, hangs, poor = list[str](), {"2"}, set[str]()

    def ask(arguments: Sequence[str], *_: object) -> dict[str, Any]:
        seed = arguments[-1]
        asked.append(seed)
        return {"failed": "hangs"} if seed in hangs else {"exit": int(seed in poor), "answer": seed}

    monkeypatch.setattr(gpu, "_ask", ask)
    part = Part("drills", ["drill"], 60.0, seeds=(1, 2, 3))
    proof.run(part)
    assert not proof.is_well("drills")
    assert proof.turn(part) == 2
    assert proof.parts["drills"]["failed"] == "seed 2: hangs"
    assert proof.answers()["drills"] == {"1": "1", "3": "3"}
    hangs.clear()
    later = again(proof.out)
    later.run(part)
    assert later.is_well("drills")
    assert later.answers()["drills"] == {"1": "1", "2": "2", "3": "3"}
    assert sorted(asked) == ["1", "2", "2", "3"]

    poor.add("1")
    lost = Part("lost a bit", ["drill"], 60.0, seeds=(1, 2))
    proof.run(lost)
    poor.clear()
    proof.run(lost)
    assert not proof.is_well("lost a bit"), "what a drill has lost once is not asked for until it is gone"
    assert proof.answers()["lost a bit"] == {"1": "1", "2": "2"}


def test_what_a_part_has_started_ends_with_it() -> None:
    starts = "import subprocess, sys; print(subprocess.Popen(['sleep', '60'], start_new_session=True).pid, flush=True)"
    with subprocess.Popen([sys.executable, "-c", f"{starts}; input()"], stdin=-1, stdout=-1, text=True) as part:
        assert part.stdout
        sleeper = int(part.stdout.readline())
        assert not Path(f"/proc/{sleeper}/stat").read_text().endswith("Z")
        gpu._end(part.pid)
        assert gone(sleeper)
    assert part.returncode == -signal.SIGKILL


def test_asked_to_stop_it_leaves_nothing_behind_on_the_card(tmp_path: Path) -> None:
    command = [sys.executable, "train.py", "bench", "gpu", "--dry_run", "--out", str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as bench:
        for _ in range(300):
            if started := below(bench.pid):
                break
            time.sleep(0.1)
        bench.send_signal(signal.SIGTERM)
        assert bench.wait(60.0) == 130
    assert started
    assert all(map(gone, started))
    assert (tmp_path / "gpu.png").exists()


@pytest.mark.parametrize("other", [{"code": "of before"}, {"card": ["NVIDIA H100 80GB HBM3", "580.159.04"]}])
def test_an_answer_of_other_code_or_another_card_is_asked_for_again(
    proof: Proof, run_dir: Path, other: dict[str, Any]
) -> None:
    part = Part("whole", ["verify", str(run_dir), "--json"], 60.0)
    proof.run(part)
    answered = proof.parts["whole"]
    proof.parts["whole"] = old = answered | {"answer": "of before"} | other
    assert proof.as_json()["parts"]["whole"] == old
    nowhere = Part("whole", ["verify", "/nowhere"], 60.0)
    proof.run(nowhere)
    assert proof.parts["whole"].items() >= old.items()  # better than none
    assert proof.parts["whole"]["since"]["failed"].startswith("exit 2")
    assert proof.turn(nowhere) == 2
    assert not proof.answers()
    proof.run(part)
    assert proof.parts["whole"]["answer"].keys() == answered["answer"].keys()
    assert proof.is_well("whole")


@pytest.mark.parametrize(
    "kept", ["{", "[]", '{"parts": {"a": 1}, "provenance": ""}', '{"parts": {}, "provenance": "measured"}']
)
def test_what_is_not_its_own_is_not_gone_on_with(proof: Proof, kept: str) -> None:
    (proof.out / "gpu.json").write_text(kept)
    with pytest.raises(BadInput, match=r"--out: .*gpu\.json: .*name another folder"):
        proof.go_on()
    assert (proof.out / "gpu.json").read_text() == kept


@pytest.mark.parametrize(("present", "said"), [(True, ("NVIDIA H200", "580.159.04")), (False, None)])
def test_the_card_is_told_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, present: bool, said: tuple[str, str] | None
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", RecordedNvml(present=present))
    assert card() == said
    assert software("CPU").startswith(f"driver {said[1]}, jax" if said else "no NVIDIA driver, CPU, jax")


def test_nothing_in_it_sets_the_card(proof: Proof) -> None:
    asked = parts(proof.out, None, proof.out, False, None)
    words = [str(word) for part in asked for word in part.arguments]
    assert not {"--by", "power-cap", "sm-clock", "nvml"} & set(words)


@pytest.mark.parametrize(
    ("name", "curve"),
    [("NVIDIA H200", "h200.yaml"), ("NVIDIA H100 80GB HBM3", "h100-sxm.yaml"), ("NVIDIA H100 PCIe", "h100-pcie.yaml")],
)
def test_a_measured_curve_is_compared_with_the_modelled_one_of_the_same_card(
    tmp_path: Path, name: str, curve: str
) -> None:
    asked = {part.name: part for part in parts(tmp_path, None, None, False, (name, "580.159.04"))}
    given = Path(asked[MODELLED].arguments[asked[MODELLED].arguments.index("--gpu") + 1])
    assert given.name == curve
    assert given.exists()
    assert asked[PLANNED].after == CURVE


def middle(value: float) -> dict[str, float]:
    return {"median": value, "least": value, "most": value}


def test_each_figure_stands_beside_its_goal() -> None:
    def course(*losses: float) -> dict[str, Any]:
        return {"curve": [{"step": 100 * n, "seconds": 10.0 * n, "loss": loss} for n, loss in enumerate(losses, 1)]}

    def drill(well: bool) -> dict[str, Any]:
        return {"well": well, "bit_identical": well, "resumed": 5, "restart_s": {"p50": 8.0, "p99": 16.0}}

    pair = {"muon / compiled": {"speed": middle(2.0)}}
    beside = {"pairs": pair, "arms": {"muon": course(2.0, 1.4), "compiled": course(2.0, 1.9, 1.8, 1.7, 1.6, 1.5, 1.4)}}
    speed = {"loop": {"tokens_per_s": middle(1e6)}, "saves": {"stall_s": middle(0.15)}}
    answers: dict[str, Any] = {
        SMALL_BESIDE: beside,
        SMALL_SPEED: speed,
        SIGKILLS: {"1": drill(True), "2": drill(True), "3": drill(True), "4": drill(False)},
        MODELLED: {"policies": {"dp": {"steps": 10.0}}},
        PLANNED: {"policies": {"dp": {"steps": 6.0}}},
    }

    def found() -> dict[str, tuple[float | None, bool | None]]:
        return {one.what: (one.value, one.met) for one in findings(answers)}

    first = found()
    assert first["10.7 M, over nanoGPT compiled"] == (2.0, True)
    ours, theirs = 100.0 + 100.0 * (2.0 - 1.4697) / 0.6, 600.0 + 100.0 * (1.5 - 1.4697) / 0.1
    assert first["10.7 M, tokens to 1.4697 over nanoGPT's"] == (pytest.approx(ours / theirs), True)
    assert first["nanoGPT, from launch to 1.4697"] == (pytest.approx(theirs / 10.0), None)
    assert first["10.7 M, stall of a save every 15 s"] == (pytest.approx(1.0), False)
    assert first["SIGKILLs that ended with the same bits"] == (15, False)
    assert first["SIGKILL, exec to the next step, worst drill's p99"] == (16.0, False)
    assert first["optimal plan of a day, measured curve over modelled"] == (0.6, None)
    assert "10.7 M, launch to first step, cold" not in first  # a part that leaves it out
    beside["arms"]["compiled"] = course(2.0, 1.5)  # in all its 200 steps
    assert found()["10.7 M, tokens to 1.4697 over nanoGPT's"] == (pytest.approx(ours / 200.0), False)
    beside["arms"]["muon"] = course(2.0, 1.5)
    assert found()["10.7 M, tokens to 1.4697 over nanoGPT's"] == (None, False)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_all_of_it_on_a_processor(tmp_path: Path) -> None:
    if not TEXT.exists():
        pytest.skip(f"{TEXT} is not here")
    assert main(["gpu", "--dry_run", "--out", str(tmp_path), "--text", str(TEXT), "--json"]) == 0
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert all("answer" in part for part in found["parts"].values())
    assert found["provenance"].startswith("dry run")
    assert (tmp_path / "gpu.png").stat().st_size > 10_000


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"--peer-path: .*nowhere: does not exist"):
        main(["gpu", "--out", str(tmp_path), "--peer-path", str(tmp_path / "nowhere")])
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="--out: "):
        main(["gpu", "--out", str(tmp_path / "file")])
