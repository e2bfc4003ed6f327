"""Evaluation against arithmetic done by hand."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from pipeline.config import BadInput, dump_yaml, load_file
from pipeline.corpus import open_corpus
from pipeline.ground.evaluate import evaluate, main
from pipeline.ground.run_directory import RunDirectory, open_run
from pipeline.lm.loss import token_losses
from pipeline.lm.model import Transformer


def test_loss_is_the_mean_over_every_held_out_window(run_dir: Path) -> None:
    run, result = open_run(run_dir), evaluate(run_dir)
    config = run.config
    corpus = open_corpus(config.corpus, config.model.context, config.seed)
    windows = jnp.asarray(np.asarray(corpus.held_out_windows(config.model.context), np.int32))
    assert len(windows) % config.train.batch, "the last batch must be a part of one"
    params = run.weights().params
    hidden = Transformer.apply(config.model, params, windows[:, :-1])
    expected = float(token_losses(hidden, jnp.asarray(params["embedding"]), windows[:, 1:]).mean())
    assert result["loss"] == pytest.approx(expected, abs=1e-5)
    assert result["windows"] == len(windows)
    assert result["perplexity"] == pytest.approx(math.exp(expected), rel=1e-4)
    # One byte a character, but for this text's none of more than one.
    assert result["bits_per_byte"] == pytest.approx(expected / math.log(2), rel=1e-4)
    assert result["tokens"] == 40 * 8 * 24


def test_intervals_hold_the_figures_and_the_older_step_is_worse(run_dir: Path) -> None:
    newest, older = evaluate(run_dir), evaluate(run_dir, step=20)
    assert (older["step"], newest["step"]) == (20, 40)
    assert newest["loss"] < newest["unigram_loss"]
    assert newest["loss_high"] < older["loss_low"]
    for key in ("loss", "bits_per_byte", "perplexity"):
        assert newest[f"{key}_low"] < newest[key] < newest[f"{key}_high"]


def test_a_model_that_is_never_wrong_has_a_loss_of_zero(
    new_run: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = new_run(tmp_path / "run", "a" * 4000)  # one token: there is nothing else to say
    result = evaluate(run)
    assert (result["loss"], result["perplexity"]) == (0.0, 1.0)
    assert (result["bits_per_byte"], result["bits_per_byte_high"]) == (0.0, 0.0)
    assert main([str(run)]) == 0
    assert "bits per byte   0.0000  [0.0000, 0.0000]" in capsys.readouterr().out


def test_an_interval_that_reaches_beyond_all_numbers_is_left_out(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The perplexity of its upper end is e to the power of more than 709."""

    def wide(_config: object, _weights: object, windows: np.ndarray) -> np.ndarray:
        return np.linspace(0.0, 1398.0, len(windows))

    monkeypatch.setattr("pipeline.ground.token_losses.window_losses", wide)
    assert main([str(run_dir)]) == 0
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("perplexity")]
    assert "[" not in row


def test_the_same_run_gives_the_same_figures(run_dir: Path) -> None:
    assert evaluate(run_dir) == evaluate(run_dir)


def test_another_text_is_read_with_the_tokenizer_of_the_run(run_dir: Path, bpe_run: Path, tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("shadow over the satellite.\n" * 60)
    for run in (run_dir, bpe_run):
        other = evaluate(run, corpus_path=str(tmp_path / "other.txt"))
        assert other["loss"] != evaluate(run)["loss"]
        assert other["corpus"].endswith("other.txt")
    (tmp_path / "foreign.txt").write_text("shadow over the sätellite.\n" * 60)
    with pytest.raises(BadInput, match="does not know 'ä'"):
        evaluate(run_dir, corpus_path=str(tmp_path / "foreign.txt"))


def test_a_text_that_changed_since_training_is_refused(run_dir: Path, tmp_path: Path) -> None:
    """What is held out of the new text may have been trained on in the old one."""
    copy = Path(shutil.copytree(run_dir, tmp_path / "copy"))
    config = load_file(copy / "config.yaml")
    changed = tmp_path / "changed.txt"
    changed.write_text("the sea. " + Path(str(config.corpus.path)).read_text())
    corpus = config.corpus.model_copy(update={"path": str(changed)})
    (copy / "config.yaml").write_text(dump_yaml(config.model_copy(update={"corpus": corpus})))
    with pytest.raises(BadInput, match=r"not the text that .* was trained on.*--corpus\.path"):
        evaluate(copy)


def test_cudnn_attention_is_evaluated_where_there_is_no_gpu(run_dir: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run_dir, tmp_path / "copy"))
    config = load_file(copy / "config.yaml")
    model = config.model.model_copy(update={"attention": "cudnn"})
    train = config.train.model_copy(update={"precision": "bf16"})
    (copy / "config.yaml").write_text(dump_yaml(config.model_copy(update={"model": model, "train": train})))
    assert evaluate(copy)["loss"] == pytest.approx(evaluate(run_dir)["loss"], abs=0.02)


def test_the_verb_prints_one_json_object_with_the_promised_keys(
    run_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main([str(run_dir), "--json", "--step", "20"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert {"loss", "bits_per_byte", "perplexity", "unigram_loss", "step", "tokens"} <= result.keys()
    assert result["step"] == 20
    assert main([str(run_dir)]) == 0
    said = capsys.readouterr().out
    assert "bits per byte" in said
    assert "chosen on this text" not in said
    monkeypatch.setattr(RunDirectory, "_best_step", lambda run: 20)  # its ledger has no validation
    assert main([str(run_dir), "--step", "best"]) == 0
    assert "best: chosen on this text" in capsys.readouterr().out
    assert main([str(run_dir), "--against", str(run_dir), "--against_step", "best"]) == 0
    assert "best: chosen on this text" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--step", "x"], "--step: 'x' is not a whole number"),
        (["--stepp", "1"], "unrecognized arguments: --stepp"),
        ([], "required: RUN"),
    ],
)
def test_a_wrong_argument_is_one_line(arguments: list[str], message: str, run_dir: Path) -> None:
    with pytest.raises(BadInput) as raised:
        main([str(run_dir), *arguments] if arguments else [])
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
