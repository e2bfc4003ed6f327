"""The GPU is capped as asked and left as it was found. NVML is its recorded interface: no setting is touched here."""

import pytest
from recorded_nvml import RecordedNvml

from pipeline.config import BadInput
from pipeline.config.mission import Gpu
from pipeline.flight.actuator import DutyCycle, Nvml


def test_caps_are_set_within_what_the_card_takes_and_put_back() -> None:
    nvml = RecordedNvml()
    actuator = Nvml(Gpu(sm_mhz=1200), nvml)
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
