"""Text from the network, one token at a time, with the keys and values of earlier tokens kept in a cache.

Slot i of the cache holds position i of its row. Rows of different lengths therefore stand in one batch without
padding that anybody attends to: a row sees the slots up to its own position, and what lies beyond is overwritten
when the row gets there.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from pipeline.config.learning import Model
from pipeline.lm.model import Params, feed_forward, project, rms_norm, rotary_angles

COLDEST = 1e-6  # temperature below which the likeliest token is all there is, and logits would overflow
CHUNK = 16  # tokens between two looks of the host: a dispatch costs as much as a token of a small model


class Sampling(NamedTuple):
    """How the next token is drawn. The filters apply in this order, as in transformers."""

    temperature: float = 1.0  # logits are divided by it; 0 takes the likeliest token
    top_k: int | None = None  # only the k likeliest tokens
    top_p: float | None = None  # only the likeliest tokens that together reach this probability
    min_p: float | None = None  # only tokens at least this share as likely as the likeliest


class Cache(NamedTuple):
    keys: Float[Array, "depth batch context kv_heads channels"]
    values: Float[Array, "depth batch context kv_heads channels"]


class Cursor(NamedTuple):
    """Where each row stands: its newest token, not yet in the cache, and that token's position."""

    token: Int[Array, " batch"]
    position: Int[Array, " batch"]
    drawn: Int[Array, ""]  # tokens drawn so far, the same for all rows


def generate(
    shape: Model,
    params: Params,
    prompts: Sequence[Sequence[int]],
    tokens: int,
    sampling: Sampling,
    seed: int = 0,
) -> Iterator[Int[np.ndarray, "batch new"]]:
    """Continues each prompt by `tokens` tokens; yields them as they come, at most CHUNK at a time.

    Row i draws from `seed + i`, so it gives the text that it gives alone under that seed. Where a row outgrows
    `shape.context`, its oldest half context is dropped and the rest is read again at positions from 0
    (`window_start`); so is all but the end of a prompt that is too long.

    Args:
        params: as trained. Everything is computed in their fp32: a token at a time, the weights' way from memory is
            what costs, and text should not depend on how a tie was rounded.
        prompts: token ids, at least one in each.
    """
    if not all(len(prompt) for prompt in prompts):
        raise ValueError("prompts: empty; the network needs at least one token to continue")
    rows = [np.asarray(prompt, np.int32) for prompt in prompts]
    params = jax.device_put(params)
    keys = jax.vmap(jax.random.key)(jnp.arange(seed, seed + len(rows), dtype=jnp.uint32))
    drawn = 0
    while drawn < tokens:
        windows = [row[window_start(len(row), shape.context) :] for row in rows]
        lengths = np.array([len(window) for window in windows])
        cache = _prefill(shape, params, _pad(windows, _prefill_length(lengths.max(), shape.context)))
        last = np.array([window[-1] for window in windows])
        cursor = Cursor(jnp.asarray(last), jnp.asarray(lengths - 1, jnp.int32), jnp.int32(drawn))
        leg_end = min(tokens, drawn + shape.context - int(lengths.max()) + 1)
        while drawn < leg_end:
            steps = min(CHUNK, leg_end - drawn)
            cache, cursor, new = _decode(shape, sampling, params, cache, cursor, keys, steps)
            new = np.asarray(new)[:, :steps]
            rows = [np.concatenate([row, more]) for row, more in zip(rows, new, strict=True)]
            drawn += steps
            yield new


