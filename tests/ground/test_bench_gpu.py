"""The proof on a GPU: what a part that fails leaves behind, and all of it on a processor."""

import json
import sys
import time
from pathlib import Path

import pytest
from recorded_nvml import RecordedNvml

from pipeline.config import BadInput
from pipeline.flight.nvml import card
from pipeline.ground.bench import main
from pipeline.ground.bench.gpu import Part, Proof, parts
from pipeline.ground.calibrate.curve import software

TEXT = Path(__file__).parents[3] / "shared" / "data" / "tinyshakespeare.txt"


@pytest.fixture
def proof(tmp_path: Path) -> Proof:
    return Proof(tmp_path, None, None, True, time.monotonic() + 600.0)


def test_a_part_that_fails_or_hangs_says_so_and_the_next_one_runs(proof: Proof) -> None:
    proof.run(Part("refused", ["verify", "/nowhere"], 60.0))
    proof.run(Part("hangs", ["plan", "--config", "/dev/stdin"], 0.2))
    proof.run(Part("late", ["verify", "/nowhere"], 1e9))
    found = json.loads((proof.out / "gpu.json").read_text())["parts"]
    assert found["refused"]["failed"].startswith("exit 2, said: train.py verify: /nowhere")
    assert found["hangs"]["failed"].startswith("not done after 0 s")
    assert found["late"]["not_run"].endswith("s were left")


def test_called_again_it_asks_for_what_has_no_answer(proof: Proof, run_dir: Path) -> None:
    answer = ["verify", str(run_dir), "--json"]
    proof.run(Part("answered", answer, 60.0))
    proof.run(Part("failed", ["verify", "/nowhere"], 60.0))
    again = Proof(proof.out, None, None, True, time.monotonic() + 600.0)
    again.go_on()
    assert again.parts == proof.parts
    again.run(Part("answered", ["verify", "/nowhere"], 60.0))  # is not asked for
    again.run(Part("failed", answer, 60.0))
    assert all("answer" in part for part in again.parts.values())
    assert again.parts["answered"] == proof.parts["answered"]


def test_one_process_for_each_seed_at_once_and_one_that_fails_is_the_answer(proof: Proof) -> None:
    forecast = ["plan", "--config", "configs/demo.yaml", "--days", "0.1", "--json"]
    proof.run(Part("both", forecast, 60.0, seeds=(1, 2)))
    one, two = proof.parts["both"]["answer"]
    assert one.keys() == two.keys()
    proof.run(Part("one", [*forecast, "--budget.steps", "-1"], 60.0, seeds=(1, 2)))
    assert "budget.steps" in proof.parts["one"]["failed"]


def test_an_answer_of_other_code_is_asked_for_again(proof: Proof, run_dir: Path) -> None:
    part = Part("whole", ["verify", str(run_dir), "--json"], 60.0)
    proof.run(part)
    answered = proof.parts["whole"]
    proof.parts["whole"] = old = answered | {"answer": "of before", "code": "of before"}
    proof.run(Part("whole", ["verify", "/nowhere"], 60.0))
    assert proof.parts["whole"] == old  # better than none
    proof.run(part)
    assert proof.parts["whole"]["answer"].keys() == answered["answer"].keys()
    assert proof.parts["whole"]["code"] == answered["code"]


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
    words = [str(word) for part in parts(proof) for word in part.arguments]
    assert not {"--by", "power-cap", "sm-clock", "nvml"} & set(words)


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
