"""Products of activations and weight matrices, with their own gradient, and both factors in 32, 16 or 8 bits."""

from collections.abc import Callable
from functools import partial, reduce

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array

from pipeline.lm.settle import on_cpu, settle

Quantise = Callable[[Array], Array]
# product(x [*batch, in], w [in, out], …) -> (x w [*batch, out], …)
Matmul = Callable[..., tuple[Array, ...]]


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
    def matmul(x: Array, *matrices: Array) -> tuple[Array, ...]:
        return run(x, *matrices)[0]

    def run(x: Array, *matrices: Array) -> tuple[tuple[Array, ...], tuple[Array, list[Array]]]:
        rows = settle(forward(x.reshape(-1, x.shape[-1])))
        tables = [settle(forward(w.astype(x.dtype))) for w in matrices]
        outs = tuple(settle(product(rows, w).astype(x.dtype)).reshape(*x.shape[:-1], -1) for w in tables)
        # Turned already: XLA on a CPU has products of 16 bits, but none with a factor that it must turn itself.
        return outs, (settle(rows.T), [settle(w.T) for w in tables]) if on_cpu() else (rows, tables)

    def differentiate(kept: tuple[Array, list[Array]], d_outs: tuple[Array, ...]) -> tuple[Array, ...]:
        columns, tables = kept if on_cpu() else (kept[0].T, [w.T for w in kept[1]])
        d_rows = [settle(backward(d.reshape(-1, d.shape[-1]))) for d in d_outs]
        dx = reduce(jnp.add, map(product, d_rows, tables)).astype(d_outs[0].dtype)
        return settle(dx).reshape(*d_outs[0].shape[:-1], -1), *(settle(product(columns, d)) for d in d_rows)

    matmul.defvjp(run, differentiate)

    def side_by_side(x: Array, *matrices: Array) -> tuple[Array, ...]:
        """One product in place of several. On a CPU taking it apart costs more than that saves: 4 % of a step."""
        (out,) = matmul(x, jnp.concatenate(matrices, axis=1))
        return tuple(jnp.split(out, np.cumsum([w.shape[1] for w in matrices])[:-1], axis=-1))

    return lambda x, *matrices: (matmul if on_cpu() else side_by_side)(x, *matrices)


matmul = _make(lambda x: x, lambda x: x)
matmul_bf16 = _make(lambda x: x.astype(jnp.bfloat16), lambda x: x.astype(jnp.bfloat16))
# More mantissa forward, more exponent backward: gradients span more magnitudes than activations.
matmul_fp8 = _make(partial(_rounded, dtype=jnp.float8_e4m3fn), partial(_rounded, dtype=jnp.float8_e5m2))
