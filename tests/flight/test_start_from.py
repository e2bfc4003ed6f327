"""A run that starts from the weights of another model: what it takes from their folder, and that it does so once."""

import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from folders import ROWS, SHAPE, noisy_params, write_folder
from launching import ROOT, final_bits, finish, ledger, start
from tokenizers import Tokenizer
from variations import slow
from xxhash import xxh3_128_hexdigest

import train
from pipeline.checkpoint import layout, metas
from pipeline.config import BadInput, Config, load, recipe
from pipeline.flight import start_from
from pipeline.flight.recorded import Found, look_at_tokenizer, sealed_tokenizer
from pipeline.flight.start_from import first_params, settle
from pipeline.ground.evaluate import evaluate
from pipeline.ground.run_directory import open_run

DONE, FAILED, BAD_INPUT = 0, 1, 2


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "open")


@pytest.fixture
def fine_tune(folder: Path, tmp_path: Path) -> Path:
    """A configuration file: 60 steps from the weights in `folder`."""
    words = ["sun", "orbit", "battery", "shadow", "model"]
    (tmp_path / "text.txt").write_text(" ".join(words[(i * i + i // 7) % 5] for i in range(5_000)))
    (tmp_path / "tuned.yaml").write_text(
        f"""
init_from: {folder}
corpus: {{source: text, path: {tmp_path}/text.txt, cache_dir: {tmp_path}/cache}}
model: {{context: 32}}
optimizer: {{name: adamw}}
train: {{batch: 4, precision: fp32, device: cpu, eval_every: 100, eval_batches: 20}}
budget: {{steps: 60}}
checkpoint: {{interval_s: 60}}
orbit: {ROOT}/configs/orbits/starcloud-1.yaml
satellite: {ROOT}/configs/satellites/starcloud-1.yaml
gpu: {ROOT}/configs/gpus/h100-pcie.yaml
mission: {{step_flops: 1.3e15}}
"""
    )
    return tmp_path / "tuned.yaml"


def settled(*arguments: str) -> Config:
    return settle(load(list(arguments)))


def test_shape_and_vocabulary_come_from_the_folder_and_the_rest_from_the_configuration(folder: Path) -> None:
    config = settled("--init_from", str(folder), "--model.remat", "block")
    assert config.model == SHAPE.model_copy(update={"remat": "block"}), "64 tokens: no longer than the weights allow"
    assert (config.corpus.tokenizer, config.corpus.vocab_size) == ("given", ROWS)
    assert settled("--init_from", str(folder), "--model.context", "32").model.context == 32


def test_batch_and_learning_rates_follow_from_the_folder_s_size_unless_given(folder: Path) -> None:
    config = settled("--init_from", str(folder), "--optimizer.lr", "0.001", "--model.context", "32")
    assert config.train.batch == recipe.batch(config.model) != Config().train.batch
    assert config.optimizer.muon_lr == recipe.muon_lr(config.model) != Config().optimizer.muon_lr
    assert config.optimizer.lr == 0.001


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model.depth", "4"], "model.depth 4 (there 2)"),
        (["--model.width", "128", "--model.norm_eps", "1e-6"], "model.width 128 (there 40), model.norm_eps 1e-06"),
        (["--model.context", "65"], "model.context: 65, but init_from"),
        (["--corpus.tokenizer", "bpe"], "corpus.tokenizer bpe (there given)"),
        (["--corpus.vocab_size", "4096"], f"corpus.vocab_size 4096 (there {ROWS})"),
    ],
    ids=str,
)
def test_a_key_that_conflicts_is_named_even_when_it_gives_the_default(
    arguments: list[str], message: str, folder: Path
) -> None:
    with pytest.raises(BadInput) as refusal:
        settled("--init_from", str(folder), *arguments)
    assert str(refusal.value).startswith(message)
    assert str(folder) in str(refusal.value)


def test_a_shape_that_this_network_cannot_have_is_named(tmp_path: Path) -> None:
    odd = write_folder(tmp_path / "odd", {"hidden_size": 44})
    with pytest.raises(BadInput, match=r"init_from: .*width: 44"):
        settled("--init_from", str(odd))


def test_a_folder_that_is_not_the_one_meant_is_refused(folder: Path) -> None:
    config = settled("--init_from", str(folder), "--init_sha256", "0" * 64)
    with pytest.raises(BadInput, match="init_sha256: 0000"):
        first_params(config)


@pytest.mark.slow
def test_killed_and_without_its_folder_it_ends_with_the_same_bits(
    fine_tune: Path, folder: Path, tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    code, _, err = finish("run", "--config", fine_tune, "--run_dir", whole, "--json")
    assert code == DONE, err
    process = start("run", "--config", fine_tune, "--run_dir", killed)
    while process.poll() is None and not (killed / "checkpoints" / "0").exists():
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not ledger(killed, "done")
    before = open_run(killed).weights(0).params
    np.testing.assert_array_equal(before["blocks"]["q"], noisy_params()["blocks"]["q"])
    untuned = evaluate(killed, step=0)["loss"]
    saved = yaml.safe_load((killed / "config.yaml").read_text())
    assert saved["init_sha256"] == first_params(settled("--config", str(fine_tune)))[1]

    shutil.rmtree(folder)
    code, _, err = finish("run", "--config", fine_tune, "--run_dir", killed, "--json")
    assert code == DONE, err
    assert final_bits(killed) == final_bits(whole)
    assert evaluate(killed)["loss"] < untuned


def test_a_run_without_a_seal_needs_its_folder_and_says_so(fine_tune: Path, folder: Path, tmp_path: Path) -> None:
    shutil.rmtree(folder)
    code, _, err = finish("run", "--config", fine_tune, "--run_dir", tmp_path / "run", cold=True)
    assert code == BAD_INPUT
    assert err == f"train.py run: init_from: {folder}: no such folder; name one with config.json and safetensors\n"
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_damaged_tokenizer_that_reads_as_another_is_made_anew_from_the_folder(
    fine_tune: Path, tmp_path: Path
) -> None:
    command = ["--config", str(fine_tune), "--run_dir", str(tmp_path / "run"), "--json"]
    assert train.main(command) == DONE
    path = tmp_path / "run" / "tokenizer.json"
    written = path.read_bytes()
    damaged = written.replace(b'"a": 5', b'"a": 4')  # one bit
    old, new = (Tokenizer.from_str(text.decode()).encode("a").ids for text in (written, damaged))
    assert old != new
    path.write_bytes(damaged)
    assert train.main(command) == DONE
    assert path.read_bytes() == written


@pytest.mark.parametrize("began", ["cutting", "whole"])
def test_a_run_goes_on_with_the_tokenizer_that_it_began_with_and_none_begins_with_one_that_cuts_its_text(
    began: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cutting = Tokenizer.from_file(str(folder / "tokenizer.json"))
    cutting.enable_truncation(512)
    cutting.save(str(folder / "tokenizer.json"))
    config = settled("--init_from", str(folder), "--run_dir", str(tmp_path / "run"))
    config = config.model_copy(update={"corpus": config.corpus.model_copy(update={"cache_dir": tmp_path / "cache"})})
    whole = start_from.tokenizer(config)
    assert whole
    assert whole.truncation is None
    text = {"cutting": cutting, "whole": whole}[began].to_str(pretty=True)
    monkeypatch.setattr("pipeline.flight.start_from.begun_with", lambda _: config)
    monkeypatch.setattr("pipeline.flight.recorded.sealed_tokenizer", lambda _: xxh3_128_hexdigest(text.encode()))
    for _ in ("its own is lost", "the folder's is lost"):
        found = start_from.tokenizer(config)
        assert found
        assert found.to_str(pretty=True) == text
        config.directory.mkdir(exist_ok=True)
        (config.directory / "tokenizer.json").write_text(text)
        (folder / "tokenizer.json").unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("source", "damage"),
    [("tokens", (b'"z": ', b'"{": ')), *slow(("tokens", (b"{", b"[")), ("text", (b'"z": ', b'"{": ')))],
    ids=["tokens: another", "tokens: unreadable", "text: of the same tokens"],
)
def test_a_damaged_tokenizer_that_is_whole_nowhere_else_is_never_taken_for_the_run_s(
    source: str, damage: tuple[bytes, bytes], fine_tune: Path, folder: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    command = ["--config", str(fine_tune), "--run_dir", str(run), "--json"]
    if source == "tokens":
        np.array([(i * i + i // 7) % 11 for i in range(20_000)], np.uint16).tofile(tmp_path / "text.bin")
        command += ["--corpus.source", "tokens", "--corpus.path", str(tmp_path / "text.bin")]
    assert train.main(command) == DONE
    bits, sealed, path = final_bits(run), sealed_tokenizer(run), run / "tokenizer.json"
    damaged = path.read_bytes().replace(*damage, 1)
    path.write_bytes(damaged)
    for step in layout.steps(run / "checkpoints")[1:]:
        shutil.rmtree(layout.path(run / "checkpoints", step))
    folder.rename(tmp_path / "gone")
    shutil.rmtree(tmp_path / "cache")
    assert train.main(command) == DONE
    assert final_bits(run) == bits
    assert path.read_bytes() == damaged
    assert (sealed_tokenizer(run), look_at_tokenizer(run)) == (sealed, Found.DAMAGED)
    (meta, *_) = metas(run / "checkpoints")
    assert meta["tokenizer"] == sealed
    assert [event["tokenizer_found"] for event in ledger(run, "resume")] == ["damaged"]


def test_a_damaged_tokenizer_is_made_anew_from_the_cache_of_its_tokens(
    fine_tune: Path, folder: Path, tmp_path: Path
) -> None:
    command = ["--config", str(fine_tune), "--run_dir", str(tmp_path / "run"), "--json"]
    assert train.main(command) == DONE
    shutil.rmtree(folder)
    path = tmp_path / "run" / "tokenizer.json"
    written = path.read_bytes()
    for damaged in (written.replace(b'"a": 5', b'"a": 4'), b""):
        path.write_bytes(damaged)
        assert train.main(command) == DONE
        assert path.read_bytes() == written
    shutil.rmtree(tmp_path / "cache")
    path.write_bytes(b"")
    assert train.main(command) == FAILED, "no text becomes tokens without it"
    path.write_bytes(written)
    assert train.main(command) == DONE


def test_what_a_fine_tune_began_with_is_on_the_second_device_too(fine_tune: Path, folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    (tmp_path / "second").mkdir()
    command = ["--config", str(fine_tune), "--run_dir", str(run), "--json"]
    command += ["--checkpoint.mirror_dir", str(tmp_path / "second")]
    assert train.main(command) == DONE
    bits = final_bits(run)

    for meta in run.glob("checkpoints/*/meta.json"):
        meta.write_bytes(b"{}")
    (run / "config.yaml").write_bytes(b"")
    assert train.main(command) == DONE, "the configuration"
    written = (run / "tokenizer.json").read_bytes()
    for damaged in (written[:-9], written.replace(b'": 7', b'": 8'), b""):  # one of them reads as a tokeniser
        assert damaged != written
        (run / "tokenizer.json").write_bytes(damaged)
        assert train.main(command) == DONE, "the tokenizer"
        assert (run / "tokenizer.json").read_bytes() == written
    shutil.rmtree(folder)
    shutil.rmtree(run)
    assert train.main([*command, "--seed", "1"]) == BAD_INPUT
    assert train.main(command) == DONE, "all of it, the folder gone"
    assert final_bits(run) == bits
