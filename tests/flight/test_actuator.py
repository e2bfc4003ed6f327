"""The GPU is capped as asked and left as it was found. NVML is its recorded interface: no setting is touched here."""

import json
import time
from functools import partial
from pathlib import Path

import pytest
from launching import ledger
from recorded_nvml import RecordedNvml

import train
from pipeline.config import BadInput
from pipeline.config.mission import Gpu
from pipeline.flight.actuator import DutyCycle, Nvml
from pipeline.flight.clock import RealClock
from pipeline.flight.meter import NoMeter
from pipeline.plan import Greedy


def test_caps_are_set_within_what_the_card_takes_and_put_back() -> None:
    nvml = RecordedNvml()
    actuator = Nvml(Gpu(actuator="nvml", sm_mhz=1200), nvml)
    for cap_w in (350.0, 350.0, 50.0, 9000.0):
        actuator.apply(cap_w)
    actuator.apply(300.0)
    actuator.close()
    assert nvml.calls == [
        ("lock", "gpu0", 1200, 1200),
        ("limit", "gpu0", 350_000),
        ("limit", "gpu0", 200_000),
        ("limit", "gpu0", 700_000),
        ("limit", "gpu0", 300_000),
        ("limit", "gpu0", 700_000),
        ("unlock", "gpu0"),
        ("shutdown",),
    ]


@pytest.mark.parametrize("cap_w", [80.0, 150.0, 199.0])
def test_below_the_least_cap_of_a_card_pauses_bring_the_mean_power_to_it(cap_w: float) -> None:
    actuator = Nvml(Gpu(idle_w=60.0), RecordedNvml())
    assert actuator.working_w(cap_w) == 200.0
    pause_s = actuator.pause_s(10.0, cap_w)
    assert (10.0 * 200.0 + pause_s * 60.0) / (10.0 + pause_s) == pytest.approx(cap_w)


@pytest.mark.parametrize(("full_w", "cap_w"), [(350.0, 200.0), (350.0, 350.0), (150.0, 150.0)])
def test_a_cap_that_the_card_takes_or_never_reaches_needs_no_pause(full_w: float, cap_w: float) -> None:
    actuator = Nvml(Gpu(idle_w=60.0, curve=((0.0, 100.0), (1.0, full_w))), RecordedNvml())
    assert (actuator.working_w(cap_w), actuator.pause_s(10.0, cap_w)) == (cap_w, 0.0)


@pytest.mark.parametrize("idle_w", [200.0, 220.0])
def test_where_a_card_idles_at_its_least_cap_pauses_are_of_no_use(idle_w: float) -> None:
    assert Nvml(Gpu(idle_w=idle_w), RecordedNvml()).pause_s(10.0, 150.0) == 0.0


def test_a_card_never_set_is_not_touched() -> None:
    nvml = RecordedNvml()
    Nvml(Gpu(), nvml).close()
    assert nvml.calls == [("shutdown",)]


def test_no_permission_is_an_error_that_names_the_way_out() -> None:
    actuator = Nvml(Gpu(), RecordedNvml(permitted=False))
    with pytest.raises(BadInput, match=r"Insufficient Permissions.*duty-cycle"):
        actuator.apply(300.0)


def test_no_card_is_an_error_that_names_the_way_out() -> None:
    with pytest.raises(BadInput, match=r"Driver Not Loaded.*duty-cycle"):
        Nvml(Gpu(), RecordedNvml(present=False))


@pytest.mark.parametrize("cap_w", [100.0, 200.0, 349.0])
def test_pauses_bring_the_mean_power_to_the_cap(cap_w: float) -> None:
    gpu = Gpu(idle_w=60.0, curve=((0.0, 100.0), (1.0, 350.0)))
    pause_s = DutyCycle(gpu).pause_s(10.0, cap_w)
    assert (10.0 * 350.0 + pause_s * 60.0) / (10.0 + pause_s) == pytest.approx(cap_w)


def test_full_power_needs_no_pause() -> None:
    gpu = Gpu(idle_w=60.0, curve=((0.0, 100.0), (1.0, 350.0)))
    assert DutyCycle(gpu).pause_s(10.0, 350.0) == 0.0


class Steady(NoMeter):
    """The counter of a card that always draws the same."""

    def __init__(self, watts: float) -> None:
        self._watts, self._last_s = watts, time.perf_counter()

    def joules(self) -> float:  # type: ignore[override]
        since_s, self._last_s = time.perf_counter() - self._last_s, time.perf_counter()
        return self._watts * since_s


def test_work_with_pauses_is_booked_and_learnt_as_what_it_draws(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half the power is half the time at full power: the mean is the cap, and the card draws what the plan says."""
    run, pauses = tmp_path / "run", [0.0]
    sleep = RealClock.spend

    def paused(clock: RealClock, seconds: float) -> None:
        began = time.perf_counter()
        sleep(clock, seconds)
        pauses[0] += time.perf_counter() - began

    monkeypatch.setattr(RealClock, "spend", paused)
    monkeypatch.setattr("pipeline.flight.meter.make_meter", lambda backend: Steady(350.0))  # it is read after work
    monkeypatch.setattr("pipeline.flight.governor.WINDOW_S", 0.2)
    monkeypatch.setattr("pipeline.flight.governor.Greedy", partial(Greedy, cap_w=205.0))
    real = ["--mission.clock", "real", "--mission.restart_s", "0", "--gpu.actuator", "duty-cycle"]
    short = ["--budget.orbits", "null", "--budget.steps", "400", "--train.eval_batches", "2"]
    assert train.main(["--config", str(tiny), "--run_dir", str(run), *real, *short, "--json"]) == 0
    (done,) = ledger(run, "done")
    saved = json.loads((run / "checkpoints" / "400" / "meta.json").read_text())
    assert pauses[0] == pytest.approx(0.5 * done["train_s"], rel=0.05)
    gpu_j = 350.0 * (done["train_s"] - pauses[0]) + 60.0 * pauses[0]
    host_w, efficiency = 70.0, 0.93  # of the satellite
    assert done["train_wh"] * 3600.0 == pytest.approx((gpu_j + host_w * done["train_s"]) / efficiency, rel=0.05)
    assert saved["progress"]["draw"] == pytest.approx(1.0, abs=0.05)
