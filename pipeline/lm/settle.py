"""What XLA on a CPU must be told: where not to fuse, and what to leave alone."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

T = TypeVar("T")


def on_cpu() -> bool:
    return jax.default_backend() == "cpu"


def chip() -> str:
    """What computes: "cpu", or "gpu" for all that is none."""
    return "cpu" if on_cpu() else "gpu"


def settle(x: T) -> T:
    """`x`, written to memory first on a CPU, where XLA would compute it anew for each use or in the layout of the next
    transpose, element by element. Elsewhere nothing: a GPU gains by fusing."""
    return jax.lax.optimization_barrier(x) if on_cpu() else x


def turned(x: Array) -> Array:
    """`x` with its last two axes turned, settled. Flat in between: XLA on a CPU takes what a transpose gives for laid
    out the other way, and has no product for 16 bits that lie so: it widens them, and takes three times as long."""
    return settle(x.mT.reshape(-1)).reshape(x.mT.shape)


def not_before(first: Array, x: Array) -> Array:
    """`x`, of which XLA on a CPU makes nothing before it has `first`: what is computed again to save memory would be
    computed as soon as may be, and lie there. Elsewhere nothing."""
    return x + 0 * first.ravel()[0].astype(x.dtype) if on_cpu() else x


def change_if(condition: Bool[Array, ""], change: Callable[[T], T], old: T) -> T:
    """`change(old)` where `condition` holds, else `old`.

    A branch on a CPU, where a choice number by number first copies all that is old, and takes a sixth more of the
    processor to compile. Elsewhere that choice: a GPU would wait for the host to branch.
    """
    if on_cpu():
        return jax.lax.cond(condition, change, lambda same: same, old)
    return jax.tree.map(lambda after, before: jnp.where(condition, after, before), change(old), old)
