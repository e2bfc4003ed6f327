"""Reading a run directory, and never writing to one."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import jax
import numpy as np
import pytest

from pipeline.checkpoint import Store, restore, seal
from pipeline.config import BadInput, RunFailed, dump_yaml, load_file
from pipeline.ground import evaluate, export, sample
from pipeline.ground.run_directory import open_run
from pipeline.lm.step import init_state


@pytest.fixture
def copied(run_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run_dir, tmp_path / "copy"))


def flip_a_bit(run: Path, step: int) -> Path:
    """In the largest file of a checkpoint, where the arrays are."""
    largest = max(
        (p for p in (run / "checkpoints" / str(step)).rglob("*") if p.is_file()), key=lambda p: p.stat().st_size
    )
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 1
    largest.write_bytes(data)
    return largest


def test_parameters_are_those_of_the_sealed_state_and_nothing_is_written(
    copied: Path, fingerprint: Callable[[Path], dict[str, tuple[int, int]]]
) -> None:
    before = fingerprint(copied)
    run = open_run(copied)
    weights = run.weights()
    like = jax.eval_shape(lambda: init_state(run.config, weights.vocab_size))
    whole = restore.load(copied / "checkpoints", 40, like)
    assert (weights.step, weights.meta) == (whole.step, whole.meta)
    jax.tree.map(np.testing.assert_array_equal, weights.params, whole.state.params)
    assert fingerprint(copied) == before


def test_a_run_is_evaluated_without_a_change_to_the_folder_that_it_names_for_its_tokens(
    copied: Path, tmp_path: Path, fingerprint: Callable[[Path], dict[str, tuple[int, int]]]
) -> None:
    """One from elsewhere may name any: its tokens are taken from there, or made anew in the user's own cache."""
    (tmp_path / "named" / "letter.draft").mkdir(parents=True)
    (tmp_path / "named" / "lock").write_text("mine")
    config = load_file(copied / "config.yaml")
    corpus = config.corpus.model_copy(update={"cache_dir": tmp_path / "named"})
    (copied / "config.yaml").write_text(dump_yaml(config.model_copy(update={"corpus": corpus})))
    before = fingerprint(tmp_path)
    assert len(open_run(copied).model().corpus().held_out)
    assert fingerprint(tmp_path) == before


