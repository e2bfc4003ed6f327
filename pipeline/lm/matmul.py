"""Products of activations and weight matrices, with their own gradient, and both factors in 32, 16 or 8 bits."""

from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from pipeline.lm.settle import on_cpu, settle, turned


class Factor(NamedTuple):
    """A factor as a product sees it: `values`, where there is a scale times it."""

    values: Array
    scale: Array | None = None

    @property
    def seen(self) -> Array:
        """On a GPU with 8-bit products XLA takes the values as they are, and moves the scale behind the product, where
        it sees this in the same loop body as the product."""
        return self.values if self.scale is None else self.values.astype(self.scale.dtype) * self.scale


class Rounding(NamedTuple):
    """How a product sees its factors."""

    forward: Callable[[Array, Array], Factor]  # activations and weights, given the largest magnitude that must fit
    backward: Callable[[Array], Array]  # the gradient of what it gave


# product(x [*batch, in], w [in, out], …) -> (x w [*batch, out], …). For factors of 8 bits there are the keywords
# `sample`, rows of x that tell how large all are (without it one in 16), and `size`, the largest magnitude of all
# matrices that share a scale (without it each has its own).
Matmul = Callable[..., tuple[Array, ...]]

# To look at all rows is a pass through memory of its own. There is room for what is 8 times as large as the sample.
# E4M3 then holds with all of its mantissa what is down to a 1,800th of the sample's largest.
SAMPLED, ROOM = 16, 8


def sampled(x: Array) -> Array:
    """One row in 16 of x [*batch, channels]."""
    return jax.lax.stop_gradient(x.reshape(-1, x.shape[-1])[::SAMPLED])


def largest(*arrays: Array) -> Float[Array, ""]:
    """The largest magnitude in all of them, fp32."""
    return jnp.stack([jnp.abs(jax.lax.stop_gradient(x)).max().astype(jnp.float32) for x in arrays]).max()


def expected(sample: Array) -> Float[Array, ""]:
    """The largest magnitude that must fit, where `sample` is a part of all rows."""
    return ROOM * largest(sample)


def _rounded(x: Array, most: Array, dtype: DTypeLike) -> Factor:
    """`x` scaled so that `most` fits into `dtype`, and rounded (Micikevicius et al., FP8 Formats for Deep Learning,
    arXiv 2209.05433). Scales are powers of two: they change no bit in bf16."""
    limit = float(jnp.finfo(dtype).max)
    exponent = jnp.ceil(jnp.log2(jnp.maximum(most, 2.0**-100) / limit)).astype(jnp.int32)
    scale, inverse = (jnp.ldexp(jnp.float32(1.0), power).astype(x.dtype) for power in (exponent, -exponent))
    # Clipped, because what does not fit would become nan; not divided, which takes an H200 a tenth longer.
    return Factor(jnp.clip(x * inverse, -limit, limit).astype(dtype), scale)


def _clipped(x: Array, dtype: DTypeLike) -> Array:
    """`x` as a product in `dtype` sees it without a scale: for gradients that are made to fit it (precision.py)."""
    limit = float(jnp.finfo(dtype).max)
    return jnp.clip(x, -limit, limit).astype(dtype).astype(x.dtype)


def asked(dtype: DTypeLike) -> DTypeLike:
    """The type to ask of a product that is wanted in `dtype`. A GPU sums in fp32, and rounds before it writes."""
    return jnp.float32 if on_cpu() else dtype


# Rows and tables as the products saw them; on a CPU, turned rows, the matrices and their size.
Kept = tuple[Array, Sequence[Any], Array | None]


def _make(rounding: Rounding, for_weights: bool = True) -> Matmul:
    """Products that see their factors rounded. Each is summed in fp32.

    Args:
        for_weights: whether the product that is the gradient of the weights takes its factors rounded too.
    """
    forward, backward = rounding

    def product(a: Array, b: Array, dtype: DTypeLike = jnp.float32) -> Array:
        return jnp.matmul(a, b, preferred_element_type=asked(dtype)).astype(dtype)

    def back(d: Array, w: Array, dtype: DTypeLike) -> Array:
        """d wᵀ; with `w.T` written out, XLA on a CPU turns it before every product."""
        return jnp.einsum("no,io->ni", d, w, preferred_element_type=asked(dtype))

    @jax.custom_vjp
    def matmul(x: Array, most: Array, size: Array | None, *matrices: Array) -> tuple[Array, ...]:
        return run(x, most, size, *matrices)[0]

    def tables_of(matrices: Sequence[Array], size: Array | None, dtype: DTypeLike) -> list[Factor]:
        sizes = [largest(w) if size is None else size for w in matrices]
        return [settle(forward(w.astype(dtype), most)) for w, most in zip(matrices, sizes, strict=True)]

    def run(x: Array, most: Array, size: Array | None, *matrices: Array) -> tuple[tuple[Array, ...], Kept]:
        whole = x.reshape(-1, x.shape[-1])
        rows = settle(forward(whole, most).seen)
        tables = tables_of(matrices, size, x.dtype)
        outs = tuple(settle(product(rows, w.seen, x.dtype)).reshape(*x.shape[:-1], -1) for w in tables)
        # On a CPU rounding again costs less than keeping, and what is kept lies as the product that takes it wants it.
        kept = rows if for_weights else whole
        return outs, (turned(kept), matrices, size) if on_cpu() else (kept, tables, None)

    def differentiate(kept: Kept, d_outs: tuple[Array, ...]) -> tuple[Array | None, ...]:
        dtype = d_outs[0].dtype
        of_x, of_matrices, size = kept
        columns, tables = (of_x, tables_of(of_matrices, size, dtype)) if on_cpu() else (of_x.T, of_matrices)
        whole = [d.reshape(-1, d.shape[-1]) for d in d_outs]
        d_rows = [settle(backward(d)) for d in whole]
        parts = (back(d, w.seen, dtype) for d, w in zip(d_rows, tables, strict=True))
        dx = settle(reduce(jnp.add, parts).astype(dtype))
        d_matrices = (settle(product(columns, d)) for d in (d_rows if for_weights else whole))
        return dx.reshape(*d_outs[0].shape[:-1], -1), None, None, *d_matrices

    matmul.defvjp(run, differentiate)

    def multiply(
        x: Array, *matrices: Array, sample: Array | None = None, size: Array | None = None
    ) -> tuple[Array, ...]:
        return matmul(x, expected(sampled(x) if sample is None else sample), size, *matrices)

    return multiply


AS_IT_IS = Rounding(lambda x, _: Factor(x), lambda x: x)
IN_BF16 = Rounding(lambda x, _: Factor(x.astype(jnp.bfloat16)), lambda x: x.astype(jnp.bfloat16))
# More mantissa forward, more exponent backward: gradients span more magnitudes than activations.
IN_8_BITS = Rounding(partial(_rounded, dtype=jnp.float8_e4m3fn), partial(_clipped, dtype=jnp.float8_e5m2))

matmul = _make(AS_IT_IS)
matmul_bf16 = _make(IN_BF16)
# A Hopper multiplies 8 bits only where both factors lie along the sum; for the gradient of the weights both would have
# to be turned first, which takes longer than the product in 16 bits.
matmul_fp8 = _make(IN_8_BITS, for_weights=False)
