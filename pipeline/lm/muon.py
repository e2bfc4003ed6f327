"""Muon: momentum, orthogonalised (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon).

Each matrix of the momentum M = U S Vᵀ becomes almost U Vᵀ, by two odd polynomials of its singular values. Their
coefficients are the best ones for so few steps (Amsel et al., The Polar Express, arXiv 2505.16932): each is the odd
quintic nearest to 1 over the interval to which the one before it leads, from [0.02, 1] on. So few are enough because
the matrix is first divided by ‖M Mᵀ M Mᵀ‖^¼ in place of ‖M‖ (both Frobenius): no singular value passes it either, it
is up to rank^⅜ times smaller, and the first step needs that product anyway. The usual five equal steps cost two and a
half times as much.
"""

from collections import defaultdict
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from pipeline.lm.settle import settle

QUINTICS = ((7.711, -22.1138, 16.2487), (3.2153, -2.4112, 0.5013))
UPDATE_RMS = 0.2  # as AdamW's, so that one weight decay serves both (Liu et al., arXiv 2502.16982)


class MuonState(NamedTuple):
    momentum: Any


def scale_by_muon(decay: float, factor: DTypeLike = jnp.float32) -> optax.GradientTransformation:
    """Nesterov momentum, orthogonalised matrix by matrix and scaled to RMS 0.2. Leaves are stacks [depth, in, out]."""

    def init(params: optax.Params) -> MuonState:
        return MuonState(jax.tree.map(jnp.zeros_like, params))

    def update(grads: optax.Updates, state: MuonState, params: optax.Params | None = None) -> Any:
        del params
        momentum = jax.tree.map(lambda m, g: decay * m + (1 - decay) * g, state.momentum, grads)
        ahead = jax.tree.map(lambda m, g: decay * m + (1 - decay) * g, momentum, grads)
        return orthogonalise_all(ahead, factor), MuonState(momentum)

    return optax.GradientTransformation(init, update)


def orthogonalise_all(tree: Any, factor: DTypeLike = jnp.float32) -> Any:
    """Every matrix of every stack. Stacks of one shape, upright or lying, go through as one: few large products."""
    leaves, structure = jax.tree.flatten(tree)
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for i, leaf in enumerate(leaves):
        groups[tuple(sorted(leaf.shape[1:]))].append(i)
    for (rows, columns), members in groups.items():
        lying = [leaves[i] if leaves[i].shape[1:] == (rows, columns) else leaves[i].mT for i in members]
        done = UPDATE_RMS * columns**0.5 * orthogonalise(jnp.concatenate(lying), factor)
        for i, part in zip(members, jnp.split(done, len(members)), strict=True):
            leaves[i] = part if part.shape == leaves[i].shape else part.mT
    return jax.tree.unflatten(structure, leaves)


def orthogonalise(
    x: Float[Array, "matrices rows columns"], factor: DTypeLike = jnp.float32
) -> Float[Array, "matrices rows columns"]:
    """U Vᵀ of each matrix, its singular values from 0.02 of that norm upwards between 0.49 and 1.51; rows <= columns:
    x xᵀ is the small one. Zeros stay zeros."""
    x = x / (jnp.linalg.norm(x, axis=(1, 2), keepdims=True) + 1e-8)  # what is tiny would vanish in its fourth power

    def product(a: Array, b: Array) -> Array:
        return jnp.matmul(a, b, preferred_element_type=jnp.float32)

    def step(x: Array, now: tuple[Array, Array]) -> tuple[Array, None]:
        (a, b, c), first = now
        rounded = settle(x.astype(factor))
        square = settle(jnp.einsum("mrc,msc->mrs", rounded, rounded, preferred_element_type=jnp.float32))
        small = settle(square.astype(factor))
        fourth = settle(product(small, small))
        norm = jnp.linalg.norm(fourth, axis=(1, 2), keepdims=True) ** 0.25
        norm = jnp.where(first & (norm > 0), norm, 1.0)
        polynomial = settle((b / norm**3 * square + c / norm**5 * fourth).astype(factor))
        return a / norm * x + product(polynomial, rounded), None

    # A scan, because a copy for each step takes as many times as long to compile.
    return jax.lax.scan(step, x, (jnp.array(QUINTICS, x.dtype), jnp.array([True, False])))[0]
