"""The most that this machine multiplies: what a share of its peak is measured against."""

import time

SIZES = {"cpu": (1024, 1536, 2048), "gpu": (4096, 8192)}  # of square matrices; the best counts
AT_ONCE = {"cpu": 3, "gpu": 30}  # so long that the power of the chip is that of a step
REPEATS = 3


def peak_flops(precision: str) -> float:
    """FLOP/s of the fastest of a few square matrix products in the compute type of `precision`, measured now."""
    import jax
    import jax.numpy as jnp

    dtype = {"fp32": jnp.float32, "fp16": jnp.float16}.get(precision, jnp.bfloat16)
    multiply = jax.jit(lambda a, b: a @ b)
    best, backend = 0.0, jax.default_backend()
    for size in SIZES[backend]:
        # Numbers of chance: a GPU multiplies ones at less power, and so 9 % faster.
        a = jax.random.normal(jax.random.key(0), (size, size), dtype)
        multiply(a, a).block_until_ready()
        for _ in range(REPEATS):
            begun_s = time.perf_counter()
            for _ in range(AT_ONCE[backend]):
                last = multiply(a, a)
            last.block_until_ready()
            best = max(best, AT_ONCE[backend] * 2.0 * size**3 / (time.perf_counter() - begun_s))
    return best
