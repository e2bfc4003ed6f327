"""Muon: momentum, orthogonalised (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon).

Each matrix of the momentum M = U S Vᵀ becomes almost U Vᵀ, by a few odd polynomials of its singular values. Their
coefficients are the best ones for so few steps (Amsel et al., The Polar Express, arXiv 2505.16932): each is the odd
quintic nearest to 1 over the interval to which those before it lead, from [0.01, 1] on. Three bring all singular values
from 0.01 of the Frobenius norm upwards to within 0.27 of 1. The usual five equal steps end within 0.5, and cost two
thirds more.
"""

from collections import defaultdict
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from pipeline.lm.settle import settle

QUINTICS = ((8.0934, -23.6204, 17.4462), (3.6366, -2.7219, 0.5365), (2.6613, -1.9772, 0.4526))
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
    """U Vᵀ of each matrix, its singular values between 0.73 and 1.27; rows <= columns: x xᵀ is the small one."""
    x = x / (jnp.linalg.norm(x, axis=(1, 2), keepdims=True) + 1e-8)

    def product(a: Array, b: Array) -> Array:
        return jnp.matmul(a, b, preferred_element_type=jnp.float32)

    def step(x: Array, coefficients: Array) -> tuple[Array, None]:
        a, b, c = coefficients
        rounded = settle(x.astype(factor))
        square = settle(jnp.einsum("mrc,msc->mrs", rounded, rounded, preferred_element_type=jnp.float32))
        small = settle(square.astype(factor))
        polynomial = settle((b * square + c * product(small, small)).astype(factor))
        return a * x + product(polynomial, rounded), None

    # A scan, because three copies of it take three times as long to compile.
    return jax.lax.scan(step, x, jnp.array(QUINTICS, x.dtype))[0]