def test_what_was_tokenised_where_the_run_was_made_is_not_tokenised_again(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.ground.run_directory.user_cache", lambda: tmp_path)
    monkeypatch.setattr("pipeline.corpus.dataset.tokenise", None)
    assert len(open_run(run_dir).model().corpus().held_out)


def test_each_step_has_its_own_weights(run_dir: Path) -> None:
    run = open_run(run_dir)
    first, last = run.weights(20), run.weights(40)
    assert (first.step, last.step) == (20, 40)
    assert (first.params["embedding"] != last.params["embedding"]).any()


def test_a_run_that_is_still_training_can_be_read(copied: Path) -> None:
    """Its lock is held, and the save under way has no number yet."""
    (copied / "checkpoints" / "60.saving").mkdir()
    store = Store(
        copied / "checkpoints", copied / "quarantine", open_run(copied).config.checkpoint, lambda *event: None
    )
    with store:
        assert open_run(copied).weights().step == 40


def test_a_damaged_newest_step_is_passed_over_but_not_moved(copied: Path) -> None:
    flip_a_bit(copied, 40)
    weights = open_run(copied).weights()
    assert weights.step == 20
    assert list(weights.damaged) == [40]
    assert (copied / "checkpoints" / "40").is_dir()


@pytest.mark.parametrize(
    ("verb", "arguments"), [(evaluate, []), (sample, ["--tokens", "3"]), (export, ["--out", "OUT"])], ids=lambda v: ""
)
def test_every_verb_says_that_it_passed_over_a_damaged_step(
    verb: ModuleType, arguments: list[str], copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flip_a_bit(copied, 40)
    given = [str(tmp_path / "out") if word == "OUT" else word for word in arguments]
    assert verb.main([str(copied), "--json", *given]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["step"] == 20
    assert said.err.startswith("step 40 is damaged and was passed over: ")


def test_a_damaged_step_that_was_asked_for_is_refused(copied: Path) -> None:
    name = flip_a_bit(copied, 40).name
    with pytest.raises(RunFailed, match=rf"step 40: .*{re.escape(name)}.*--step"):
        open_run(copied).weights(40)


def test_nothing_whole_is_a_failure_that_names_the_first_thing_wrong(copied: Path) -> None:
    for step in (20, 40):
        flip_a_bit(copied, step)
    with pytest.raises(RunFailed, match=r"step 40: .*differs from what was sealed"):
        open_run(copied).weights()


def test_a_step_that_is_not_there_is_refused_with_those_that_are(run_dir: Path) -> None:
    with pytest.raises(BadInput, match=r"--step: 30: not sealed in .*; there are 20, 40"):
        open_run(run_dir).weights(30)


def test_what_is_no_run_is_refused(tmp_path: Path, run_dir: Path) -> None:
    with pytest.raises(BadInput, match="no such directory"):
        open_run(tmp_path / "absent")
    with pytest.raises(BadInput, match="is this a run directory"):
        open_run(tmp_path)
    (tmp_path / "config.yaml").write_text((run_dir / "config.yaml").read_text())
    with pytest.raises(BadInput, match="no sealed checkpoint yet"):
        open_run(tmp_path).weights()


def test_a_checkpoint_of_another_model_is_refused(copied: Path) -> None:
    config = load_file(copied / "config.yaml")
    other = config.model_copy(update={"model": config.model.model_copy(update={"depth": 3})})
    (copied / "config.yaml").write_text(dump_yaml(other))
    with pytest.raises(BadInput, match="another model than"):
        open_run(copied).weights()


@pytest.mark.parametrize("shape", [(), (10**30, 40)])
def test_a_checkpoint_sealed_with_an_embedding_of_any_shape_is_refused(shape: tuple[int, ...], copied: Path) -> None:
    here = copied / "checkpoints" / "40"
    sealed = seal.read(here, 40)
    sealed.leaves["params.embedding"] = seal.Leaf("float32", shape, "0" * 32)
    seal.put(here, sealed)
    with pytest.raises(BadInput, match=r"another model than .*params\.embedding"):
        open_run(copied).weights(40)


def test_a_checkpoint_sealed_with_a_meta_json_that_says_nothing_is_refused(copied: Path) -> None:
    here = copied / "checkpoints" / "40"
    leaves = seal.read(here, 40).leaves
    for text, error, message in (("[1]", RunFailed, "40: cannot be read"), ("{}", BadInput, "not the text that")):
        (here / "meta.json").write_text(text)
        (here / seal.NAME).unlink()
        seal.write(here, 40, leaves)
        with pytest.raises(error, match=message):
            open_run(copied).model(40).corpus()


def test_a_tokenizer_that_is_missing_or_of_another_run_is_refused(copied: Path, bpe_run: Path) -> None:
    vocab_size = open_run(copied).weights().vocab_size
    shutil.copy(bpe_run / "tokenizer.json", copied)
    with pytest.raises(BadInput, match=f"300 tokens, but the model has {vocab_size}"):
        open_run(copied).tokenizer(vocab_size)
    panics = json.loads((bpe_run / "tokenizer.json").read_text())
    panics["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": "AAAA"}
    for wrong in (b"{}", b"\xff", json.dumps(panics).encode()):
        (copied / "tokenizer.json").write_bytes(wrong)
        with pytest.raises(BadInput, match=r"tokenizer\.json: not a tokenizer .*copy it from where"):
            open_run(copied).tokenizer()
    (copied / "tokenizer.json").unlink()
    with pytest.raises(BadInput, match=r"tokenizer\.json: No such file"):
        open_run(copied).tokenizer()
