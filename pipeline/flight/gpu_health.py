"""What radiation and age did to the GPU, as it counts itself: ECC errors, remapped rows, Xid errors."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from pipeline.flight.nvml import on_gpu

EVERY_S = 60.0  # by the wall's clock; six calls of some 10 µs each


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
        self._last: dict[str, int] | None = None
        self._asked_s = -EVERY_S
        self._xids: Any = None
        with suppress(nvml.NVMLError):
            xids = nvml.nvmlEventSetCreate()
            nvml.nvmlDeviceRegisterEvents(self._device, nvml.nvmlEventTypeXidCriticalError, xids)
            self._xids = xids

    def news(self) -> dict[str, Any] | None:
        """All counters, the first time and whenever one has changed, and `xid`, the codes of new Xid errors; else None.

        Asks the card at most once in `EVERY_S`. Keys: `ecc_corrected`, `ecc_uncorrected`, `rows_corrected`,
        `rows_uncorrected` (rows remapped after errors), `rows_pending`, `rows_failed` (1: a remapping waits for a
        reset, or could not be done), `xid`.
        """
        if self._clock() - self._asked_s < EVERY_S:
            return None
        self._asked_s = self._clock()
        counters, xids = dict(self._counters()), list(self._new_xids())
        if counters == (self._last or {}) and not xids:
            return None
        self._last = counters
        return counters | ({"xid": xids} if xids else {})

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

    def _new_xids(self) -> Iterator[int]:
        with suppress(self._nvml.NVMLError):  # a timeout: there are no more
            while self._xids is not None:
                yield int(self._nvml.nvmlEventSetWait_v2(self._xids, 0).eventData)
