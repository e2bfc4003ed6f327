"""The most that this machine multiplies: what a share of its peak is measured against."""

import time

SIZES = {"cpu": (1024, 1536, 2048), "gpu": (4096, 8192)}  # of square matrices; the best counts
REPEATS = 3


def peak_flops(precision: str) -> float:
    """FLOP/s of the fastest of a few square matrix products in the compute type of `precision`, measured now."""
    import jax
    import jax.numpy as jnp

    dtype = {"fp32": jnp.float32, "fp16": jnp.float16}.get(precision, jnp.bfloat16)
    multiply = jax.jit(lambda a, b: a @ b)
    best = 0.0
    for size in SIZES.get(jax.default_backend(), SIZES["cpu"]):
        a = jnp.ones((size, size), dtype)
        multiply(a, a).block_until_ready()
        for _ in range(REPEATS):
            begun_s = time.perf_counter()
            for _ in range(3):
                last = multiply(a, a)
            last.block_until_ready()
            best = max(best, 3 * 2.0 * size**3 / (time.perf_counter() - begun_s))
    return best
