"""The network: decoder-only, Qwen3-shaped, its layers stacked, and unrolled where they are few, else one `lax.scan`.

RMSNorm before each half of a block, rotary positions, grouped-query attention with normalised queries and keys,
SwiGLU, no biases, tied embeddings. The parameters map one to one onto `Qwen3ForCausalLM` of transformers
(Qwen3 technical report, arXiv 2505.09388).
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from pipeline.config.learning import Model
from pipeline.lm.attention import causal_attention
from pipeline.lm.embedding import embed
from pipeline.lm.matmul import Matmul, largest, matmul, sampled
from pipeline.lm.precision import PRECISIONS, Precision
from pipeline.lm.settle import chip, not_before, on_cpu, settle

# Layers that are given to XLA one after another; more are a loop. In a loop it copies all that the backward pass needs
# of a layer: a quarter more time a step of 124 M parameters, 12 layers on an H100, and a sixth of 0.8 M on a CPU. It
# compiles there in 7 s, unrolled in 9, and here in 2.1 and 2.7. Ten layers took a third more memory on a CPU.
MOST_UNROLLED = {"cpu": 8, "gpu": 16}

Params = Any  # the nested dict of arrays that `init_params` returns

# What each way of gradient checkpointing keeps of a layer besides its input; None: nothing.
KEPT = {
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "block": None,
}


def init_params(shape: Model, vocab_size: int, seed: int) -> Params:
    """Fresh fp32 parameters as a nested dict; every array of `blocks` is stacked over layers."""
    return nnx.to_pure_dict(nnx.state(Transformer(shape, vocab_size, Draws(shape, vocab_size, seed)), nnx.Param))


class Draws:
    """The normal numbers of all random arrays, drawn at once: a generator for each is a second more to compile."""

    def __init__(self, shape: Model, vocab_size: int, seed: int):
        projections = shape.channels_per_head * (shape.query_heads + 2 * shape.key_heads) + 2 * shape.hidden_width
        count = shape.width * (vocab_size + shape.depth * projections)
        self._left = jax.random.normal(jax.random.key(seed), (count,))

    def take(self, *shape: int) -> Array:
        taken, self._left = jnp.split(self._left, [math.prod(shape)])
        return taken.reshape(shape)


class Transformer(nnx.Module):
    """Token ids to final hidden states. Logits are `hidden @ embedding.T` (tied, see `loss.py`)."""

    def __init__(self, shape: Model, vocab_size: int, draws: Draws):
        self.shape = shape
        self.embedding = nnx.Param(0.02 * draws.take(vocab_size, shape.width))
        self.blocks = Blocks(shape, draws)
        self.norm = nnx.Param(jnp.ones(shape.width))

    @staticmethod
    def apply(
        shape: Model,
        params: Params,
        tokens: Int[Array, "batch seq"],
        precision: str = "fp32",
    ) -> Float[Array, "batch seq width"]:
        """Hidden states after the last norm, as `precision` computes them (precision.py): what the logits are computed
        from. Parameters are cast to its type where they are used."""
        matrices = (stack for stack in params["blocks"].values() if stack.ndim == 3)
        types = PRECISIONS[precision].for_matrices(largest(*matrices))
        x = embed(params["embedding"], tokens, types.dtype)
        rope = rotary_angles(jnp.arange(tokens.shape[1]), shape)
        # Unrolled, XLA on a CPU (JAX 0.10) merges what is computed again with the first time; in a loop it cannot.
        merged = on_cpu() and shape.remat != "none"
        unrolled = not merged and shape.depth <= MOST_UNROLLED[chip()]

        def body(number: int) -> Callable[[Array, Params], tuple[Array, None]]:
            def one(x: Array, layer: Params) -> tuple[Array, None]:
                return block(shape, types, layer, x, rope, number), None

            if shape.remat == "none":
                return one
            # Within a scan nothing is merged across its two passes anyway.
            return jax.checkpoint(one, policy=KEPT[shape.remat], prevent_cse=unrolled)

        if unrolled:
            split = jax.tree.map(lambda stack: jnp.split(stack, shape.depth), params["blocks"])
            for number in range(shape.depth):
                x, _ = body(number)(x, {name: layers[number][0] for name, layers in split.items()})
        else:
            x, _ = jax.lax.scan(body(0), x, params["blocks"])
        return rms_norm(x, params["norm"], shape.norm_eps)


class Blocks(nnx.Module):
    """Parameters of all blocks, stacked on a leading axis of layers [depth, in, out].

    Output projections start at zero, so that every block starts as the identity.
    """

    def __init__(self, shape: Model, draws: Draws):
        depth, width, channels = shape.depth, shape.width, shape.channels_per_head
        queries, keys = shape.query_heads * channels, shape.key_heads * channels

        def matrix(rows: int, columns: int) -> nnx.Param:
            return nnx.Param(draws.take(depth, rows, columns) * (0.5 / rows**0.5))

        self.attention_norm = nnx.Param(jnp.ones((depth, width)))
        self.q = matrix(width, queries)
        self.k = matrix(width, keys)
        self.v = matrix(width, keys)
        self.o = nnx.Param(jnp.zeros((depth, queries, width)))
        self.q_norm = nnx.Param(jnp.ones((depth, channels)))
        self.k_norm = nnx.Param(jnp.ones((depth, channels)))
        self.mlp_norm = nnx.Param(jnp.ones((depth, width)))
        self.gate = matrix(width, shape.hidden_width)
        self.up = matrix(width, shape.hidden_width)
        self.down = nnx.Param(jnp.zeros((depth, shape.hidden_width, width)))


def block(
    shape: Model,
    types: Precision,
    layer: Params,
    x: Float[Array, "batch seq width"],
    rope: tuple[Array, Array],
    number: int,
) -> Array:
    """Layer `number`: attention, then SwiGLU, each added to the residual stream."""
    x = x + attend(shape, types, layer, rms_norm(x, layer["attention_norm"], shape.norm_eps), rope, number)
    return x + feed_forward(layer, rms_norm(x, layer["mlp_norm"], shape.norm_eps), types.product)


def feed_forward(layer: Params, h: Float[Array, "batch seq width"], product: Matmul = matmul) -> Array:
    """SwiGLU (Shazeer, arXiv 2002.05202)."""
    gate, up = product(h, layer["gate"], layer["up"])
    # The sample from parts of both: a GPU then knows how large the whole is before it writes it.
    return product(swiglu(gate, up), layer["down"], sample=swiglu(sampled(gate), sampled(up)))[0]


@jax.custom_vjp
def swiglu(gate: Float[Array, "*batch hidden"], up: Float[Array, "*batch hidden"]) -> Float[Array, "*batch hidden"]:
    """silu(gate) * up. The backward pass keeps nothing but its arguments."""
    return jax.nn.silu(gate) * up


def _swiglu_backward(kept: tuple[Array, Array], d_out: Array) -> tuple[Array, Array]:
    gate, up = kept
    share = settle(jax.nn.sigmoid(not_before(d_out, gate)))
    return settle(d_out * up * share * (1 + gate * (1 - share))), settle(d_out * gate * share)


swiglu.defvjp(lambda gate, up: (swiglu(gate, up), (gate, up)), _swiglu_backward)


def attend(
    shape: Model,
    types: Precision,
    layer: Params,
    h: Float[Array, "batch seq width"],
    rope: tuple[Array, Array],
    number: int,
) -> Array:
    """Causal self-attention of layer `number` with grouped queries; softmax in fp32."""
    q, k, v = (x.astype(types.factor) for x in project(shape, layer, h, rope, types.product))
    if shape.attention == "xla":
        mixed = causal_attention(q, k, v)
    else:
        # XLA (of JAX 0.11) builds equal calls of cuDNN once and, where the order of sums is fixed, does not find them
        # again: IndexError at the first step. A scale that differs by 1e-6 from layer to layer keeps them apart.
        scale = q.shape[-1] ** -0.5 * (1.0 + 1e-6 * number)
        mixed = jax.nn.dot_product_attention(q, k, v, scale=scale, is_causal=True, implementation=shape.attention)
    return types.product(mixed.reshape(*h.shape[:2], -1).astype(h.dtype), layer["o"])[0]


def project(
    shape: Model,
    layer: Params,
    h: Float[Array, "batch seq width"],
    rope: tuple[Array, Array],
    product: Matmul = matmul,
) -> Any:
    """Queries, keys and values [batch, seq, heads, channels]; queries and keys normalised, then rotated."""
    outs = product(h, layer["q"], layer["k"], layer["v"])
    q, k, v = (out.reshape(*h.shape[:2], -1, shape.channels_per_head) for out in outs)
    # A scale for each head: summed over tokens and heads at once, their gradient is read at half a GPU's pace (H200).
    q = rotate(rms_norm(q, jnp.tile(layer["q_norm"], (shape.query_heads, 1)), shape.norm_eps), *rope)
    k = rotate(rms_norm(k, jnp.tile(layer["k_norm"], (shape.key_heads, 1)), shape.norm_eps), *rope)
    return q, k, v


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def rms_norm(x: Array, scale: Array, eps: float) -> Array:
    """x / rms(x) * scale over the last axis, computed in fp32 (Zhang & Sennrich, arXiv 1910.07467)."""
    return _rms_norm_forward(x, scale, eps)[0]


def _rms_norm_forward(x: Array, scale: Array, eps: float) -> tuple[Array, tuple[Array, ...]]:
    y = x.astype(jnp.float32)
    inverse = settle(jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + eps))
    return (y * inverse * scale).astype(x.dtype), (x, scale, inverse)


def _rms_norm_backward(eps: float, kept: tuple[Array, ...], d_out: Array) -> tuple[Array, Array]:
    x, scale, inverse = kept
    y, dy = x.astype(jnp.float32) * inverse, d_out.astype(jnp.float32)
    along = settle(jnp.mean(dy * scale * y, axis=-1, keepdims=True))
    dx = ((dy * scale - y * along) * inverse).astype(x.dtype)
    return dx, (dy * y).reshape(-1, scale.size).sum(axis=0).reshape(scale.shape).astype(scale.dtype)


rms_norm.defvjp(_rms_norm_forward, _rms_norm_backward)


def rotary_angles(positions: Int[Array, "*batch seq"], shape: Model) -> tuple[Array, Array]:
    """Cosines and sines [*batch, seq, 1, channels] of the rotary embedding (Su et al., arXiv 2104.09864), in fp32.

    Sines of the first half of the channels are negative, as `rotate` wants them."""
    half = shape.channels_per_head // 2
    frequencies = shape.rope_theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angles = positions[..., None, None].astype(jnp.float32) * frequencies
    return jnp.cos(jnp.tile(angles, 2)), jnp.sin(jnp.concatenate([-angles, angles], axis=-1))


def rotate(x: Array, cos: Array, sin: Array) -> Array:
    """Rotates channel i against channel i + half, the pairing that transformers uses."""
    y = x.astype(jnp.float32)
    if on_cpu():
        low, high = jnp.split(y, 2, axis=-1)
        swapped = jnp.concatenate([high, low], axis=-1)
    else:  # which would join the halves in a kernel of its own, or compute each of them twice
        swapped = jnp.flip(y.reshape(*y.shape[:-1], 2, -1), axis=-2).reshape(y.shape)
    return (y * cos + swapped * sin).astype(x.dtype)
