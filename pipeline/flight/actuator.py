"""What makes a GPU draw less: nothing (simulated), its own power cap (nvml), or pauses between chunks (duty-cycle)."""

from typing import Any

from pipeline.config import BadInput
from pipeline.config.mission import Gpu


class Actuator:
    """Leaves the GPU as it is: the plant draws what it was told to."""

    def __init__(self, gpu: Gpu):
        self._idle_w, self._full_w = gpu.idle_w, gpu.curve[-1][1]

    def apply(self, cap_w: float) -> None:
        """Before work: keep the GPU at or below `cap_w` [W]."""

    def working_w(self, cap_w: float) -> float:
        """What the GPU draws while it works [W]; the pauses come on top."""
        return cap_w

    def pause_s(self, worked_s: float, cap_w: float) -> float:
        """After work: how long to pause so that the mean power is `cap_w` [s].

        With P_work at work and P_idle in a pause, it is at a share (cap − P_idle) / (P_work − P_idle) of work.
        """
        working_w = self.working_w(cap_w)
        if cap_w >= working_w or self._idle_w >= working_w:  # there is nothing to save, or not by pauses
            return 0.0
        share = (cap_w - self._idle_w) / (working_w - self._idle_w)
        return worked_s * (1.0 / max(share, 0.01) - 1.0)

    def close(self) -> None:
        """Leave the GPU as it was found."""


def make_actuator(gpu: Gpu) -> Actuator:
    """The actuator that the configuration asks for.

    Raises:
        BadInput: NVML is missing, finds no GPU, or does not let this user set it.
    """
    if gpu.actuator == "simulated":
        return Actuator(gpu)
    if gpu.actuator == "duty-cycle":
        return DutyCycle(gpu)
    try:
        import pynvml
    except ImportError as error:
        raise BadInput("gpu.actuator: nvml needs nvidia-ml-py; `pip install '.[cuda]'`, or use duty-cycle") from error
    return Nvml(gpu, pynvml)


class DutyCycle(Actuator):
    """Works at full power for a share of the time, for a GPU whose cap may not be set."""

    def working_w(self, cap_w: float) -> float:
        return self._full_w


class Nvml(Actuator):
    """NVML's power limit, and an SM clock lock where one is configured; both are put back on `close`.

    A card takes no limit below its least (200 W of the 700 W of Hopper's SXM boards): pauses do what is left.
    """

    def __init__(self, gpu: Gpu, nvml: Any):
        """`nvml`: the module pynvml, or what stands for it."""
        super().__init__(gpu)
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

    def working_w(self, cap_w: float) -> float:
        return max(cap_w, min(self._least_mw / 1000.0, self._full_w))

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
