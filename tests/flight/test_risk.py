"""Weighted seconds along a real track."""

from itertools import pairwise

import numpy as np
import pytest
from shipped import orbit

from pipeline.flight.risk import Risk
from pipeline.orbit import Timeline, track
from pipeline.orbit.timeline import DAY_S


@pytest.fixture(scope="module")
def timeline() -> Timeline:
    return Timeline(track(orbit("starcloud-1")))


@pytest.mark.parametrize(
    "span", [(0.0, 5000.0), (12_345.6, 12_399.9), (DAY_S - 700.0, DAY_S + 900.0), (0.0, 2.5 * DAY_S)]
)
def test_weighted_seconds_are_the_integral_of_the_root_of_the_hazard(
    timeline: Timeline, span: tuple[float, float]
) -> None:
    time_s = np.linspace(*span, 20_001)
    sky = timeline.span(span[0], span[1] - span[0])
    weight = np.sqrt(np.interp(time_s, sky.time_s, sky.hazard))
    between = Risk(timeline).between(*span)
    assert between == pytest.approx(float(np.trapezoid(weight, time_s)), rel=2e-3)
    assert between >= span[1] - span[0] - 1e-6


def test_spans_add_up_and_an_empty_one_is_nothing(timeline: Timeline) -> None:
    risk, edges = Risk(timeline), [100.0, 3000.5, DAY_S, DAY_S + 1.0, 2 * DAY_S + 77.7]
    parts = sum(risk.between(a, b) for a, b in pairwise(edges))
    assert parts == pytest.approx(risk.between(edges[0], edges[-1]))
    assert risk.between(500.0, 500.0) == risk.between(500.0, 400.0) == 0.0
