"""NVML as its calls were recorded: tests set no card."""

from typing import Any


class RecordedNvml:
    """The calls of pynvml that set something, on a card at 700 W that takes 200 to 700 W, and what it is called."""

    class NVMLError(Exception):
        pass

    def __init__(self, permitted: bool = True, present: bool = True):
        self.calls: list[tuple[Any, ...]] = []
        self._permitted, self._present = permitted, present

    def nvmlInit(self) -> None:
        if not self._present:
            raise self.NVMLError("Driver Not Loaded")

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        return f"gpu{index}"

    def nvmlDeviceGetName(self, device: str) -> str:
        return "NVIDIA H200"

    def nvmlSystemGetDriverVersion(self) -> str:
        return "580.159.04"

    def nvmlDeviceGetPowerManagementLimit(self, device: str) -> int:
        return 700_000

    def nvmlDeviceGetPowerManagementLimitConstraints(self, device: str) -> tuple[int, int]:
        return 200_000, 700_000

    def nvmlDeviceSetPowerManagementLimit(self, device: str, limit_mw: int) -> None:
        self._set("limit", device, limit_mw)

    def nvmlDeviceSetGpuLockedClocks(self, device: str, low: int, high: int) -> None:
        self._set("lock", device, low, high)

    def nvmlDeviceResetGpuLockedClocks(self, device: str) -> None:
        self._set("unlock", device)

    def nvmlShutdown(self) -> None:
        self.calls.append(("shutdown",))

    def _set(self, *call: Any) -> None:
        if not self._permitted:
            raise self.NVMLError("Insufficient Permissions")
        self.calls.append(call)
