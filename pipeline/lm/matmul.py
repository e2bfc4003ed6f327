"""A matrix product with its own gradient."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pipeline.lm.settle import settle


@jax.custom_vjp
def matmul(x: Float[Array, "*batch in"], w: Float[Array, "in out"]) -> Float[Array, "*batch out"]:
    """x w in the type of `x`; the gradient of `w` in its own."""
    return _forward(x, w)[0]


def _forward(x: Array, w: Array) -> tuple[Array, tuple[Array, Array]]:
    rows = settle(x.reshape(-1, x.shape[-1]))
    return settle(rows @ w.astype(x.dtype)).reshape(*x.shape[:-1], -1), (rows, w)


def _backward(kept: tuple[Array, Array], d_out: Array) -> tuple[Array, Array]:
    rows, w = kept
    d_rows = settle(d_out.reshape(-1, d_out.shape[-1]))
    dx = settle(d_rows @ w.astype(d_rows.dtype).T)
    dw = settle(rows.T) @ d_rows
    return dx.reshape(*d_out.shape[:-1], -1), settle(dw).astype(w.dtype)


matmul.defvjp(_forward, _backward)
