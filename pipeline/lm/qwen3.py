"""Our parameters under the names and shapes of `Qwen3ForCausalLM` in transformers, and the way back."""

from collections.abc import Callable
from itertools import chain
from typing import Any

import numpy as np
from jaxtyping import Float

from pipeline.config.learning import Model
from pipeline.lm.model import Params

EMBEDDING, NORM, HEAD = "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"
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
# Key of config.json -> key of `Model`.
SHAPE = {
    "num_hidden_layers": "depth",
    "hidden_size": "width",
    "num_attention_heads": "heads",
    "num_key_value_heads": "kv_heads",
    "head_dim": "head_dim",
    "intermediate_size": "hidden",
    "rms_norm_eps": "norm_eps",
}
# What config.json means where it is silent (Qwen3Config of transformers), and the one value that this network has.
_UNSAID = {"head_dim": 128, "rms_norm_eps": 1e-6}
_ONLY = {
    "model_type": (None, "qwen3"),
    "hidden_act": ("silu", "silu"),
    "attention_bias": (False, False),
    "use_sliding_window": (False, False),
    "tie_word_embeddings": (False, True),
}

Tensor = Float[np.ndarray, "..."]


def tensors(params: Params) -> dict[str, Tensor]:
    """fp32 tensors by name, sorted. Matrices are [out, in] there and [in, out] here; the tied head is left out."""
    found = {EMBEDDING: params["embedding"], NORM: params["norm"]}
    for ours, theirs in _NAMES.items():
        for i, layer in enumerate(np.asarray(params["blocks"][ours])):
            found[f"model.layers.{i}.{theirs}.weight"] = layer.T
    # safetensors writes the memory as it lies: a transposed view would come out wrong.
    return {name: np.ascontiguousarray(found[name], np.float32) for name in sorted(found)}


def params(shape: Model, tensor: Callable[[str], Tensor]) -> Params:
    """fp32 parameters as `init_params` lays them out; `tensor(name)` is asked for each of `tensor_shapes` once."""

    def stacked(theirs: str) -> Tensor:
        layers = (tensor(f"model.layers.{i}.{theirs}.weight").T for i in range(shape.depth))
        first = next(layers)
        whole = np.empty((shape.depth, *first.shape), np.float32)
        for i, layer in enumerate(chain([first], layers)):
            whole[i] = layer
        return whole

    blocks = {ours: stacked(theirs) for ours, theirs in _NAMES.items()}
    return {
        "embedding": tensor(EMBEDDING).astype(np.float32),
        "blocks": blocks,
        "norm": tensor(NORM).astype(np.float32),
    }


def tensor_shapes(shape: Model, vocab_size: int) -> dict[str, tuple[int, ...]]:
    """The tensors of such a model, without its tied head."""
    width, hidden, channels = shape.width, shape.hidden_width, shape.channels_per_head
    queries, keys = shape.query_heads * channels, shape.key_heads * channels
    layer = {
        "attention_norm": (width,),
        "q": (queries, width),
        "k": (keys, width),
        "v": (keys, width),
        "o": (width, queries),
        "q_norm": (channels,),
        "k_norm": (channels,),
        "mlp_norm": (width,),
        "gate": (hidden, width),
        "up": (hidden, width),
        "down": (width, hidden),
    }
    found: dict[str, tuple[int, ...]] = {EMBEDDING: (vocab_size, width), NORM: (width,)}
    for i in range(shape.depth):
        found |= {f"model.layers.{i}.{_NAMES[ours]}.weight": size for ours, size in layer.items()}
    return found


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


def read_config(given: dict[str, Any]) -> tuple[dict[str, Any], int, int]:
    """config.json as fields of `Model`, its vocabulary [tokens] and its longest context [tokens].

    Raises:
        ValueError: it describes another network than this one; the message is `key: value: why`.
    """
    for key, (unsaid, only) in _ONLY.items():
        if (value := given.get(key, unsaid)) != only:
            why = (
                "only tied embeddings can be trained here"
                if key == "tie_word_embeddings"
                else f"only {only!r} is known"
            )
            raise ValueError(f"{key}: {value!r}: {why}")
    if strange := [kind for kind in given.get("layer_types") or [] if kind != "full_attention"]:
        raise ValueError(f"layer_types: {strange[0]!r}: only 'full_attention' is known")
    shape = {ours: _number(given, theirs, float if ours == "norm_eps" else int) for theirs, ours in SHAPE.items()}
    shape["rope_theta"] = _rope_theta(given)
    return shape, _number(given, "vocab_size", int), _number(given, "max_position_embeddings", int)


def _rope_theta(given: dict[str, Any]) -> float:
    """transformers 5 writes rope_parameters; before it, rope_theta stood alone and rope_scaling beside it."""
    rope = given.get("rope_parameters") or given.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default")) if isinstance(rope, dict) else rope
    if kind != "default":
        raise ValueError(f"rope_type: {kind!r}: only unscaled rotary positions are known")
    return _number({"rope_theta": given.get("rope_theta", 10000.0)} | rope, "rope_theta", float)


def _number(given: dict[str, Any], key: str, kind: type) -> Any:
    value: Any = given.get(key, _UNSAID.get(key))
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not (whole or (kind is float and isinstance(value, float))) or not 0 < value < 1e12:
        raise ValueError(f"{key}: {value!r}: not a {'whole ' if kind is int else ''}number above 0")
    return kind(value)
