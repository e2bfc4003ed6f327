"""Folders that transformers writes: what we read of them computes what they compute. Needs the `interop` extra."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipeline.config import BadInput
from pipeline.config.learning import Model
from pipeline.flight.open_weights import open_weights
from pipeline.lm.model import Transformer

torch = pytest.importorskip("torch", reason="torch is not installed: pip install '.[interop]'")
transformers = pytest.importorskip("transformers", reason="transformers is not installed: pip install '.[interop]'")

SMALL = {"vocab_size": 97, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3, "num_attention_heads": 6}
SMALL |= {"num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 64, "rms_norm_eps": 1e-5}
ROPE = {"rope_type": "default", "rope_theta": 5e5}


def theirs(**changed: Any) -> Any:
    """A random model of theirs, its norms random too; 16 channels a head, where width / heads would be 8."""
    torch.manual_seed(0)
    settings = {"tie_word_embeddings": True, "rope_parameters": ROPE, "initializer_range": 0.2}
    model = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**(SMALL | settings | changed))).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter += 0.3 * torch.randn_like(parameter)
    return model


@pytest.mark.parametrize("shards", [{}, {"max_shard_size": "60KB"}], ids=["one file", "shards"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("heads", [{}, {"num_key_value_heads": 6}], ids=["grouped", "not grouped"])
def test_a_model_that_transformers_saved_computes_the_same_logits(
    shards: dict[str, str], dtype: Any, heads: dict[str, int], tmp_path: Path
) -> None:
    theirs(**heads).to(dtype).save_pretrained(tmp_path, **shards)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert (tmp_path / "model.safetensors.index.json").exists() == bool(shards)
    tokens = np.random.default_rng(0).integers(97, size=(2, 64))
    with torch.no_grad():
        expected = model(torch.tensor(tokens)).logits.numpy()
    found = open_weights(tmp_path)
    shape = Model(**found.shape, context=found.longest)
    params = jax.device_put(found.params(shape))
    ours = Transformer.apply(shape, params, jnp.asarray(tokens)) @ params["embedding"].T
    assert np.ptp(expected) > 1, "flat logits would prove little"
    np.testing.assert_allclose(ours, expected, atol=1e-4, rtol=0)


def test_untied_embeddings_are_refused(tmp_path: Path) -> None:
    theirs(tie_word_embeddings=False).save_pretrained(tmp_path)
    with pytest.raises(BadInput, match="tie_word_embeddings: False: only tied embeddings can be trained here"):
        open_weights(tmp_path)


def test_another_rope_theta_gives_other_logits(tmp_path: Path) -> None:
    """The control: the comparison above sees a shape that was read wrong."""
    model = theirs()
    model.save_pretrained(tmp_path)
    tokens = np.arange(64)[None]
    with torch.no_grad():
        expected = model(torch.tensor(tokens)).logits.numpy()
    found = open_weights(tmp_path)
    shape = Model(**(found.shape | {"rope_theta": 1e4}), context=found.longest)
    params = found.params(shape)
    ours = Transformer.apply(shape, params, jnp.asarray(tokens)) @ params["embedding"].T
    assert np.abs(np.asarray(ours) - expected).max() > 1e-2
