"""Two models of one text, paired."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from pipeline.config import BadInput, dump_yaml, load_file
from pipeline.corpus.token_bytes import text_of, token_bytes
from pipeline.ground.compare import compare
from pipeline.ground.evaluate import evaluate, main
from pipeline.ground.export import main as export
from pipeline.ground.run_directory import open_run

NewRun = Callable[..., Path]
Text = Callable[..., str]


@pytest.fixture(scope="module")
def byte_run(tmp_path_factory: pytest.TempPathFactory, new_run: NewRun, text: Text) -> Path:
    """Of the text of `run_dir`, under another tokenizer and another context."""
    folder = tmp_path_factory.mktemp("runs")
    return new_run(folder / "byte", text(), corpus={"tokenizer": "byte"}, model={"context": 32})


def test_a_run_against_itself_differs_by_nothing(run_dir: Path) -> None:
    for unit in ("nats", "bits-per-byte"):
        result = compare(run_dir, run_dir, unit=unit)
        assert result["difference"] == result["difference_low"] == result["difference_high"] == 0.0
        assert result["a_better"] == 0.5


def test_the_longer_trained_step_is_better_and_the_pairs_know_it_better_than_the_losses(run_dir: Path) -> None:
    result = compare(run_dir, run_dir, step_a=40, step_b=20)
    older, newer = evaluate(run_dir, 20), evaluate(run_dir, 40)
    assert result["difference"] == pytest.approx(newer["loss"] - older["loss"], abs=1e-6)
    assert result["difference_low"] < result["difference"] < result["difference_high"] < 0.0
    assert result["standard_error"] < older["standard_error"] + newer["standard_error"]
    assert result["a_better"] > 0.9
    assert result["pairs"] == newer["windows"]


def test_different_tokenizers_are_refused_in_nats_and_compared_in_bits(run_dir: Path, byte_run: Path) -> None:
    with pytest.raises(BadInput, match=r"another tokenizer.*--unit bits-per-byte"):
        compare(run_dir, byte_run)
    result = compare(run_dir, byte_run, unit="bits-per-byte")
    assert result["unit"] == "bits per byte"
    # The blocks leave out what lies at either end of the held-out text, some per cent of it.
    assert result["a"] == pytest.approx(evaluate(run_dir)["bits_per_byte"], rel=0.03)
    assert result["b"] == pytest.approx(evaluate(byte_run)["bits_per_byte"], rel=0.03)
    back = compare(byte_run, run_dir, unit="bits-per-byte")
    assert back["difference"] == pytest.approx(-result["difference"])


def test_another_context_is_refused_in_nats(run_dir: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(run_dir, tmp_path / "wide"))
    config = load_file(other / "config.yaml")
    model = config.model.model_copy(update={"context": 32})  # which no parameter depends on
    (other / "config.yaml").write_text(dump_yaml(config.model_copy(update={"model": model})))
    with pytest.raises(BadInput, match=r"context of .* is 32, not 24.*--unit bits-per-byte"):
        compare(run_dir, other)


def test_another_text_is_refused_unless_a_third_is_given(
    run_dir: Path, tmp_path: Path, new_run: NewRun, text: Text
) -> None:
    other = new_run(tmp_path / "other", text(seed=1))
    for unit in ("nats", "bits-per-byte"):
        with pytest.raises(BadInput, match=r"not trained on the text of .*--corpus\.path"):
            compare(run_dir, other, unit=unit)
    (tmp_path / "third.txt").write_text(text(seed=2))
    assert compare(run_dir, other, corpus_path=str(tmp_path / "third.txt"))["pairs"] > 100


def test_the_verb_says_which_is_better(run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    worse = tmp_path / "worse"
    shutil.copytree(run_dir, worse)
    shutil.rmtree(worse / "checkpoints" / "40")
    assert main([str(run_dir), "--against", str(worse)]) == 0
    assert f"{run_dir} is better" in capsys.readouterr().out
    assert main([str(run_dir), "--against", str(worse), "--step", "20,40", "--json"]) == 0
    compared = json.loads(capsys.readouterr().out)["comparisons"]
    assert [row["step_a"] for row in compared] == [20, 40]
    assert compared[0]["difference"] == 0.0 > compared[1]["difference_high"]


def test_a_loss_that_is_not_finite_is_null_and_nobody_is_better(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def overflowing(_config: object, _weights: object, windows: np.ndarray) -> np.ndarray:
        return np.where(np.arange(len(windows)) == 3, np.inf, 2.0).astype(np.float32)

    def strict(text: str) -> dict[str, Any]:
        return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))

    monkeypatch.setattr("pipeline.ground.token_losses.window_losses", overflowing)
    against = [str(run_dir), "--against", str(run_dir)]
    assert main([*against, "--json"]) == 0
    result = strict(capsys.readouterr().out)
    assert (result["a"], result["difference"], result["difference_low"]) == (None, None, None)
    assert main(against) == 0
    assert "no difference that this text shows" in capsys.readouterr().out
    assert export([str(run_dir), "--out", str(tmp_path / "int8"), "--int8", "--json"]) == 0
    assert strict(capsys.readouterr().out)["loss"]["int8"] is None
    assert strict((tmp_path / "int8" / "export.json").read_text())["loss"]["difference_low"] is None
    assert export([str(run_dir), "--out", str(tmp_path / "int8"), "--int8"]) == 0
    assert "not finite" in capsys.readouterr().out


def test_token_bytes_give_back_the_text(run_dir: Path, bpe_run: Path, byte_run: Path) -> None:
    for path in (run_dir, bpe_run, byte_run):
        model = open_run(path).model()
        corpus = model.corpus()
        assert corpus.tokenizer is not None
        table = token_bytes(corpus.tokenizer)
        text = text_of(table, corpus.held_out)
        assert len(text) == corpus.held_out_bytes
        assert Path(str(model.run.config.corpus.path)).read_bytes().endswith(text)


def test_token_bytes_of_ids_with_holes_are_found_by_id(run_dir: Path, tmp_path: Path) -> None:
    holes = Tokenizer(models.BPE({"a": 0, "b": 5}, []))
    holes.pre_tokenizer, holes.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    assert text_of(token_bytes(holes), np.array([5, 0])) == b"ba"
    copy = Path(shutil.copytree(run_dir, tmp_path / "copy"))
    holes.save(str(copy / "tokenizer.json"))
    with pytest.raises(BadInput, match="6 tokens, but the model has 4"):
        open_run(copy).tokenizer(4)


def test_a_tokenizer_that_drops_text_is_refused(run_dir: Path, tmp_path: Path, text: Text) -> None:
    copy = Path(shutil.copytree(run_dir, tmp_path / "copy"))
    tokenizer = json.loads((copy / "tokenizer.json").read_text())
    tokenizer["decoder"] = {"type": "WordPiece", "prefix": "##", "cleanup": True}
    (copy / "tokenizer.json").write_text(json.dumps(tokenizer))
    (tmp_path / "text.txt").write_text(text(seed=2))
    with pytest.raises(BadInput, match="WordPiece"):
        compare(copy, run_dir, corpus_path=str(tmp_path / "text.txt"), unit="bits-per-byte")


def test_blocks_hold_every_bit_once(run_dir: Path) -> None:
    """The mean over blocks times their bytes is the sum of the losses of the tokens that end in them."""
    result, model = compare(run_dir, run_dir, unit="bits-per-byte"), open_run(run_dir).model()
    bits = model.losses().ravel() / np.log(2)  # one byte a character here; token 0 is predicted by nobody
    start, count = 128 - 1, 128 * result["pairs"]
    assert result["a"] == pytest.approx(bits[start : start + count].sum() / count, rel=1e-6)


def test_best_is_refused_where_nothing_was_validated(run_dir: Path) -> None:
    with pytest.raises(BadInput, match="best: none of the sealed steps"):
        compare(run_dir, run_dir, step_a="best")
