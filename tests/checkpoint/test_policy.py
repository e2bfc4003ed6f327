"""The interval is the cheapest there is, against brute force and against Daly's exact expectation."""

import math

import numpy as np
import pytest

from pipeline.checkpoint.policy import daly_s, pieces, wait_s, young_s

HOUR_S = 3600.0


@pytest.mark.parametrize(("cost_s", "mtbf_s"), [(0.01, 24 * HOUR_S), (0.5, 6 * HOUR_S), (5.0, HOUR_S)])
def test_youngs_interval_costs_least_to_first_order(cost_s: float, mtbf_s: float) -> None:
    interval_s = np.geomspace(0.01, mtbf_s, 200_000)
    lost = cost_s / interval_s + interval_s / (2.0 * mtbf_s)
    assert young_s(cost_s, mtbf_s) == pytest.approx(interval_s[lost.argmin()], rel=1e-3)


def expected_s(interval_s: np.ndarray, cost_s: float, mtbf_s: float) -> np.ndarray:
    """Wall time for a second of work, faults during saves and restarts counted (Daly 2006, equation 20)."""
    return mtbf_s * np.expm1((interval_s + cost_s) / mtbf_s) / interval_s


@pytest.mark.parametrize("cost_s", [0.01, 10.0, 600.0, 2400.0])
def test_dalys_interval_is_the_exact_optimum_where_youngs_is_not(cost_s: float) -> None:
    mtbf_s = HOUR_S
    interval_s = np.geomspace(0.1, 2 * mtbf_s, 400_000)
    best_s = interval_s[expected_s(interval_s, cost_s, mtbf_s).argmin()]
    assert daly_s(cost_s, mtbf_s) == pytest.approx(best_s, rel=0.01)
    if cost_s >= 600.0:
        assert young_s(cost_s, mtbf_s) != pytest.approx(best_s, rel=0.1)


def test_a_save_that_takes_longer_than_faults_are_apart_is_made_once_a_fault() -> None:
    assert daly_s(3 * HOUR_S, HOUR_S) == HOUR_S


@pytest.mark.parametrize("intervals", [0.0, 0.3, 1.0, 1.41, 1.42, 2.0, 2.44, 2.46, 7.3, 100.0])
def test_a_span_is_cut_into_the_number_of_pieces_that_costs_least(intervals: float) -> None:
    count = np.arange(1, 1000)
    assert pieces(intervals) == count[((count - 1) + intervals**2 / count).argmin()]


def saves(span_s: float, interval_s: float, slot_s: float) -> list[float]:
    """When a loop that asks every `slot_s` saves, on its way to a stop at `span_s`."""
    made, last_s = [], 0.0
    for now_s in np.arange(0.0, span_s, slot_s):
        if wait_s(now_s - last_s, span_s - now_s, interval_s) <= 1e-9:
            made.append(float(now_s))
            last_s = now_s
    return made


@pytest.mark.parametrize("span_s", [100.0, 141.0, 150.0, 260.0, 1000.0])
def test_saves_on_the_way_to_a_stop_are_as_many_and_as_far_apart_as_planned(span_s: float) -> None:
    made = saves(span_s, 100.0, 0.25)
    count = pieces(span_s / 100.0)
    assert made == pytest.approx([span_s * k / count for k in range(1, count)], abs=0.6)


def test_no_save_when_the_stop_seals_sooner_than_a_save_would_pay() -> None:
    assert math.isinf(wait_s(90.0, 50.0, 100.0))
    assert math.isinf(wait_s(500.0, 0.0, 100.0)), "the stop is nearer than a seal takes"
    assert wait_s(90.0, math.inf, 100.0) == 10.0
    assert wait_s(90.0, 100.0, 100.0) == pytest.approx(5.0), "two pieces of 95 s"


def expected_cost_s(saves_s: np.ndarray, time_s: np.ndarray, rate: np.ndarray, cost_s: float) -> float:
    """Saves, and work lost to faults at `rate` [1/s]."""
    edges = np.concatenate([[time_s[0]], saves_s])
    since_s = time_s - edges[np.searchsorted(edges, time_s, side="right") - 1]
    return cost_s * len(saves_s) + float(np.trapezoid(rate * since_s, time_s))


def test_saves_evenly_spaced_in_weighted_seconds_beat_as_many_spaced_evenly_in_time() -> None:
    """Faults thirty times as often for a sixth of the orbit, as over the South Atlantic."""
    time_s = np.arange(0.0, 5700.0, 1.0)
    relative = 1.0 + 29.0 * np.maximum(1.0 - ((time_s - 2800.0) / 480.0) ** 2, 0.0)
    cost_s, mtbf_s = 0.05, 12 * HOUR_S
    weighted = np.cumsum(np.sqrt(relative))
    count = round(weighted[-1] / daly_s(cost_s, mtbf_s))
    by_weight = np.interp(weighted[-1] * np.arange(1, count) / count, weighted, time_s)
    in_time = time_s[-1] * np.arange(1, count) / count
    costs = [expected_cost_s(made, time_s, relative / mtbf_s, cost_s) for made in (by_weight, in_time)]
    assert costs[0] < 0.85 * costs[1]
    for other in (0.7, 1.4):  # and their number is right too
        fewer_or_more = round(other * count)
        made = np.interp(weighted[-1] * np.arange(1, fewer_or_more) / fewer_or_more, weighted, time_s)
        assert costs[0] < expected_cost_s(made, time_s, relative / mtbf_s, cost_s)
