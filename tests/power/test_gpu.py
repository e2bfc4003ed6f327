"""What a watt buys."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
import shipped
from hypothesis import given

from pipeline.power import GpuCurve

CURVES = {name: GpuCurve(shipped.gpu(name)) for name in shipped.GPUS}
shares = st.floats(0.0, 1.0)
curves = st.sampled_from(shipped.GPUS).map(CURVES.get)


def power_w(curve: GpuCurve, share: float) -> float:
    """Power while training at a share of the full throughput [W]."""
    return float(np.interp(share, curve.shares, curve.watts))


@given(curves, shares)
def test_share_and_power_are_each_others_inverse(curve: GpuCurve, share: float) -> None:
    assert curve.share(power_w(curve, share)) == pytest.approx(share, abs=1e-12)


@given(curves, st.floats(0.0, 1000.0))
def test_between_its_points_the_curve_is_a_line(curve: GpuCurve, cap_w: float) -> None:
    for watts in (cap_w, *curve.watts.tolist()):
        assert curve.share(watts) == np.interp(watts, curve.watts, curve.shares, left=0.0)


@given(curves, shares, shares)
def test_more_power_never_buys_less(curve: GpuCurve, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert power_w(curve, low) <= power_w(curve, high)
    caps_w = power_w(curve, low), power_w(curve, high)
    assert curve.step_seconds(1e15, caps_w[0]) >= curve.step_seconds(1e15, caps_w[1])


@pytest.mark.parametrize("name", [name for name in shipped.GPUS if shipped.gpu(name).provenance == "modelled"])
def test_the_curve_is_the_law_that_its_comment_names(name: str) -> None:
    curve = CURVES[name]
    full_w, dynamic = (350.0, (60.0, 75.0, 215.0)) if name == "h100-pcie" else (700.0, (120.0, 150.0, 430.0))
    assert curve.full_w == full_w
    law = [dynamic[0] + dynamic[1] * f + dynamic[2] * f**3 for f in curve.shares]
    np.testing.assert_allclose(curve.watts, law, atol=0.02)


@pytest.mark.parametrize("name", shipped.GPUS)
def test_a_step_takes_its_arithmetic_and_its_overhead(name: str) -> None:
    curve, gpu = CURVES[name], shipped.gpu(name)
    full_s = 1e15 / (gpu.peak_tflops * 1e12 * gpu.mfu)
    assert curve.step_seconds(1e15) == pytest.approx(full_s + gpu.step_overhead_s)
    assert curve.step_seconds(1e15, curve.full_w) == curve.step_seconds(1e15)
    assert curve.step_seconds(1e15, power_w(curve, 0.5)) == pytest.approx(2.0 * full_s + gpu.step_overhead_s)
    assert curve.step_seconds(1e15, 10.0 * curve.full_w) == curve.step_seconds(1e15), "no more than full power"


@pytest.mark.parametrize("name", shipped.GPUS)
def test_a_cap_at_or_below_the_static_floor_stops_the_gpu(name: str) -> None:
    curve = CURVES[name]
    for cap_w in (0.0, 0.5 * curve.watts[0], curve.watts[0]):
        assert curve.share(cap_w) == 0.0
        assert curve.step_seconds(1e15, cap_w) == math.inf
