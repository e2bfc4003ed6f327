"""The bench of a run measures each part it is asked for: real launches of a tiny run, and the tables that it prints."""

import json
from pathlib import Path

import pytest
from benching import write_config

from pipeline.config import BadInput, RunFailed, load
from pipeline.ground.bench import main, program, speed_table, starts
from pipeline.ground.bench.energy import NOT_MEASURABLE


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write_config(tmp_path)


@pytest.mark.slow
def test_a_configuration_without_a_name_is_measured(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    counts = ["--repeats", "1", "--pairs", "1", "--turn_s", "0.2", "--parts", "loop,program,saves"]
    assert main(["--config", str(tiny), *counts, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    loop, alone = answer["loop"], answer["program"]
    for figure in (loop["tokens_per_s"], loop["mfu"], loop["peak_flops_per_s"], alone["step_s"]):
        assert 0.0 < figure["least"] <= figure["median"] <= figure["most"]
    assert loop["parameters"] == alone["parameters"]
    assert loop["mfu"]["most"] < 1.0
    assert loop["joules_per_token"] == NOT_MEASURABLE or loop["joules_per_token"]["processor"]["median"] > 0.0
    assert alone["memory"]["measured_mb"] > 0.0
    assert sum(alone["memory"]["by_part_mb"].values()) == pytest.approx(alone["memory"]["formula_mb"])
    assert "measured" in answer["provenance"]
    saves = answer["saves"]
    assert 0.0 < saves["stall_s"]["median"] < 0.3
    assert saves["stall_s"]["least"] < saves["time_to_seal_s"]["most"]
    assert saves["state_mb"] > 0.0
    speed_table.show(answer)
    printed = capsys.readouterr().out
    rows = ("MFU", "joules per token", "loop beside the step", "peak memory", "stall of a save")
    assert all(row in printed for row in rows)


@pytest.mark.slow
def test_a_restart_compiles_nothing_and_its_parts_add_up(tiny: Path, tmp_path: Path) -> None:
    config = load(["--config", str(tiny), "--budget.steps", "100000"])  # its 8 are over before it can be interrupted
    found = starts.measure(config, tmp_path, 1)
    assert set(found) == set(starts.KINDS)
    for parts in found.values():
        total = parts["total"]["median"]
        within = sum(part["median"] for name, part in parts.items() if name not in speed_table.ENDS)
        assert within == pytest.approx(total, abs=0.05)
        assert parts["processor"]["median"] > 0.0
    # By the processor's time: a launch compiles beside what else it does.
    assert found["warm"]["processor"]["median"] < found["new run"]["processor"]["median"]
    assert "read" in found["warm"], "the restart restored what was sealed"
    speed_table.show({"name": "tiny", "provenance": "measured", "start": found})


def test_a_launch_that_fails_says_why(tiny: Path, tmp_path: Path) -> None:
    config = load(
        ["--config", str(tiny), "--corpus.path", str(tmp_path / "gone.txt"), "--run_dir", str(tmp_path / "a")]
    )
    with pytest.raises(RunFailed, match=r"gone\.txt"):
        starts.launch(config, tmp_path)


@pytest.mark.slow
def test_the_program_alone_is_measured_in_a_process_of_its_own(tiny: Path) -> None:
    found = program.apart(load(["--config", str(tiny)]), 40, steps=1, repeats=3)
    assert len(found["step_s"]) == len(found["peak_flops_per_s"]) == 3
    assert max(found["step_s"]) < found["compile_s"], "the first call is not among them"
    assert 0 < found["peak_bytes"] < 2**30
    with pytest.raises(RunFailed, match="ended with exit code 1"):
        program.apart(load(["--config", str(tiny)]), 0, steps=1, repeats=1)


@pytest.mark.parametrize("arguments", [["--parts", "lop"], ["--repeats", "0"], ["--model.dept", "3"]])
def test_a_wrong_argument_is_named_in_one_line(tiny: Path, arguments: list[str]) -> None:
    with pytest.raises(BadInput) as caught:
        main(["--config", str(tiny), *arguments])
    assert arguments[-1] in str(caught.value) or arguments[0] in str(caught.value)
    assert "\n" not in str(caught.value)
