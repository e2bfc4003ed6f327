"""What the GPU has drawn, as it counts itself: the curve that the plan rests on is corrected by it."""

from typing import Any, Protocol

from pipeline.flight.nvml import on_gpu


class Meter(Protocol):
    def joules(self) -> float | None:
        """Energy that the GPU drew since the last call [J]; None where nothing counts it."""
        ...

    def close(self) -> None: ...


def make_meter(backend: str) -> Meter:
    """NVML's counter on an NVIDIA GPU; elsewhere, and where NVML has none, a meter that counts nothing."""
    return on_gpu(backend, NvmlMeter) or NoMeter()


class NoMeter:
    def joules(self) -> None:
        return None

    def close(self) -> None:
        pass


class NvmlMeter:
    """`nvmlDeviceGetTotalEnergyConsumption`: integrated in the card. NVML's power readings sample a quarter of the
    time (arXiv 2312.02741)."""

    def __init__(self, nvml: Any):
        """`nvml`: the module pynvml, or what stands for it.

        Raises:
            nvml.NVMLError: there is no GPU, or it does not count.
        """
        self._nvml = nvml
        nvml.nvmlInit()
        self._device = nvml.nvmlDeviceGetHandleByIndex(0)
        self._last_mj = nvml.nvmlDeviceGetTotalEnergyConsumption(self._device)

    def joules(self) -> float | None:
        try:
            now_mj = self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._device)
        except self._nvml.NVMLError:
            return None
        since_mj, self._last_mj = now_mj - self._last_mj, now_mj
        return since_mj / 1000.0 if since_mj >= 0 else None  # the driver was loaded again

    def close(self) -> None:
        self._nvml.nvmlShutdown()
