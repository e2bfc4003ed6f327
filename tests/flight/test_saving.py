"""The loop saves when the policy says so, and tags its checkpoints with what retention goes by."""

import json
from pathlib import Path

import pytest
from launching import ledger
from variations import slow

import train

REAL = ["--mission.clock", "real", "--mission.restart_s", "0", "--budget.orbits", "null", "--budget.steps", "600"]
SIZE = ["--train.eval_every", "250", "--train.eval_batches", "1", "--train.chunk_steps", "1"]


@pytest.mark.parametrize(("mtbf_s", "least", "most"), [(1.0, 3, 600), *slow((1e12, 2, 2))])
def test_on_a_real_clock_faults_that_are_assumed_more_frequent_bring_more_saves(
    mtbf_s: float, least: int, most: int, tiny: Path, tmp_path: Path
) -> None:
    """Without faults, there are the save at launch and the last one alone."""
    run, often = tmp_path / "run", ["--checkpoint.mtbf_s", str(mtbf_s)]
    assert train.main(["--config", str(tiny), "--run_dir", str(run), *REAL, *SIZE, *often, "--json"]) == 0
    sealed = [event["checkpoint"] for event in ledger(run, "sealed")]
    assert least <= len(sealed) <= most
    assert (sealed[0], sealed[-1]) == (0, 600)
    tag = json.loads((run / "checkpoints/600/tag.json").read_text())
    telemetry = ledger(run, "telemetry")[-1]
    assert (tag["orbit"], tag["loss"]) == (telemetry["orbit"], ledger(run, "validation")[-1]["loss"])
    assert telemetry["mission_s"] <= tag["mission_s"] <= ledger(run, "done")[0]["mission_s"]
