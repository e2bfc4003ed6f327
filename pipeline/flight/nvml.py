"""Where there is an NVIDIA GPU, what NVML tells of it; nowhere a reason not to train."""

from collections.abc import Callable
from typing import Any, TypeVar

Made = TypeVar("Made")


def on_gpu(backend: str, make: Callable[[Any], Made]) -> Made | None:
    """`make(pynvml)` on an NVIDIA GPU; None elsewhere, and where NVML cannot be had or lacks what is asked of it."""
    if backend != "gpu":
        return None
    try:
        import pynvml

        return make(pynvml)
    except Exception:  # not installed, no driver, no permission: training needs none of it
        return None


def card() -> tuple[str, str] | None:
    """Name of the first NVIDIA GPU, and its driver."""

    def ask(nvml: Any) -> tuple[str, str]:
        nvml.nvmlInit()
        return nvml.nvmlDeviceGetName(nvml.nvmlDeviceGetHandleByIndex(0)), nvml.nvmlSystemGetDriverVersion()

    return on_gpu("gpu", ask)
