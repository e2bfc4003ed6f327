"""What is read of a folder of open weights, and what is refused."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np
import pytest
from folders import ROWS, SHAPE, noisy_params, write_folder
from safetensors.numpy import load_file, save_file

from pipeline.config import BadInput
from pipeline.config.learning import Model
from pipeline.flight.open_weights import open_weights, read_tokenizer


def load(folder: Path) -> Any:
    found = open_weights(folder)
    return found.params(Model(**found.shape, context=found.longest))


def shard(folder: Path, wrong: Mapping[str, str] = {}) -> None:
    """Splits model.safetensors in three, with an index beside them in which `wrong` differs."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = {name: f"model-{i % 3 + 1}-of-3.safetensors" for i, name in enumerate(sorted(tensors))}
    for file in set(names.values()):
        save_file({name: tensors[name] for name, where in names.items() if where == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names | dict(wrong)}))


def test_parameters_come_back_bit_for_bit_from_one_file_and_from_shards(tmp_path: Path) -> None:
    folder, expected = write_folder(tmp_path / "it"), noisy_params()
    found = open_weights(folder)
    assert (Model(**found.shape, context=found.longest), found.vocab_size) == (SHAPE, ROWS)
    jax.tree.map(np.testing.assert_array_equal, load(folder), expected)
    shard(folder)
    jax.tree.map(np.testing.assert_array_equal, load(folder), expected)


def test_half_precision_becomes_fp32(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "it")
    tensors = load_file(folder / "model.safetensors")
    save_file({n: t.astype(ml_dtypes.bfloat16) for n, t in tensors.items()}, folder / "model.safetensors")
    for found, exact in zip(jax.tree.leaves(load(folder)), jax.tree.leaves(noisy_params()), strict=True):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, exact, rtol=2**-8)


def test_the_hash_covers_every_file_that_is_used_and_no_other(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "it")
    first = open_weights(folder).sha256()
    (folder / "README.md").write_text("words")
    assert open_weights(folder).sha256() == first
    seen = {first}
    for name in ("tokenizer.json", "config.json"):
        (folder / name).write_text((folder / name).read_text() + "\n")
        seen.add(open_weights(folder).sha256())
    save_file(
        load_file(folder / "model.safetensors") | {"model.norm.weight": np.zeros(40, np.float32)},
        folder / "model.safetensors",
    )
    assert len(seen | {open_weights(folder).sha256()}) == 4


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"tie_word_embeddings": False}, "tie_word_embeddings: False: only tied embeddings"),
        ({"model_type": "llama"}, "model_type: 'llama'"),
        ({"attention_bias": True}, "attention_bias: True"),
        ({"use_sliding_window": True}, "use_sliding_window"),
        ({"hidden_act": "gelu"}, "hidden_act: 'gelu'"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "layer_types: 'sliding_attention'"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e6}}, "rope_type: 'yarn'"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_type: 'linear'"),
        ({"num_hidden_layers": "2"}, "num_hidden_layers: '2': not a whole number"),
        ({"hidden_size": None}, "hidden_size: None"),
        ({"vocab_size": 10**30}, "vocab_size"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_another_network_is_refused_by_the_key_that_says_so(
    changed: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(BadInput) as refusal:
        open_weights(write_folder(tmp_path / "it", changed))
    assert str(refusal.value).startswith(f"init_from: {tmp_path}/it/config.json: {message}")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"without": "model.layers.1.self_attn.q_norm.weight"}, r"model\.layers\.1\..*q_norm.* is missing \(1 of"),
        ({"changed": {"intermediate_size": 80}}, r"\(72, 40\), but config\.json makes it \(80, 40\)"),
        ({"extra": {"model.layers.0.self_attn.q_proj.bias": np.zeros(96, np.float32)}}, "q_proj.bias is unknown"),
        ({"extra": {"model.norm.weight": np.ones(40, np.int8)}}, "model.norm.weight is I8; only BF16, F16, F32"),
        ({"extra": {"model.norm.weight": np.full(40, np.nan, np.float32)}}, "not finite"),
        ({"extra": {"lm_head.weight": np.ones((ROWS, 40), np.float32)}}, "lm_head.weight differs from the embedding"),
    ],
    ids=["missing", "shape", "unknown", "type", "finite", "head"],
)
def test_tensors_that_do_not_fit_are_refused_by_name(arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "it", **arguments)
    with pytest.raises(BadInput, match=message) as refusal:
        load(folder)
    assert "\n" not in str(refusal.value)


def test_a_tied_head_that_is_written_out_is_no_harm(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "it", extra={"lm_head.weight": np.asarray(noisy_params()["embedding"])})
    jax.tree.map(np.testing.assert_array_equal, load(folder), noisy_params())


def test_pickle_is_refused_with_the_reason(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "it")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(BadInput, match=r"pytorch_model\.bin is pickle, which could run any code"):
        load(folder)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"model.norm.weight": "../elsewhere.safetensors"}, "no .safetensors file of this folder"),
        ({"model.norm.weight": "model.bin"}, "no .safetensors file of this folder"),
        ({"model.norm.weight": "model-9-of-3.safetensors"}, "model-9-of-3.safetensors: No such file"),
        ({"model.norm.weight": "model-1-of-3.safetensors"}, "model.norm.weight is not in model-1-of-3"),
    ],
    ids=["outside", "pickle", "gone", "elsewhere"],
)
def test_an_index_is_not_trusted(wrong: dict[str, str], message: str, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "it")
    shard(folder, wrong)
    with pytest.raises(BadInput, match=message):
        load(folder)


def test_a_truncated_file_is_one_line(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "it")
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(BadInput, match="not a safetensors file") as refusal:
        load(folder)
    assert "\n" not in str(refusal.value)


def test_a_tokenizer_must_fit_the_embedding(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "it")
    path = folder / "tokenizer.json"
    assert read_tokenizer(path, ROWS).get_vocab_size() == ROWS - 5
    with pytest.raises(BadInput, match="31 tokens, but the embedding has 30"):
        read_tokenizer(path, 30)
    fields = json.loads(path.read_text())
    panics = {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}}
    for wrong in ({}, fields | panics):
        path.write_text(json.dumps(wrong))
        with pytest.raises(BadInput, match="not a tokenizer"):
            read_tokenizer(path, ROWS)
    path.unlink()
    with pytest.raises(BadInput, match=r"tokenizer\.json: No such file.*corpus\.source: tokens"):
        read_tokenizer(path, ROWS)
