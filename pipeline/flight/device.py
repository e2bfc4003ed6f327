"""Which chip the run uses, and how XLA is set up before the first array exists."""

import os
import warnings
from pathlib import Path

from pipeline.config import BadInput

# Reductions and scatters in a fixed order: an interrupted run must end with the bits of the uninterrupted one.
DETERMINISTIC = "--xla_gpu_deterministic_ops=true"


def choose_device(wanted: str, cache: Path) -> str:
    """Sets JAX up for `wanted` (auto, cpu or cuda) with its compilation cache in `cache`; returns what it runs on.

    Raises:
        BadInput: CUDA was asked for and JAX finds none.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_gpu_deterministic_ops" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {DETERMINISTIC}".strip()
    import jax

    # Compiling again after every eclipse is paid for in watt-hours, so that everything compiled is kept.
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    # A damaged entry is a miss; JAX says so in a warning of several lines, which is no news to an operator.
    warnings.filterwarnings("ignore", message="Error reading persistent compilation cache entry")
    if wanted != "auto":
        # The plant always flies on the CPU.
        jax.config.update("jax_platforms", "cpu" if wanted == "cpu" else f"{wanted},cpu")
    try:
        chip = jax.devices()[0]
    except RuntimeError as error:
        raise BadInput(
            f"train.device: {wanted}: JAX finds no such device here; give --train.device cpu, or install the extra "
            "with `pip install '.[cuda]'` on a machine with an NVIDIA GPU"
        ) from error
    return chip.device_kind if chip.platform != "cpu" else f"CPU ({os.cpu_count()} cores)"
