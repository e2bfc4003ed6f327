"""Our parameters under the names and shapes of `Qwen3ForCausalLM` in transformers."""

from typing import Any

import numpy as np

from pipeline.config.learning import Model
from pipeline.lm.model import Params

_NAMES = {
    "attention_norm": "input_layernorm",
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "q_norm": "self_attn.q_norm",
    "k_norm": "self_attn.k_norm",
    "mlp_norm": "post_attention_layernorm",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}


def tensors(params: Params) -> dict[str, np.ndarray]:
    """fp32 tensors by name, sorted. Matrices are [out, in] there and [in, out] here; the tied head is left out."""
    found = {"model.embed_tokens.weight": params["embedding"], "model.norm.weight": params["norm"]}
    for ours, theirs in _NAMES.items():
        for i, layer in enumerate(np.asarray(params["blocks"][ours])):
            found[f"model.layers.{i}.{theirs}.weight"] = layer.T
    # safetensors writes the memory as it lies: a transposed view would come out wrong.
    return {name: np.ascontiguousarray(found[name], np.float32) for name in sorted(found)}


def config(shape: Model, vocab_size: int) -> dict[str, Any]:
    """What transformers, vLLM and llama.cpp read as config.json."""
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "vocab_size": vocab_size,
        "hidden_size": shape.width,
        "intermediate_size": shape.hidden_width,
        "num_hidden_layers": shape.depth,
        "num_attention_heads": shape.query_heads,
        "num_key_value_heads": shape.key_heads,
        "head_dim": shape.channels_per_head,
        "hidden_act": "silu",
        "max_position_embeddings": shape.context,
        "rms_norm_eps": shape.norm_eps,
        "rope_theta": shape.rope_theta,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "use_sliding_window": False,
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
        "bos_token_id": None,
        "eos_token_id": None,
    }
