"""What all tests share: XLA set up as for a run, and one compilation cache, so that nothing is compiled twice."""

import os
from collections.abc import Callable
from pathlib import Path

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from pipeline.flight.device import xla_flags

# Before XLA reads them, once in a process: otherwise whichever test came first would decide the last bits of the rest.
os.environ["XLA_FLAGS"] = xla_flags(os.environ.get("XLA_FLAGS", ""), "cpu")
CACHE = Path(__file__).parent.parent / ".pytest_cache" / "xla"


@pytest.fixture(scope="session", autouse=True)
def shared_cache() -> Callable[[], None]:
    def share() -> None:
        compilation_cache.reset_cache()
        jax.config.update("jax_compilation_cache_dir", str(CACHE))
        jax.jit(lambda: 0).lower().compile()  # the first to compile decides for all: else it may be a run, with its own

    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    # Otherwise the key of a program contains the directory of the cache, and each run directory compiles for itself.
    jax.config.update("jax_persistent_cache_enable_xla_caches", "none")
    with pytest.MonkeyPatch.context() as patch:
        # JAX looks for plugins now. That of CUDA would go for want of a driver, and a test needs its compiler.
        patch.setenv("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")
        share()
    return share
