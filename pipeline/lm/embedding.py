"""Rows of the embedding, and their gradient: for each token, the sum of what came back to its rows.

XLA adds these rows up one by one on a CPU. On a GPU it does so in an order of chance or, if that is forbidden, in one
that takes a fifth of a step (measured on an H100, 124 M parameters). There they are products of these rows with zeros
and ones, whose sums have an order.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from pipeline.lm.settle import on_cpu

SMALL = 2048  # the largest vocabulary of which every token is compared with every row
BLOCK = 128  # rows that are compared with one another in a larger one


def embed(table: Float[Array, "vocab width"], tokens: Int[Array, "batch seq"], dtype: DTypeLike) -> Array:
    """Rows of `table` in `dtype`. Their gradient is summed in fp32."""
    if on_cpu():
        return table[tokens].astype(dtype)
    return _rows(table, tokens, dtype)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _rows(table: Array, tokens: Array, dtype: DTypeLike) -> Array:
    return table[tokens].astype(dtype)


def _rows_backward(dtype: DTypeLike, kept: tuple[Array, Array], d: Array) -> tuple[Array, None]:
    table, tokens = kept
    return summed_by_token(tokens.reshape(-1), d.reshape(-1, d.shape[-1]), len(table)), None


_rows.defvjp(lambda table, tokens, dtype: (_rows(table, tokens, dtype), (table, tokens)), _rows_backward)


def summed_by_token(
    tokens: Int[Array, " rows"], rows: Float[Array, "rows width"], vocab_size: int
) -> Float[Array, "vocab width"]:
    """For each token of the vocabulary the sum of its rows, in fp32 and always in the same order."""
    if vocab_size <= SMALL:
        return _sums(jax.nn.one_hot(tokens, vocab_size, dtype=rows.dtype), rows)
    # Sorted, and cut into blocks. A run of one token that starts inside a block is the only one of that token that
    # does: its sum is put into its place. The run that a block opens with may go on from the block before: what the
    # blocks open with is summed by token in the same way, and added.
    padding = -len(tokens) % BLOCK
    order = jnp.argsort(tokens)
    tokens = jnp.pad(tokens[order], (0, padding), constant_values=vocab_size).reshape(-1, BLOCK)
    rows = jnp.pad(rows[order], ((0, padding), (0, 0))).reshape(-1, BLOCK, rows.shape[-1])
    changes = jnp.pad(tokens[:, 1:] != tokens[:, :-1], ((0, 0), (1, 0)))
    run = jax.nn.one_hot(jnp.cumsum(changes, axis=1), BLOCK, dtype=rows.dtype)  # [blocks, rows, runs of one token]
    sums = _sums(run, rows)
    nowhere = vocab_size + jnp.arange(tokens.size).reshape(tokens.shape)
    of_run = jnp.where(run.any(axis=1), jnp.where(run > 0, tokens[:, :, None], 0).max(axis=1), nowhere)
    placed = (
        jnp.zeros((vocab_size, rows.shape[-1])).at[of_run[:, 1:]].set(sums[:, 1:], mode="drop", unique_indices=True)
    )
    opening = of_run[:, 0]
    alike = (opening[:, None] == opening).astype(sums.dtype)
    place = jnp.where(jnp.diff(opening, prepend=-1) != 0, opening, nowhere[:, 0])  # once for each token
    return placed.at[place].add(_sums(alike, sums[:, 0]), mode="drop", unique_indices=True)


def _sums(which: Float[Array, "*blocks rows runs"], rows: Float[Array, "*blocks rows width"]) -> Array:
    return jnp.einsum("...nk,...nw->...kw", which, rows, precision="highest", preferred_element_type=jnp.float32)
