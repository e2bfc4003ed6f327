"""Causal attention as batched matrix products, with its own gradient.

The gradient of softmax needs, for each query, Σ_s p_s dp_s over all keys. Since o = Σ_s p_s v_s it equals o · do, a sum
over channels (Dao et al., FlashAttention, arXiv 2205.14135, section 3). XLA derives the long form, and on a CPU spends
more time on it than on all products of the layer. The probabilities are computed again in the backward pass from
their log-sum-exp, so that nothing of size seq x seq is kept.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pipeline.lm.settle import not_before, settle, turned

MASKED = -1e30  # finite: a row of -inf alone would give nan


@jax.custom_vjp
def causal_attention(
    q: Float[Array, "batch seq heads channels"],
    k: Float[Array, "batch seq kv_heads channels"],
    v: Float[Array, "batch seq kv_heads channels"],
) -> Float[Array, "batch seq heads channels"]:
    """softmax(q kᵀ / √channels) v over earlier positions and the own one; each head of k and v serves heads / kv_heads
    of q, in order. Softmax and the sums of products are in fp32."""
    return _forward(q, k, v)[0]


def _forward(q: Array, k: Array, v: Array) -> tuple[Array, tuple[Array, ...]]:
    groups = q.shape[2] // k.shape[2]
    rows, k, v = (_heads_first(x, n) for x, n in ((q, groups), (k, 1), (v, 1)))
    scores = _scores(rows, k)
    top = settle(scores.max(axis=-1, keepdims=True))
    weights = settle(jnp.exp(scores - top))
    total = settle(weights.sum(axis=-1, keepdims=True))
    mixed = settle((_product("bkts,bksc->bktc", weights.astype(v.dtype), v) / total).astype(q.dtype))
    return _heads_last(mixed, groups), (rows, k, v, mixed, top + jnp.log(total))


def _backward(kept: tuple[Array, ...], d_out: Array) -> tuple[Array, Array, Array]:
    rows, k, v, mixed, log_total = kept
    groups, dtype = rows.shape[2] // k.shape[2], d_out.dtype
    d_out = _heads_first(d_out, groups)
    p = settle(jnp.exp(_scores(rows, not_before(d_out, k)) - log_total))
    own = settle((d_out.astype(jnp.float32) * mixed).sum(axis=-1, keepdims=True))
    dp = settle(_product("bktc,bksc->bkts", d_out, v))
    ds = settle((p * (dp - own) * rows.shape[-1] ** -0.5).astype(dtype))
    dv = _product("bkst,bktc->bksc", turned(p.astype(dtype)), d_out).astype(dtype)
    dk = _product("bkst,bktc->bksc", turned(ds), rows).astype(dtype)
    dq = _product("bkts,bksc->bktc", ds, k).astype(dtype)
    return _heads_last(dq, groups), _heads_last(dk), _heads_last(dv)


causal_attention.defvjp(_forward, _backward)


def _scores(rows: Array, k: Array) -> Float[Array, "batch kv_heads rows seq"]:
    """Scaled and masked, in fp32. Rows are the queries of a position one after another, so that a single head of keys
    asks for no transpose."""
    seq, groups = k.shape[2], rows.shape[2] // k.shape[2]
    mask = jnp.repeat(jnp.where(jnp.tri(seq, dtype=bool), 0.0, MASKED), groups, axis=0)
    return settle(_product("bktc,bksc->bkts", rows, k) * rows.shape[-1] ** -0.5 + mask)


def _heads_first(x: Array, groups: int = 1) -> Float[Array, "batch kv_heads rows channels"]:
    batch, seq, heads, channels = x.shape
    x = x.reshape(batch, seq, heads // groups, groups, channels)
    return settle(x.transpose(0, 2, 1, 3, 4).reshape(batch, -1, seq * groups, channels))


def _heads_last(x: Array, groups: int = 1) -> Float[Array, "batch seq heads channels"]:
    batch, heads, rows, channels = x.shape
    x = x.reshape(batch, heads, rows // groups, groups, channels)
    return settle(x.transpose(0, 2, 1, 3, 4).reshape(batch, rows // groups, heads * groups, channels))


def _product(letters: str, a: Array, b: Array) -> Array:
    return jnp.einsum(letters, a, b, preferred_element_type=jnp.float32)
