"""Where XLA on a CPU must not fuse."""

from typing import TypeVar

import jax

T = TypeVar("T")


def on_cpu() -> bool:
    return jax.default_backend() == "cpu"


def settle(x: T) -> T:
    """`x`, written to memory first on a CPU, where XLA would compute it anew for each use or in the layout of the next
    transpose, element by element. Elsewhere nothing: a GPU gains by fusing."""
    return jax.lax.optimization_barrier(x) if on_cpu() else x