def window_start(length: int, context: int) -> int:
    """First token that is still seen after `length` tokens: 0, or a multiple of half a context when that is full."""
    half = max(context // 2, 1)
    return max(0, -(-(length - context) // half)) * half


def _prefill_length(longest: int, context: int) -> int:
    """Next power of two, so that prompts of many lengths share a few compiled programs."""
    return min(1 << (int(longest) - 1).bit_length(), context)


def _pad(windows: list[np.ndarray], length: int) -> Int[np.ndarray, "batch length"]:
    return np.stack([np.pad(window, (0, length - len(window))) for window in windows])


@partial(jax.jit, static_argnums=0)
def _prefill(shape: Model, params: Params, tokens: Int[Array, "batch seq"]) -> Cache:
    """The cache after reading `tokens`: the training forward, keeping keys and values."""
    rope = rotary_angles(jnp.arange(tokens.shape[1]), shape)

    def body(x: Array, layer: Params) -> tuple[Array, Cache]:
        q, k, v = project(shape, layer, rms_norm(x, layer["attention_norm"], shape.norm_eps), rope)
        # Always the plain kernel: the fused one is for training, and a machine on the ground may lack it.
        x = _finish(shape, layer, x, jax.nn.dot_product_attention(q, k, v, is_causal=True, implementation="xla"))
        return x, Cache(k, v)

    _, cache = jax.lax.scan(body, params["embedding"][tokens], params["blocks"])
    unread = shape.context - tokens.shape[1]
    return jax.tree.map(lambda c: jnp.pad(c, ((0, 0), (0, 0), (0, unread), (0, 0), (0, 0))), cache)


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=3)
def _decode(
    shape: Model, sampling: Sampling, params: Params, cache: Cache, cursor: Cursor, keys: Array, steps: int
) -> tuple[Cache, Cursor, Int[Array, "batch chunk"]]:
    """Draws `steps` tokens, at most CHUNK; the columns beyond them are zero. The count is data: one program for all."""

    def body(i: Array, carry: tuple[Cache, Cursor, Array]) -> tuple[Cache, Cursor, Array]:
        cache, cursor, new = carry
        logits, cache = _next_logits(shape, params, cache, cursor)
        token = _draw(sampling, logits, jax.vmap(jax.random.fold_in, (0, None))(keys, cursor.drawn))
        return cache, Cursor(token, cursor.position + 1, cursor.drawn + 1), new.at[:, i].set(token)

    new = jnp.zeros((len(keys), CHUNK), jnp.int32)
    return jax.lax.fori_loop(0, steps, body, (cache, cursor, new))


def _next_logits(
    shape: Model, params: Params, cache: Cache, cursor: Cursor
) -> tuple[Float[Array, "batch vocab"], Cache]:
    """Puts each row's newest token into the cache and says what may follow it."""
    rows = jnp.arange(len(cursor.token))
    seen = (jnp.arange(shape.context) <= cursor.position[:, None])[:, None, None]  # [batch, 1, 1, context]
    rope = rotary_angles(cursor.position[:, None], shape)

    def body(i: Array, carry: tuple[Array, Cache]) -> tuple[Array, Cache]:
        x, cache = carry
        layer = jax.tree.map(lambda p: p[i], params["blocks"])
        q, k, v = project(shape, layer, rms_norm(x, layer["attention_norm"], shape.norm_eps), rope)
        cache = Cache(*(c.at[i, rows, cursor.position].set(n[:, 0]) for c, n in zip(cache, (k, v), strict=True)))
        mixed = jax.nn.dot_product_attention(q, cache.keys[i], cache.values[i], mask=seen, implementation="xla")
        return _finish(shape, layer, x, mixed), cache

    x, cache = jax.lax.fori_loop(0, shape.depth, body, (params["embedding"][cursor.token][:, None], cache))
    hidden = rms_norm(x[:, 0], params["norm"], shape.norm_eps)
    return hidden @ params["embedding"].T, cache


def _finish(shape: Model, layer: Params, x: Array, mixed: Float[Array, "batch seq heads channels"]) -> Array:
    """What follows attention in a block."""
    x = x + mixed.reshape(*x.shape[:2], -1) @ layer["o"]
    return x + feed_forward(layer, rms_norm(x, layer["mlp_norm"], shape.norm_eps))


def _draw(sampling: Sampling, logits: Float[Array, "batch vocab"], keys: Array) -> Int[Array, " batch"]:
    """One token of each row. Candidates stand in order of likelihood, so that each filter keeps a prefix."""
    if sampling.temperature < COLDEST or sampling.top_k == 1:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)
    draw = jax.vmap(jax.random.categorical)
    logits = logits / sampling.temperature
    if sampling.top_k is None and sampling.top_p is None and sampling.min_p is None:
        return draw(keys, logits).astype(jnp.int32)
    vocab = logits.shape[-1]
    logits, candidates = jax.lax.top_k(logits, min(sampling.top_k or vocab, vocab))
    if sampling.top_p is not None:
        share = jax.nn.softmax(logits)
        before = jnp.cumsum(share, axis=-1) - share
        logits = jnp.where((before < sampling.top_p) | (before == 0), logits, -jnp.inf)
    if sampling.min_p is not None:
        logits = jnp.where(logits >= logits[:, :1] + jnp.log(sampling.min_p), logits, -jnp.inf)
    return jnp.take_along_axis(candidates, draw(keys, logits)[:, None], axis=-1)[:, 0].astype(jnp.int32)
