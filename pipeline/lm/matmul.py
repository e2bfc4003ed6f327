"""The product of activations and a weight matrix, with its own gradient; plain, or with both factors in 8 bits."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from pipeline.lm.settle import settle

Quantise = Callable[[Array], Array]
Matmul = Callable[[Float[Array, "*batch in"], Float[Array, "in out"]], Float[Array, "*batch out"]]


def _rounded(x: Array, dtype: DTypeLike) -> Array:
    """`x` as a product in `dtype` sees it: scaled so that its largest magnitude fits, rounded, and scaled back
    (Micikevicius et al., FP8 Formats for Deep Learning, arXiv 2209.05433). Scales are powers of two: scaling back is
    exact in bf16.

    Written as XLA wants it: on a GPU that has 8-bit products it moves both scales behind the product."""
    limit = float(jnp.finfo(dtype).max)
    largest = jnp.maximum(jnp.abs(x).max().astype(jnp.float32), 2.0**-100)
    scale = jnp.ldexp(jnp.float32(1.0), jnp.ceil(jnp.log2(largest / limit)).astype(jnp.int32)).astype(x.dtype)
    # Clipped, because log2 may be a bit too small, and what does not fit would become nan.
    return jnp.clip(x / scale, -limit, limit).astype(dtype).astype(x.dtype) * scale


def _make(forward: Quantise, backward: Quantise) -> Matmul:
    """`forward` rounds activations and weights, `backward` their product's gradient. Sums are in fp32."""
    product = partial(jnp.matmul, preferred_element_type=jnp.float32)

    @jax.custom_vjp
    def matmul(x: Array, w: Array) -> Array:
        return run(x, w)[0]

    def run(x: Array, w: Array) -> tuple[Array, tuple[Array, Array]]:
        rows = settle(x.reshape(-1, x.shape[-1]))
        out = product(forward(rows), forward(w.astype(x.dtype))).astype(x.dtype)
        return settle(out).reshape(*x.shape[:-1], -1), (rows, w)

    def differentiate(kept: tuple[Array, Array], d_out: Array) -> tuple[Array, Array]:
        rows, w = kept
        d_rows = settle(backward(d_out.reshape(-1, d_out.shape[-1])))
        dx = product(d_rows, forward(w.astype(rows.dtype)).T).astype(rows.dtype)
        dw = product(settle(forward(rows).T), d_rows).astype(w.dtype)
        return settle(dx).reshape(*d_out.shape[:-1], -1), settle(dw)

    matmul.defvjp(run, differentiate)
    return matmul


matmul = _make(lambda x: x, lambda x: x)
# More mantissa forward, more exponent backward: gradients span more magnitudes than activations.
matmul_fp8 = _make(partial(_rounded, dtype=jnp.float8_e4m3fn), partial(_rounded, dtype=jnp.float8_e5m2))
