"""Next-token cross-entropy against the tied embedding, never holding all logits of a large vocabulary at once."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

# One block of logits holds at most this many numbers (128 MiB in fp32). Below it, one block is fastest.
MAX_LOGITS = 1 << 25


def token_losses(
    hidden: Float[Array, "batch seq width"],
    embedding: Float[Array, "vocab width"],
    targets: Int[Array, "batch seq"],
) -> Float[Array, "batch seq"]:
    """Negative log-likelihood of each target [nats], fp32. Logits are recomputed in the backward pass if blocked."""
    tokens, vocab = targets.size, embedding.shape[0]
    table = embedding.astype(hidden.dtype)

    def losses(h: Array, t: Array) -> Array:
        logits = jnp.einsum("nd,vd->nv", h, table, preferred_element_type=jnp.float32)
        chosen = jnp.take_along_axis(logits, t[:, None], axis=-1)[:, 0]
        return jax.nn.logsumexp(logits, axis=-1) - chosen

    h, t = hidden.reshape(tokens, -1), targets.reshape(tokens)
    blocks = min((n for n in range(1, tokens + 1) if tokens % n == 0 and tokens // n * vocab <= MAX_LOGITS), default=1)
    if blocks == 1:
        return losses(h, t).reshape(targets.shape)
    stacked = h.reshape(blocks, -1, h.shape[-1]), t.reshape(blocks, -1)
    return jax.lax.map(jax.checkpoint(lambda ht: losses(*ht)), stacked).reshape(targets.shape)
