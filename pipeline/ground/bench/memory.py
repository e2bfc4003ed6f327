"""How much memory a training holds: measured, and by formula."""

import ctypes
from contextlib import suppress
from pathlib import Path

from pipeline.config import Config
from pipeline.config.learning import Model
from pipeline.lm.flops import matrix_parameters
from pipeline.lm.loss import MOST_LOGITS

GOAL = 1.3  # measured over formula, at most


def parts_bytes(config: Config, vocab_size: int, backend: str = "cpu") -> dict[str, float]:
    """What a training step cannot do without, by part [bytes]: parameters, gradients, moments, activations, logits.

    Activations are what the backward pass needs and cannot cheaply compute again, once each: 4 C (two inputs of the
    residual stream, two normalised) + Q + 2 (Q + K) + K + 3 F for each token and layer, C, Q, K and F being the widths
    of the residual stream, of all queries, of all keys and of SwiGLU, and H T attention weights, which the flash kernel
    does not keep (as Korthikanti et al., arXiv 2205.05198, count them for GPT). With gradient checkpointing, what its
    name keeps of each layer, and all of one layer.
    """
    shape, train = config.model, config.train
    matrices = matrix_parameters(shape, vocab_size) - vocab_size * shape.width
    parameters = matrices + vocab_size * shape.width + _norm_parameters(shape)
    with_muon = matrices if config.optimizer.name == "muon" else 0
    tokens = (train.microbatch or train.batch) * shape.context
    number = 4 if train.precision == "fp32" else 2
    queries, keys = shape.query_heads * shape.channels_per_head, shape.key_heads * shape.channels_per_head
    layer = number * (4 * shape.width + 3 * queries + 3 * keys + 3 * shape.hidden_width)
    layer += 4 * shape.query_heads * (shape.context if shape.attention == "xla" else 1)
    products = number * (3 * shape.width + queries + 2 * keys + 2 * shape.hidden_width)
    kept_of_each = {"none": layer, "dots": products, "block": number * shape.width}[shape.remat]
    logits = 4.0 if backend == "gpu" and train.precision not in ("fp32", "mixed") else 8.0  # and their gradient
    kept = shape.depth * kept_of_each + (layer if shape.remat != "none" else 0)
    return {
        "parameters": 4.0 * parameters,
        "gradients": 4.0 * parameters * (1 if train.microbatch in (None, train.batch) else 2),
        "moments": 8.0 * parameters - 4.0 * with_muon,
        "activations": 1.0 * tokens * kept,
        "logits": logits * min(tokens * vocab_size, MOST_LOGITS[backend]),
    }


def _norm_parameters(shape: Model) -> int:
    return shape.depth * 2 * (shape.width + shape.channels_per_head) + shape.width


def peak_bytes() -> int | None:
    """Most that this process has held at a time, on the GPU if it has one; None where nothing tells."""
    import jax

    if jax.default_backend() != "cpu":
        return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return _status_bytes("VmHWM")


def held_bytes() -> int | None:
    """What this process holds now."""
    return _status_bytes("VmRSS")


def forget_peak() -> None:
    """What comes after is the peak; memory that is kept but not in use is given back first. Linux."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _status_bytes(name: str) -> int | None:
    with suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))
    return None
