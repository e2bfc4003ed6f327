"""The GPU's own energy counter, as NVML gives it."""

from pathlib import Path

import pytest
from launching import ledger
from test_actuator import Steady
from test_mission import mission

import train
from pipeline.flight.governor import PACE, WINDOW_S
from pipeline.flight.meter import NoMeter, NvmlMeter, make_meter


class Nvml:
    """The calls that a meter makes, with a counter that a test sets."""

    class NVMLError(Exception):
        pass

    def __init__(self) -> None:
        self.millijoules: int | None = 5_000
        self.open = False

    def nvmlInit(self) -> None:
        self.open = True

    def nvmlShutdown(self) -> None:
        self.open = False

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetTotalEnergyConsumption(self, device: int) -> int:
        if self.millijoules is None:
            raise self.NVMLError("Not Supported")
        return self.millijoules


def test_it_counts_from_call_to_call() -> None:
    nvml = Nvml()
    meter = NvmlMeter(nvml)
    nvml.millijoules = 12_500
    assert meter.joules() == pytest.approx(7.5)
    assert meter.joules() == 0.0
    meter.close()
    assert not nvml.open


def test_a_counter_that_fails_or_begins_again_counts_nothing() -> None:
    nvml = Nvml()
    meter = NvmlMeter(nvml)
    nvml.millijoules = 100
    assert meter.joules() is None
    nvml.millijoules = None
    assert meter.joules() is None


def test_without_a_gpu_nothing_is_counted() -> None:
    assert isinstance(make_meter("cpu"), NoMeter)
    assert make_meter("cpu").joules() is None


def test_the_draw_is_learnt_from_each_window_alone() -> None:
    _, _, governor = mission("--mission.clock", "real")
    for joules in (350.0, 700.0):
        governor.report(1.0, WINDOW_S, 350.0, joules * WINDOW_S)
    assert governor.draw == pytest.approx(1.0 + PACE)


def test_a_card_that_draws_more_than_commanded_is_booked_as_measured(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunks as the meter counted them, validations by the draw that is learnt from them."""
    monkeypatch.setattr("pipeline.flight.meter.make_meter", lambda backend: Steady(420.0))
    monkeypatch.setattr("pipeline.flight.governor.WINDOW_S", 0.1)
    monkeypatch.setattr("pipeline.flight.governor.PACE", 1.0)
    real = ["--config", str(tiny), "--mission.clock", "real", "--mission.restart_s", "0"]
    short = ["--budget.orbits", "null", "--budget.steps", "150", "--run_dir", str(tmp_path / "run")]
    assert train.main([*real, *short, "--json"]) == 0
    (done,) = ledger(tmp_path / "run", "done")
    host_w, efficiency = 70.0, 0.93  # of the satellite
    assert done["train_wh"] * 3600.0 / done["train_s"] == pytest.approx((420.0 + host_w) / efficiency, rel=0.03)
