"""The public API: `import pipeline`, and a run as DataFrames."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ledger_lines import BEFORE, event, step, telemetry

import pipeline
from pipeline.ground import evaluate, sample
from pipeline.ground.run_directory import open_run

AGAIN = [
    event("restored", 30.0, 30, checkpoint=10),
    event("resume", 11.0, 10),
    step(20, 22.0, 4.2),
    event("validation", 22.0, 20, loss=4.4, standard_error=0.1, bits_per_byte=None),
    telemetry(22.0, 0.8, 6.0),
    event("validation", 29.0, 25, loss=4.1, standard_error=0.1, bits_per_byte=1.9),
    event("sealed", 23.0, 20, checkpoint=20, bytes=100, seconds=0.7, blocking_s=0.01),
    event("sealed", 24.0, 40, checkpoint=40, bytes=100, seconds=0.7, blocking_s=0.01),
    event("deleted", 24.0, 30, checkpoint=10),
    event("corruption", 25.0, 30, reason="bits"),
]


@pytest.fixture
def flown(run_dir: Path, tmp_path: Path) -> Path:
    """Steps 20 and 40 are sealed in the directory; the ledger has a damaged line."""
    copy = Path(shutil.copytree(run_dir, tmp_path / "flown"))
    lines = [json.dumps(line) for line in BEFORE + AGAIN]
    (copy / "ledger.jsonl").write_text("\n".join([*lines[:3], '{"event": "st', *lines[3:], ""]))
    return copy


def test_the_package_imports_nothing_until_it_is_asked() -> None:
    code = (
        "import sys, pipeline; assert set(pipeline.__all__) <= set(dir(pipeline)); before = set(sys.modules); "
        "heavy = {'jax', 'numpy', 'pandas', 'pydantic', 'bokeh'}; assert not heavy & before, heavy & before; "
        "pipeline.open_run; assert 'jax' not in sys.modules; print('light')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.stdout == "light\n", done.stderr


def test_every_public_name_is_the_one_that_its_verb_calls() -> None:
    assert pipeline.open_run is open_run
    assert pipeline.evaluate is evaluate.evaluate
    for name in pipeline.__all__:
        assert callable(getattr(pipeline, name))
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        _ = pipeline.absent


def test_the_ledger_is_one_row_an_event(flown: Path) -> None:
    ledger = pipeline.open_run(flown).ledger
    assert len(ledger) == len(BEFORE + AGAIN)
    assert ledger.attrs["damaged"] == 1
    assert ledger["launch"].tolist() == [1] * len(BEFORE) + [2] * len(AGAIN)
    assert ledger.loc[ledger["event"] == "corruption", "reason"].tolist() == ["bits"]


def test_metrics_are_by_step_and_as_they_were_in_the_end(flown: Path) -> None:
    metrics = pipeline.open_run(flown).metrics
    assert metrics.index.tolist() == [10, 20, 25]
    assert metrics.index.name == "step"
    assert metrics["loss"].tolist()[:2] == [5.0, 4.2]
    assert np.isnan(metrics.loc[25, "loss"])
    assert metrics["validation_loss"].dropna().to_dict() == {20: 4.4, 25: 4.1}
    assert metrics.loc[20, "train_wh"] == 6.0


def test_checkpoints_say_what_became_of_each(flown: Path) -> None:
    shutil.rmtree(flown / "checkpoints" / "40")
    checkpoints = pipeline.open_run(flown).checkpoints
    assert checkpoints["state"].to_dict() == {10: "deleted", 20: "present", 40: "missing"}
    assert checkpoints.loc[20, "seconds"] == 0.7


def test_a_run_without_a_ledger_has_empty_tables_and_its_checkpoints(run_dir: Path) -> None:
    run = pipeline.open_run(run_dir)
    assert (len(run.ledger), len(run.metrics)) == (0, 0)
    assert {"event", "mission_s", "step", "wall", "launch"} <= set(run.ledger.columns)
    assert "validation_loss" in run.metrics.columns
    assert run.checkpoints["state"].to_dict() == {20: "present", 40: "present"}


def test_best_is_the_lowest_validation_among_the_sealed(flown: Path) -> None:
    """Step 25 has a lower loss, and was not sealed."""
    run = pipeline.open_run(flown)
    assert run.model("best").step == 20
    assert evaluate.evaluate(flown, "best") == evaluate.evaluate(flown, 20)


def test_a_model_gives_the_losses_that_evaluate_averages(run_dir: Path) -> None:
    model = pipeline.open_run(run_dir).model(20)
    losses, result = model.losses(), pipeline.evaluate(run_dir, 20)
    assert losses.shape == (result["windows"], 24)
    assert losses.mean(dtype=np.float64) == pytest.approx(result["loss"], rel=1e-6)
    assert losses[:, :4].mean() > losses[:, 12:].mean()  # context helps


def test_what_a_model_expects_and_what_comes_is_worked_out_from_its_logits(run_dir: Path) -> None:
    model = pipeline.open_run(run_dir).model(40)
    found = model.predictions()
    np.testing.assert_allclose(found.loss, model.losses(), rtol=1e-4, atol=1e-5)
    assert ((found.confidence > 0) & (found.confidence <= 1)).all()
    assert (found.entropy >= -np.log(found.confidence) - 1e-5).all(), "Shannon's entropy is at least the min-entropy"
    assert (found.entropy <= np.log(model.weights.vocab_size) + 1e-5).all()
    # Right where it was likeliest: then the token's own probability is the highest one.
    np.testing.assert_allclose(np.exp(-found.loss[found.correct]), found.confidence[found.correct], rtol=1e-4)
    assert (np.exp(-found.loss[~found.correct]) <= found.confidence[~found.correct] * (1 + 1e-5)).all()


def test_a_model_samples_as_the_verb_does(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (text,) = pipeline.open_run(run_dir).model(40).sample(["the "], tokens=12, seed=3)
    asked = ["--step", "40", "--prompt", "the ", "--tokens", "12", "--seed", "3", "--json"]
    assert sample.main([str(run_dir), *asked]) == 0
    assert text == json.loads(capsys.readouterr().out)["samples"][0]["text"]


def test_without_pandas_the_error_names_the_fix(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"pip install '\.\[notebooks\]'"):
        _ = pipeline.open_run(run_dir).ledger


def test_tables_can_be_joined(flown: Path) -> None:
    run = pipeline.open_run(flown)
    joined = run.metrics.join(run.checkpoints, rsuffix="_sealed")
    assert isinstance(joined, pd.DataFrame)
    assert joined.loc[20, "state"] == "present"
