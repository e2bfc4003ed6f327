"""Saves come at the best interval, more often over the South Atlantic, and not just before a planned stop."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from shipped import orbit

from pipeline.checkpoint.policy import daly_s
from pipeline.config.tree import Checkpoint
from pipeline.flight.clock import SimulatedClock
from pipeline.flight.risk import Risk
from pipeline.flight.save_timer import FIRST_S, SaveTimer
from pipeline.orbit import Timeline, track


@pytest.fixture(scope="module")
def risk() -> Risk:
    return Risk(Timeline(track(orbit("starcloud-1"))))


@pytest.fixture(scope="module")
def quiet_s(risk: Risk) -> float:
    """A mission second from which half an hour passes outside the anomaly."""
    starts = np.arange(0.0, 86400.0, 60.0)
    return float(next(s for s in starts if risk.between(s, s + 1800.0) == pytest.approx(1800.0)))


class Flight:
    """A timer with a clock that is moved by hand; `pace`: mission seconds for a second of the wall."""

    def __init__(self, risk: Risk, start_s: float, pace: float = 1.0, **config: float):
        self.clock, self.pace, self.wall_s = SimulatedClock(start_s), pace, 500.0
        self.store = SimpleNamespace(blocking_s=0.01, time_to_seal_s=0.3, wants_save=False)
        self.timer = SaveTimer(Checkpoint(**config), self.store, risk, self.clock, lambda: self.wall_s)

    def pass_(self, seconds: float) -> None:
        self.clock.spend(seconds)
        self.wall_s += seconds / self.pace

    def saves(self, until_s: float, stop_s: float | None, chunk_s: float = 1.0) -> list[float]:
        """Mission times of the saves of a loop that works in chunks."""
        made = []
        while self.clock.now() < until_s:
            self.timer.work_begins()
            self.pass_(chunk_s)
            if self.timer.wait_s(stop_s) <= 0.0:
                made.append(self.clock.now())
                self.timer.tried(True)
        return made


def test_in_the_quiet_part_saves_are_a_best_interval_apart(risk: Risk, quiet_s: float) -> None:
    made = Flight(risk, quiet_s, mtbf_s=43200.0).saves(quiet_s + 600.0, None)
    gaps = np.diff([quiet_s, *made])
    assert gaps == pytest.approx(math.ceil(daly_s(0.01, 43200.0)), abs=1.0)


def test_over_the_south_atlantic_they_are_closer(risk: Risk) -> None:
    times = np.arange(0.0, 86_000.0, 20.0)
    weight = np.array([risk.between(t, t + 10.0) / 10.0 for t in times])
    start_s = float(times[weight.argmax()]) - 60.0
    flight = Flight(risk, start_s)
    gaps = np.diff(flight.saves(start_s + 120.0, None))
    assert gaps.mean() == pytest.approx(daly_s(0.01, 86400.0) / weight.max(), abs=1.0)
    assert weight.max() > 4.0


@pytest.mark.parametrize("span_s", [50.0, 70.0, 150.0, 400.0])
def test_before_a_planned_stop_the_last_save_is_left_to_it(risk: Risk, quiet_s: float, span_s: float) -> None:
    """Within √2 best intervals of the stop there is none at all, and the pieces before it are equal."""
    stop_s, best_s = quiet_s + span_s, daly_s(0.01, 86400.0)
    made = Flight(risk, quiet_s).saves(stop_s, stop_s, chunk_s=0.25)
    pieces = np.diff([quiet_s, *made, stop_s])
    assert bool(made) == (span_s > math.sqrt(2.0) * best_s)
    assert pieces == pytest.approx(pieces.mean(), abs=1.0)
    assert pieces.mean() < 1.42 * best_s


def test_a_save_that_would_not_be_sealed_before_the_stop_is_not_begun(risk: Risk, quiet_s: float) -> None:
    flight = Flight(risk, quiet_s)
    flight.store.time_to_seal_s = 30.0
    flight.timer.work_begins()
    flight.pass_(100.0)
    assert flight.timer.wait_s(flight.clock.now() + 29.0) > 0.0
    assert flight.timer.wait_s(flight.clock.now() + 300.0) <= 0.0


def test_the_longest_interval_holds_by_either_clock_whatever_a_save_costs(risk: Risk, quiet_s: float) -> None:
    for pace in (1.0, 200.0, 0.01):
        flight = Flight(risk, quiet_s, pace, interval_s=300.0)
        flight.store.blocking_s = 100.0
        (first, *_) = flight.saves(quiet_s + 400.0, quiet_s + 1e5)
        assert first - quiet_s == pytest.approx(300.0 * min(1.0, pace), abs=1.0)


def test_on_the_simulated_clock_what_is_measured_in_real_seconds_is_compared_with_real_seconds(
    risk: Risk, quiet_s: float
) -> None:
    flight = Flight(risk, quiet_s, pace=20.0, interval_s=1e5)
    made = flight.saves(quiet_s + 1700.0, None, chunk_s=5.0)
    assert np.diff(made) == pytest.approx(20.0 * daly_s(0.01, 86400.0), abs=5.0)


def test_a_hold_puts_nothing_at_risk(risk: Risk, quiet_s: float) -> None:
    flight = Flight(risk, quiet_s)
    flight.saves(quiet_s + 50.0, None)
    flight.timer.tried(True)
    flight.pass_(2000.0)
    assert flight.timer.wait_s(None) > 0.0
    flight.timer.work_begins()
    flight.pass_(1.0)
    assert flight.timer.wait_s(None) > 0.0


def test_a_failed_save_is_tried_again_at_the_next_interval_and_not_at_every_chunk(risk: Risk, quiet_s: float) -> None:
    flight, tries = Flight(risk, quiet_s), []
    while flight.clock.now() < quiet_s + 300.0:
        flight.timer.work_begins()
        flight.pass_(1.0)
        if flight.timer.wait_s(None) <= 0.0:
            tries.append(flight.clock.now())
            flight.timer.tried(False)
    assert np.diff(tries) == pytest.approx(daly_s(0.01, 86400.0), abs=1.0)


def test_the_first_save_is_made_early_and_one_that_was_lost_at_once(risk: Risk, quiet_s: float) -> None:
    flight = Flight(risk, quiet_s)
    flight.store.blocking_s = flight.store.time_to_seal_s = None
    assert flight.saves(quiet_s + 100.0, None)[0] - quiet_s == pytest.approx(FIRST_S, abs=1.0)
    flight.store.blocking_s, flight.store.time_to_seal_s = 100.0, 100.0
    flight.timer.work_begins()
    flight.pass_(1.0)
    assert flight.timer.wait_s(None) > 100.0
    flight.store.wants_save = True
    assert flight.timer.wait_s(None) <= 0.0


def test_asking_takes_less_than_a_fifth_of_a_millisecond(risk: Risk, quiet_s: float) -> None:
    import time

    flight = Flight(risk, quiet_s)
    flight.timer.work_begins()
    flight.pass_(10.0)
    flight.timer.wait_s(quiet_s + 1000.0)
    took = []
    for _ in range(200):
        began = time.perf_counter()
        flight.timer.wait_s(quiet_s + 1000.0)
        took.append(time.perf_counter() - began)
    assert sorted(took)[100] < 200e-6
