"""Next-token cross-entropy against the tied embedding, never holding all logits of a large vocabulary at once."""

from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from pipeline.lm.matmul import AS_IT_IS, Rounding, asked, expected, largest, sampled
from pipeline.lm.settle import chip, on_cpu, settle

# Logits of one block, at most: 128 MiB in fp32 on a CPU; on a GPU, whose products need many rows, 1 GiB in 16 bits and
# 2 GiB in fp32. Below it, one block is fastest.
MOST_LOGITS = {"cpu": 1 << 25, "gpu": 1 << 29}

# Exponentials are relative to so many nats above the target's logit: to find the largest logit first is a pass of its
# own. They add up to e^-60 or more, of which fp32 holds all that counts; the loss is right to 4e-6 nats. A logit more
# than MOST_ABOVE above that counts as just so much, lest the sum overflow: no model that learns is so wrong.
ABOVE_TARGET, MOST_ABOVE = 60.0, 76.0

# A GPU adds a stretch of a row side by side, and reads four numbers at a time where it begins at a multiple of that.
# XLA's own of 50,304 logits have 393: 0.31 ms for 8,192 rows on an H200, in place of 0.27 with 384.
LANES, LONGEST_STRETCH = 128, 1024

Hidden = Float[Array, "batch seq width"]
Table = Float[Array, "vocab width"]
Targets = Int[Array, "batch seq"]


def token_losses(hidden: Hidden, embedding: Table, targets: Targets) -> Float[Array, "batch seq"]:
    """Negative log-likelihood of each target [nats], fp32. To learn from it, `summed_loss` takes less time."""
    table = embedding.astype(hidden.dtype)

    def losses(ht: tuple[Array, Array]) -> Array:
        logits = _logits(ht[0], table, jnp.float32)
        chosen = jnp.take_along_axis(logits, ht[1][:, None], axis=-1)[:, 0]
        return jax.nn.logsumexp(logits, axis=-1) - chosen

    return jax.lax.map(losses, _in_blocks(hidden, embedding, targets)).reshape(targets.shape)


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def summed_loss(
    hidden: Hidden,
    embedding: Table,
    targets: Targets,
    factor: Float[Array, ""] | float = 1.0,
    rounding: Rounding = AS_IT_IS,
) -> Float[Array, ""]:
    """`factor` times the sum of `token_losses`. Its gradient is taken on the way forward, while a block of logits is
    there, so that they are computed once and none is kept (as Hsu et al., Liger Kernel, arXiv 2410.10989).

    On a GPU the logits that are learned from are rounded to the type of `hidden`; those of `token_losses` never are.

    Args:
        factor: is in the gradients before they are rounded to the type of `hidden`: a loss scale serves fp16.
        rounding: of the factors of the logits and of the gradient of `hidden`. The gradient of the embedding is not
            rounded: both factors would have to be turned first, which takes what the product saves (H200).
    """
    return factor * token_losses(hidden, embedding, targets).sum()


def _forward(
    hidden: Hidden, embedding: Table, targets: Targets, factor: Array | float, rounding: Rounding
) -> tuple[Array, tuple[Array, Array]]:
    whole = embedding.astype(hidden.dtype)
    table = rounding.forward(whole, largest(whole))
    # 8 bits are multiplied only where they lie along the sum: a table of them is turned, once.
    along, axes = (table, "vd") if table.scale is None else (table._replace(values=table.values.T), "dv")

    def add(sums: tuple[Array, Array], ht: tuple[Array, Array]) -> tuple[tuple[Array, Array], Array]:
        h, t = ht
        rows = rounding.forward(h, expected(sampled(h)))
        # Rounded as their gradient is: on a GPU reading them is what takes the time.
        logits = _logits(rows.seen, table.seen, asked(h.dtype)).astype(jnp.float32)
        logits -= jnp.take_along_axis(logits, t[:, None], axis=-1) + ABOVE_TARGET
        logits = jnp.minimum(logits, MOST_ABOVE)
        log_sum = jnp.log(_sums(settle(jnp.exp(logits))))
        loss = (ABOVE_TARGET + log_sum).sum()
        target = jax.lax.broadcasted_iota(jnp.int32, logits.shape, 1) == t[:, None]
        d_logits = settle((factor * (jnp.exp(logits - log_sum) - target)).astype(h.dtype))
        d_table = jnp.einsum("nv,nd->vd", d_logits, h, preferred_element_type=jnp.float32)
        d_h = jnp.einsum(f"nv,{axes}->nd", rounding.backward(d_logits), along.seen)
        return (sums[0] + loss, sums[1] + d_table), d_h

    zeros = jnp.zeros(()), jnp.zeros(embedding.shape, jnp.float32)
    (loss, d_table), d_hidden = jax.lax.scan(add, zeros, _in_blocks(hidden, embedding, targets))
    return factor * loss, (d_hidden.reshape(hidden.shape), d_table)


def _backward(rounding: Rounding, kept: tuple[Array, Array], d_loss: Array) -> tuple[Array, Array, None, None]:
    d_hidden, d_table = kept
    return (d_hidden * d_loss).astype(d_hidden.dtype), d_table * d_loss, None, None


summed_loss.defvjp(_forward, _backward)


def _logits(h: Array, table: Array, dtype: DTypeLike) -> Float[Array, "tokens vocab"]:
    return jnp.einsum("nd,vd->nv", h, table, preferred_element_type=dtype)


def _sums(x: Float[Array, "tokens vocab"]) -> Float[Array, "tokens 1"]:
    fits = (n for n in range(LONGEST_STRETCH, 0, -LANES) if x.shape[1] % n == 0)
    if not on_cpu() and (stretch := next(fits, None)):
        x = jax.lax.optimization_barrier(x.reshape(len(x), -1, stretch).sum(axis=-1))  # else XLA makes one sum of both
    return x.sum(axis=-1, keepdims=True)


def _in_blocks(hidden: Hidden, embedding: Table, targets: Targets) -> tuple[Array, Array]:
    """Hidden states [blocks, tokens, width] and targets [blocks, tokens]: as few blocks as may be."""
    tokens, most = targets.size, MOST_LOGITS[chip()]
    fits = (n for n in range(1, tokens + 1) if tokens % n == 0 and tokens // n * embedding.shape[0] <= most)
    blocks = min(fits, default=tokens)
    return hidden.reshape(blocks, tokens // blocks, -1), targets.reshape(blocks, -1)
