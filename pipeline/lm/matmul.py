"""Products of activations and weight matrices, with their own gradient, and both factors in 32, 16 or 8 bits."""

from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array

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

    forward: Callable[[Array, Array], Factor]  # activations and weights, given a part that tells how large they are
    backward: Callable[[Array], Array]  # the gradient of what it gave


# product(x [*batch, in], w [in, out], …, sample=sampled(x)) -> (x w [*batch, out], …)
Matmul = Callable[..., tuple[Array, ...]]

# One row in 16 tells how large all are: to look at all of them is a pass through memory of its own. There is room for
# what is 64 times as large, which costs no bit: E4M3 holds 2^-6 to 448 with all of its mantissa.
SAMPLED, ROOM = 16, 64


def sampled(x: Array) -> Array:
    """One row in 16 of x [*batch, channels]."""
    return jax.lax.stop_gradient(x.reshape(-1, x.shape[-1])[::SAMPLED])


def _rounded(x: Array, sample: Array, dtype: DTypeLike) -> Factor:
    """`x` scaled so that the largest magnitude of `sample` fits into `dtype` with ROOM, and rounded (Micikevicius et
    al., FP8 Formats for Deep Learning, arXiv 2209.05433). Scales are powers of two: they change no bit in bf16."""
    limit = float(jnp.finfo(dtype).max)
    largest = ROOM * jnp.maximum(jnp.abs(sample).max().astype(jnp.float32), 2.0**-100)
    scale = jnp.ldexp(jnp.float32(1.0), jnp.ceil(jnp.log2(largest / limit)).astype(jnp.int32)).astype(x.dtype)
    # Clipped, because what does not fit would become nan.
    return Factor(jnp.clip(x / scale, -limit, limit).astype(dtype), scale)


def _clipped(x: Array, dtype: DTypeLike) -> Array:
    """`x` as a product in `dtype` sees it without a scale: for gradients that are made to fit it (precision.py)."""
    limit = float(jnp.finfo(dtype).max)
    return jnp.clip(x, -limit, limit).astype(dtype).astype(x.dtype)


def asked(dtype: DTypeLike) -> DTypeLike:
    """The type to ask of a product that is wanted in `dtype`. A GPU sums in fp32, and rounds before it writes."""
    return jnp.float32 if on_cpu() else dtype


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
    def matmul(x: Array, sample: Array, *matrices: Array) -> tuple[Array, ...]:
        return run(x, sample, *matrices)[0]

    def tables_of(matrices: Sequence[Array], dtype: DTypeLike) -> list[Array]:
        return [settle(forward(w, w).seen) for w in (matrix.astype(dtype) for matrix in matrices)]

    def run(x: Array, sample: Array, *matrices: Array) -> tuple[tuple[Array, ...], tuple[Array, Sequence[Array]]]:
        whole = x.reshape(-1, x.shape[-1])
        rows = settle(forward(whole, sample).seen)
        tables = tables_of(matrices, x.dtype)
        outs = tuple(settle(product(rows, w, x.dtype)).reshape(*x.shape[:-1], -1) for w in tables)
        # On a CPU rounding again costs less than keeping, and what is kept lies as the product that takes it wants it.
        kept = rows if for_weights else whole
        return outs, (turned(kept), matrices) if on_cpu() else (kept, tables)

    def differentiate(kept: tuple[Array, Sequence[Array]], d_outs: tuple[Array, ...]) -> tuple[Array | None, ...]:
        dtype = d_outs[0].dtype
        columns, tables = (kept[0], tables_of(kept[1], dtype)) if on_cpu() else (kept[0].T, kept[1])
        whole = [d.reshape(-1, d.shape[-1]) for d in d_outs]
        d_rows = [settle(backward(d)) for d in whole]
        dx = settle(reduce(jnp.add, (back(d, w, dtype) for d, w in zip(d_rows, tables, strict=True))).astype(dtype))
        d_matrices = (settle(product(columns, d)) for d in (d_rows if for_weights else whole))
        return dx.reshape(*d_outs[0].shape[:-1], -1), None, *d_matrices

    matmul.defvjp(run, differentiate)

    return lambda x, *matrices, sample=None: matmul(x, sampled(x) if sample is None else sample, *matrices)


AS_IT_IS = Rounding(lambda x, _: Factor(x), lambda x: x)
IN_BF16 = Rounding(lambda x, _: Factor(x.astype(jnp.bfloat16)), lambda x: x.astype(jnp.bfloat16))
# More mantissa forward, more exponent backward: gradients span more magnitudes than activations.
IN_8_BITS = Rounding(partial(_rounded, dtype=jnp.float8_e4m3fn), partial(_clipped, dtype=jnp.float8_e5m2))

matmul = _make(AS_IT_IS)
matmul_bf16 = _make(IN_BF16)
# A Hopper multiplies 8 bits only where both factors lie along the sum; for the gradient of the weights both would have
# to be turned first, which takes longer than the product in 16 bits.
matmul_fp8 = _make(IN_8_BITS, for_weights=False)
