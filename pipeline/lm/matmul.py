"""The product of activations and a weight matrix, with its own gradient, and both factors in 32, 16 or 8 bits."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from pipeline.lm.settle import on_cpu, settle

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
        rows = settle(forward(x.reshape(-1, x.shape[-1])))
        table = settle(forward(w.astype(x.dtype)))
        out = product(rows, table).astype(x.dtype)
        # Turned already: XLA on a CPU has products of 16 bits, but none with a factor that it must turn itself.
        kept = settle((rows.T, table.T)) if on_cpu() else (rows, table)
        return settle(out).reshape(*x.shape[:-1], -1), kept

    def differentiate(kept: tuple[Array, Array], d_out: Array) -> tuple[Array, Array]:
        columns, table = kept if on_cpu() else (kept[0].T, kept[1].T)
        d_rows = settle(backward(d_out.reshape(-1, d_out.shape[-1])))
        dx = product(d_rows, table).astype(d_out.dtype)
        dw = product(columns, d_rows)
        return settle(dx).reshape(*d_out.shape[:-1], -1), settle(dw)

    matmul.defvjp(run, differentiate)
    return matmul


matmul = _make(lambda x: x, lambda x: x)
matmul_bf16 = _make(lambda x: x.astype(jnp.bfloat16), lambda x: x.astype(jnp.bfloat16))
# More mantissa forward, more exponent backward: gradients span more magnitudes than activations.
matmul_fp8 = _make(partial(_rounded, dtype=jnp.float8_e4m3fn), partial(_rounded, dtype=jnp.float8_e5m2))
