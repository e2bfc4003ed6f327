"""How the GPU is, as it says itself: ECC errors, remapped rows, Xid errors; temperature, clock, what holds it back."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from pipeline.flight.nvml import on_gpu

EVERY_S = 60.0  # by the wall's clock; nine calls of some 10 µs each
# What lowers its clocks, by the bits of nvmlDeviceGetCurrentClocksEventReasons (nvml.h).
HELD_BACK = {0x4: "power cap", 0x8: "hardware slowdown", 0x20: "heat, by driver", 0x40: "heat, by hardware"}
HELD_BACK |= {0x80: "power brake"}


def gpu_health(backend: str) -> "GpuHealth | None":
    """The counters of an NVIDIA GPU; None elsewhere, and where NVML cannot be had: then there is nothing to tell."""
    return on_gpu(backend, GpuHealth)


class GpuHealth:
    """Counters that this card has, over its lifetime, and Xid errors since the process began.

    A card without ECC or row remapping lacks these counters, and no more.
    """

    def __init__(self, nvml: Any, clock: Callable[[], float] = time.monotonic):
        """`nvml`: the module pynvml, or what stands for it.

        Raises:
            nvml.NVMLError: there is no GPU.
        """
        self._nvml, self._clock = nvml, clock
        nvml.nvmlInit()
        self._device = nvml.nvmlDeviceGetHandleByIndex(0)
        self._last: tuple[dict[str, int], list[str]] | None = None
        self._asked_s = -EVERY_S
        self._xids: Any = None
        with suppress(nvml.NVMLError):
            xids = nvml.nvmlEventSetCreate()
            nvml.nvmlDeviceRegisterEvents(self._device, nvml.nvmlEventTypeXidCriticalError, xids)
            self._xids = xids

    def news(self) -> dict[str, Any] | None:
        """Counters and readings, the first time and whenever a counter or what holds the card back has changed, and
        `xid`, the codes of new Xid errors; else None.

        Asks the card at most once in `EVERY_S`. Keys: `ecc_corrected`, `ecc_uncorrected`, `rows_corrected`,
        `rows_uncorrected` (rows remapped after errors), `rows_pending`, `rows_failed` (1: a remapping waits for a
        reset, or could not be done), `gpu_c` (temperature [°C]), `sm_mhz`, `held_back` (names), `xid`.
        """
        if self._clock() - self._asked_s < EVERY_S:
            return None
        self._asked_s = self._clock()
        counters, held_back, xids = dict(self._counters()), self._held_back(), list(self._new_xids())
        if (counters, held_back) == (self._last or ({}, [])) and not xids:
            return None
        self._last = counters, held_back
        return counters | dict(self._readings()) | {"held_back": held_back} | ({"xid": xids} if xids else {})

    def close(self) -> None:
        with suppress(self._nvml.NVMLError):
            if self._xids is not None:
                self._nvml.nvmlEventSetFree(self._xids)
            self._nvml.nvmlShutdown()

    def _counters(self) -> Iterator[tuple[str, int]]:
        nvml = self._nvml
        for name in ("corrected", "uncorrected"):
            kind = getattr(nvml, f"NVML_MEMORY_ERROR_TYPE_{name.upper()}")
            with suppress(nvml.NVMLError):
                yield f"ecc_{name}", nvml.nvmlDeviceGetTotalEccErrors(self._device, kind, nvml.NVML_AGGREGATE_ECC)
        with suppress(nvml.NVMLError):
            rows = nvml.nvmlDeviceGetRemappedRows(self._device)
            yield from zip(("rows_corrected", "rows_uncorrected", "rows_pending", "rows_failed"), rows, strict=True)

    def _readings(self) -> Iterator[tuple[str, int]]:
        nvml = self._nvml
        with suppress(nvml.NVMLError):
            yield "gpu_c", nvml.nvmlDeviceGetTemperature(self._device, nvml.NVML_TEMPERATURE_GPU)
        with suppress(nvml.NVMLError):
            yield "sm_mhz", nvml.nvmlDeviceGetClockInfo(self._device, nvml.NVML_CLOCK_SM)

    def _held_back(self) -> list[str]:
        with suppress(self._nvml.NVMLError):
            bits = self._nvml.nvmlDeviceGetCurrentClocksEventReasons(self._device)
            return [name for bit, name in HELD_BACK.items() if bits & bit]
        return []

    def _new_xids(self) -> Iterator[int]:
        with suppress(self._nvml.NVMLError):  # a timeout: there are no more
            while self._xids is not None:
                yield int(self._nvml.nvmlEventSetWait_v2(self._xids, 0).eventData)
