"""What the GPU counts reaches the ledger once, and nothing is asked of a machine without one. NVML is its recorded
interface."""

from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.flight.gpu_health import EVERY_S, GpuHealth, gpu_health


class RecordedNvml:
    """The calls of pynvml that count errors, on a card whose counters the test sets."""

    class NVMLError(Exception):
        pass

    NVML_MEMORY_ERROR_TYPE_CORRECTED, NVML_MEMORY_ERROR_TYPE_UNCORRECTED = 0, 1
    NVML_AGGREGATE_ECC = 1
    NVML_TEMPERATURE_GPU, NVML_CLOCK_SM = 0, 1
    nvmlEventTypeXidCriticalError = 8

    def __init__(self, present: bool = True, ecc: bool = True, events: bool = True):
        self.errors, self.rows, self.xids, self.asked = [0, 0], (0, 0, 0, 0), [], 0
        self._present, self._ecc, self._events = present, ecc, events
        self.closed: list[str] = []
        self.reasons = 0x1  # idle, which holds nothing back

    def nvmlDeviceGetTemperature(self, device: str, sensor: int) -> int:
        assert sensor == self.NVML_TEMPERATURE_GPU
        return 61

    def nvmlDeviceGetClockInfo(self, device: str, clock: int) -> int:
        assert clock == self.NVML_CLOCK_SM
        return 1755

    def nvmlDeviceGetCurrentClocksEventReasons(self, device: str) -> int:
        return self.reasons

    def nvmlInit(self) -> None:
        if not self._present:
            raise self.NVMLError("Driver Not Loaded")

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        return f"gpu{index}"

    def nvmlDeviceGetTotalEccErrors(self, device: str, kind: int, counter: int) -> int:
        self.asked += 1
        if not self._ecc:
            raise self.NVMLError("Not Supported")
        assert counter == self.NVML_AGGREGATE_ECC
        return self.errors[kind]

    def nvmlDeviceGetRemappedRows(self, device: str) -> tuple[int, int, int, int]:
        if not self._ecc:
            raise self.NVMLError("Not Supported")
        return self.rows

    def nvmlEventSetCreate(self) -> str:
        return "events"

    def nvmlDeviceRegisterEvents(self, device: str, types: int, events: str) -> None:
        if not self._events:
            raise self.NVMLError("Not Supported")
        assert types == self.nvmlEventTypeXidCriticalError

    def nvmlEventSetWait_v2(self, events: str, timeout_ms: int) -> Any:
        assert timeout_ms == 0, "the train loop waits for nothing"
        if not self.xids:
            raise self.NVMLError("Timeout")
        return SimpleNamespace(eventType=8, eventData=self.xids.pop(0))

    def nvmlEventSetFree(self, events: str) -> None:
        self.closed.append("events")

    def nvmlShutdown(self) -> None:
        self.closed.append("nvml")


@pytest.fixture
def now() -> list[float]:
    return [1000.0]


def test_all_counters_are_told_first_and_then_only_what_changes(now: list[float]) -> None:
    nvml = RecordedNvml()
    health = GpuHealth(nvml, lambda: now[0])
    first = {"ecc_corrected": 0, "ecc_uncorrected": 0}
    first |= {"rows_corrected": 0, "rows_uncorrected": 0, "rows_pending": 0, "rows_failed": 0}
    first |= {"gpu_c": 61, "sm_mhz": 1755, "held_back": []}
    assert health.news() == first
    now[0] += EVERY_S
    assert health.news() is None
    nvml.errors, nvml.rows = [17, 1], (0, 1, 1, 0)
    now[0] += EVERY_S
    news = health.news()
    assert news == first | {"ecc_corrected": 17, "ecc_uncorrected": 1, "rows_uncorrected": 1, "rows_pending": 1}
    now[0] += EVERY_S
    assert health.news() is None
    nvml.reasons = 0x4 | 0x20
    now[0] += EVERY_S
    news = health.news()
    assert news is not None
    assert news["held_back"] == ["power cap", "heat, by driver"]
    health.close()
    assert nvml.closed == ["events", "nvml"]


def test_each_xid_error_is_told_once(now: list[float]) -> None:
    nvml = RecordedNvml()
    health = GpuHealth(nvml, lambda: now[0])
    health.news()
    nvml.xids = [63, 94]
    now[0] += EVERY_S
    news = health.news()
    assert news is not None
    assert news["xid"] == [63, 94]
    now[0] += EVERY_S
    assert health.news() is None


def test_the_card_is_not_asked_at_every_chunk(now: list[float]) -> None:
    nvml = RecordedNvml()
    health = GpuHealth(nvml, lambda: now[0])
    for _ in range(100):
        health.news()
        now[0] += EVERY_S / 100.1
    assert nvml.asked == 2


def test_a_card_without_ecc_or_events_tells_what_it_has(now: list[float]) -> None:
    assert GpuHealth(RecordedNvml(ecc=False), lambda: now[0]).news() is None
    nvml = RecordedNvml(events=False)
    nvml.xids = [63]
    news = GpuHealth(nvml, lambda: now[0]).news()
    assert news is not None
    assert "xid" not in news


def test_without_a_gpu_there_is_nothing_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    assert gpu_health("cpu") is None
    monkeypatch.setitem(sys.modules, "pynvml", RecordedNvml(present=False))
    assert gpu_health("gpu") is None
    monkeypatch.setitem(sys.modules, "pynvml", None)  # as if it were not installed
    assert gpu_health("gpu") is None
    monkeypatch.setitem(sys.modules, "pynvml", RecordedNvml())
    assert gpu_health("gpu") is not None
