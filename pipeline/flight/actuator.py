"""What makes a GPU draw less: nothing (simulated), its own power cap (nvml), or pauses between chunks (duty-cycle)."""

from typing import Any

from pipeline.config import BadInput
from pipeline.config.mission import Gpu


class Actuator:
    """Leaves the GPU as it is: the plant draws what it was told to."""

    def apply(self, cap_w: float) -> None:
        """Before work: keep the GPU at or below `cap_w` [W]."""

    def working_w(self, cap_w: float) -> float:
        """What the GPU draws while it works [W]; the pauses come on top."""
        return cap_w

    def pause_s(self, worked_s: float, cap_w: float) -> float:
        """After work: how long to pause so that the mean power is `cap_w` [s]."""
        return 0.0

    def close(self) -> None:
        """Leave the GPU as it was found."""


def make_actuator(gpu: Gpu) -> Actuator:
    """The actuator that the configuration asks for.

    Raises:
        BadInput: NVML is missing, finds no GPU, or does not let this user set it.
    """
    if gpu.actuator == "simulated":
        return Actuator()
    if gpu.actuator == "duty-cycle":
        return DutyCycle(gpu)
    try:
        import pynvml
    except ImportError as error:
        raise BadInput("gpu.actuator: nvml needs nvidia-ml-py; `pip install '.[cuda]'`, or use duty-cycle") from error
    return Nvml(gpu, pynvml)


class DutyCycle(Actuator):
    """Works at full power for a share of the time, for a GPU whose cap may not be set.

    With P_full at work and P_idle in a pause, the mean is the cap at the share (cap − P_idle) / (P_full − P_idle).
    """

    def __init__(self, gpu: Gpu):
        self._idle_w, self._full_w = gpu.idle_w, gpu.curve[-1][1]

    def working_w(self, cap_w: float) -> float:
        return self._full_w

    def pause_s(self, worked_s: float, cap_w: float) -> float:
        share = (cap_w - self._idle_w) / (self._full_w - self._idle_w)
        return worked_s * (1.0 / min(1.0, max(share, 0.01)) - 1.0)


class Nvml(Actuator):
    """NVML's power limit, and an SM clock lock where one is configured; both are put back on `close`."""

    def __init__(self, gpu: Gpu, nvml: Any):
        """`nvml`: the module pynvml, or what stands for it."""
        self._nvml = nvml
        try:
            nvml.nvmlInit()
            self._device = nvml.nvmlDeviceGetHandleByIndex(0)
            self._found_mw = nvml.nvmlDeviceGetPowerManagementLimit(self._device)
            self._least_mw, self._most_mw = nvml.nvmlDeviceGetPowerManagementLimitConstraints(self._device)
        except nvml.NVMLError as error:
            raise BadInput(f"gpu.actuator: nvml: {error}; use duty-cycle, or a machine with an NVIDIA GPU") from error
        self._set_mw = self._found_mw
        self._locked = False
        if gpu.sm_mhz:
            self._permitted(nvml.nvmlDeviceSetGpuLockedClocks, gpu.sm_mhz, gpu.sm_mhz)
            self._locked = True

    def apply(self, cap_w: float) -> None:
        wanted_mw = min(max(round(cap_w * 1000.0), self._least_mw), self._most_mw)
        if wanted_mw != self._set_mw:
            self._permitted(self._nvml.nvmlDeviceSetPowerManagementLimit, wanted_mw)
            self._set_mw = wanted_mw

    def close(self) -> None:
        if self._set_mw != self._found_mw:
            self._nvml.nvmlDeviceSetPowerManagementLimit(self._device, self._found_mw)
        if self._locked:
            self._nvml.nvmlDeviceResetGpuLockedClocks(self._device)
        self._nvml.nvmlShutdown()

    def _permitted(self, call: Any, *values: int) -> None:
        try:
            call(self._device, *values)
        except self._nvml.NVMLError as error:
            raise BadInput(
                f"gpu.actuator: nvml: {call.__name__}: {error}; run with the right to set it, or use duty-cycle"
            ) from error
