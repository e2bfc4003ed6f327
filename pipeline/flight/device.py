"""Which chip the run uses, and how XLA is set up before the first array exists."""

import ctypes
import logging
import os
import warnings
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config import BadInput

if TYPE_CHECKING:
    import jax

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # of <malloc.h>
FLAGS = {
    # Reductions and scatters in a fixed order: an interrupted run must end with the bits of the uninterrupted one.
    "xla_gpu_deterministic_ops": "true",
    # cuBLAS multiplies matrices faster than what XLA writes itself: 5 to 10 % of a step (measured on H100s).
    "xla_gpu_enable_triton_gemm": "false",
    # It prepares every product of a slice of the stacked weights anew, at each dispatch: 37 ms for 12 layers, in which
    # the GPU waits (measured on an H200).
    "xla_gpu_enable_dynamic_slice_fusion": "false",
    # It joins the products of one factor with several; to bring the gradients of those together is a pass through
    # memory, 1.8 ms of a step of 182 on an H200, more than is gained (modelled; a step without it is not timed yet).
    "xla_gpu_dot_merger_threshold_mb": "0",
    # Registers of AVX-512 whole, where LLVM likes halves better: 4 to 7 % of a step (JAX 0.12, Zen 4; nothing on 0.10).
    "xla_cpu_prefer_vector_width": "512",
}
# Where all programs are of a CPU: LLVM's third level takes 1.1 to 1.9 times the processor time of its second, for steps
# of the same bits that are no faster (0.9 M parameters and fewer, fp32 and mixed; JAX 0.10 and 0.12, Zen 2).
CPU_FLAGS = {"xla_backend_optimization_level": "2"}
FP8_CAPABILITY = 8.9
ARENAS = 4  # of glibc's memory


def keep_memory() -> None:
    """Tells glibc to keep freed memory: XLA on a CPU frees and asks again for its scratch space at every dispatch.

    Measured on 2 cores, one step a dispatch, 0.9 M parameters: 51,000 page faults and 95 ms of kernel time a step
    without this, 3,000 faults and 8 ms with it. Other C libraries have no such call and go without. With a single arena
    the compiler's threads wait for each other: 4.5 s for the train step in place of 3.1.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        for option, value in ((M_ARENA_MAX, ARENAS), (M_MMAP_THRESHOLD, 1 << 30), (M_TRIM_THRESHOLD, (1 << 31) - 1)):
            libc.mallopt(option, value)


def xla_flags(given: str, wanted: str) -> str:
    """XLA_FLAGS with what a run on `wanted` (auto, cpu or cuda) needs, where `given` does not say otherwise."""
    flags = FLAGS if _may_be_gpu(wanted) else FLAGS | CPU_FLAGS
    return " ".join([given, *(f"--{name}={value}" for name, value in flags.items() if name not in given)]).strip()


def _may_be_gpu(wanted: str) -> bool:
    """Whether JAX, which cannot be asked before its flags are set, has what drives one."""
    return wanted == "cuda" or (wanted == "auto" and bool(entry_points(group="jax_plugins")))


def choose_device(wanted: str, attention: str, cache: Path, precision: str = "fp32") -> str:
    """Sets JAX up for `wanted` (auto, cpu or cuda) with its compilation cache in `cache`; returns what it runs on.

    Raises:
        BadInput: a device, an attention kernel or a precision was asked for that this machine does not have.
    """
    os.environ["XLA_FLAGS"] = xla_flags(os.environ.get("XLA_FLAGS", ""), wanted)
    keep_memory()
    import jax

    # Compiling again after every eclipse is paid for in watt-hours, so that everything compiled is kept.
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    # A damaged entry is a miss; JAX says so in a warning of several lines, which is no news to an operator. A run's
    # own cache is vetted first (programs.py).
    warnings.filterwarnings("ignore", message="Error reading persistent compilation cache entry")
    if wanted != "auto":
        # The plant always flies on the CPU.
        jax.config.update("jax_platforms", "cpu" if wanted == "cpu" else f"{wanted},cpu")
    chip, why = _first_chip()
    if chip is None or (wanted == "cuda" and chip.platform != "gpu"):  # JAX goes on with the CPU, having said nothing
        raise BadInput(
            f"train.device: {wanted}: JAX finds no such device here{why}; give --train.device cpu, or install the "
            "extra with `pip install '.[cuda]'` on a machine with an NVIDIA GPU"
        )
    if chip.platform == "cpu":
        # They are of a GPU alone, and make the cache's directory part of every program's key: a run that is moved would
        # compile anew.
        jax.config.update("jax_persistent_cache_enable_xla_caches", "none")
    if attention == "cudnn" and chip.platform != "gpu":
        raise BadInput(
            "model.attention: cudnn: needs an NVIDIA GPU, and this runs on a CPU; give --model.attention xla"
        )
    if precision == "fp8" and float(getattr(chip, "compute_capability", 0.0)) < FP8_CAPABILITY:
        raise BadInput(
            f"train.precision: fp8: needs a GPU with 8-bit products (Ada, Hopper or later), "
            f"and {chip.device_kind} has none; give --train.precision bf16"
        )
    if chip.platform != "cpu":
        return chip.device_kind
    return f"CPU ({os.cpu_count()} cores)" + (f", no GPU{why}" if why and wanted == "auto" else "")


def _first_chip() -> tuple["jax.Device | None", str]:
    """What JAX would run on, and in brackets why the device of a plugin cannot be used, where it knows.

    JAX logs with a trace that a plugin fails, and where any device will do, as no news, that CUDA does.
    """
    import jax

    reasons: list[str] = []

    def shown(record: logging.LogRecord) -> bool:
        text = str(record.exc_info[1]) if record.exc_info else record.getMessage()
        if record.exc_info or "backend 'cuda'" in text:
            reasons.append(text)
            return False
        return record.levelno >= logging.WARNING

    chip = None
    log = logging.getLogger("jax._src.xla_bridge")
    level = log.level
    log.setLevel(logging.INFO)
    log.addFilter(shown)
    try:
        chip = jax.devices()[0]
    except RuntimeError as error:
        if "known backends" not in str(error):  # there is a plugin, and it does not work
            reasons.append(str(error))
    finally:
        log.removeFilter(shown)
        log.setLevel(level)
    why = " ".join("; ".join(reasons).split())
    return chip, f" ({why})" if why else ""
