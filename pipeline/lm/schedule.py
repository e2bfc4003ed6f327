"""Warmup-stable-decay by step (Hu et al., MiniCPM, arXiv 2404.06395).

When the cooldown starts is the one decision that the budget steers: it enters as data, not as code, so that nothing
is compiled anew when it is taken.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

NEVER = 2**31 - 1


class Cooldown(NamedTuple):
    """The rate falls in a straight line from 1 at step `start` to 0 at step `end`; NEVER until it is decided."""

    start: int = NEVER
    end: int = NEVER


def rate(step: Int[Array, ""], warmup_steps: int, cooldown: Cooldown) -> Float[Array, ""]:
    """Share of the peak learning rate at `step` (counted from 0), in [0, 1]. The step `end` is never taken.

    Decaying to zero exactly at the end of a fixed budget is what Li et al. (Budgeted Training, ICLR 2020) found best.
    """
    warm = (step + 1) / max(warmup_steps, 1)
    left = (cooldown.end - step) / jnp.maximum(cooldown.end - cooldown.start, 1)
    return jnp.clip(jnp.minimum(warm, jnp.where(step >= cooldown.start, left, 1.0)), 0.0, 1.0).astype(jnp.float32)
