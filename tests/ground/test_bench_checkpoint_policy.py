"""The simulated missions: every second of work is kept, lost or spent, and the policies meet the same faults."""

import json
import math

import numpy as np
import pytest

from pipeline.config import BadInput
from pipeline.ground.bench import main
from pipeline.ground.bench.checkpoint_policy import OURS, RANDOM, compare, reference
from pipeline.ground.bench.outages import Arm, Costs, draw_faults, fly
from pipeline.orbit import Environment

COSTS = Costs(blocking_s=0.5, seal_s=3.0, restart_s=60.0, bytes=1e6)
WINDOWS = [(0.0, 1000.0), (2000.0, 3000.0)]


def every(interval_s: float) -> Arm:
    return Arm(lambda moment: moment.begun_s + interval_s - moment.now_s, False)


NEVER, SEALED = every(math.inf), Arm(lambda moment: math.inf, True)


def test_without_a_save_everything_is_lost_and_with_one_before_each_stop_nothing() -> None:
    lost = fly(NEVER, WINDOWS, np.array([]), COSTS, 10.0)
    assert (lost.kept_s, lost.saves, lost.lost_to_stops_s) == (0.0, 0, [1000.0, 1000.0])
    kept = fly(SEALED, WINDOWS, np.array([]), COSTS, 10.0)
    assert (kept.kept_s, kept.saves, kept.lost_to_stops_s) == (2 * 997.0, 2, [0.0, 0.0])
    assert lost.available_s == kept.available_s == 2000.0


def test_a_fault_loses_what_is_not_sealed_yet_and_the_restart() -> None:
    # Saves begin at 100, 200 … and each blocks half a second. The one begun at 500 is sealed at 503.
    before = fly(every(100.0), [(0.0, 520.0)], np.array([502.0]), COSTS, 10.0)
    assert before.lost_to_faults_s == [pytest.approx(101.0)]
    after = fly(every(100.0), [(0.0, 520.0)], np.array([504.0]), COSTS, 10.0)
    assert after.lost_to_faults_s == [pytest.approx(3.5)]
    assert (before.kept_s, after.kept_s) == (pytest.approx(400.0 - 3 * 0.5), pytest.approx(500.0 - 4 * 0.5))


def test_a_fault_while_the_gpu_is_off_or_down_loses_nothing() -> None:
    flown = fly(SEALED, WINDOWS, np.array([500.0, 530.0, 1500.0, 1999.0]), COSTS, 10.0)
    assert flown.lost_to_faults_s == [500.0]
    assert flown.kept_s == pytest.approx(1000.0 - 560.0 - 3.0 + 997.0)


def test_a_fault_while_the_stops_own_save_is_under_way_loses_the_window() -> None:
    flown = fly(SEALED, WINDOWS, np.array([998.0]), COSTS, 10.0)
    assert flown.lost_to_faults_s == [pytest.approx(997.0)]
    assert flown.kept_s == pytest.approx(997.0)


@pytest.mark.parametrize("arm", [every(70.0), Arm(every(70.0).policy, True)], ids=["cut off", "sealed"])
def test_every_second_of_work_is_kept_lost_or_spent(arm: Arm) -> None:
    dice = np.random.default_rng(5)
    for _ in range(20):
        faults_s = np.sort(dice.uniform(0.0, 3000.0, dice.poisson(3)))
        flown = fly(arm, WINDOWS, faults_s, COSTS, 10.0)
        lost = sum(flown.lost_to_faults_s) + sum(flown.lost_to_stops_s)
        overhead = flown.available_s - flown.kept_s - lost
        down = 60.0 * len(flown.lost_to_faults_s)
        assert overhead <= down + 0.5 * flown.saves + 3.0 * 2 * arm.seals_before_stops + 1e-9
        assert overhead >= 0.5 * (flown.saves - 2) - 1e-9


def test_a_budget_spaces_the_saves_but_for_those_before_stops() -> None:
    arm = Arm(every(10.0).policy, True, budget_bytes_day=100 * COSTS.bytes)
    flown = fly(arm, [(k * 1000.0, k * 1000.0 + 900.0) for k in range(86)], np.array([]), COSTS, 10.0)
    assert 86 <= flown.saves <= 105
    assert fly(every(10.0), WINDOWS, np.array([]), COSTS, 10.0).saves > 190


def test_faults_follow_the_hazard_along_the_track() -> None:
    time_s = np.arange(0.0, 1e6, 10.0)
    hazard = np.where((time_s // 1e5) % 2 == 0, 1.0, 9.0)
    ones = np.ones_like(time_s)
    sky = Environment(time_s, ones, ones, ones, hazard)
    faults_s = np.concatenate([draw_faults(sky, 1e4, np.random.default_rng(seed)) for seed in range(20)])
    quiet = float(np.mean((faults_s // 1e5) % 2 == 0))
    assert quiet == pytest.approx(0.1, abs=0.01)
    assert len(faults_s) / 20 == pytest.approx(1e6 / 1e4 * 5.0, rel=0.05)


def test_fewer_bytes_at_no_lower_goodput_under_the_same_faults() -> None:
    answer = compare(reference(), Costs(0.01, 0.3, 60.0, 130e6), orbits=10, seeds=5, budget_bytes_day=50e9)
    assert answer["times_fewer_bytes"] >= 2.5
    rows = answer["policies"]
    assert rows[OURS]["goodput"] >= rows[RANDOM]["goodput"]
    assert rows[f"{OURS}, 50 GB a day"]["gb_day"] <= 51
    assert answer["holds"]
    assert rows[OURS]["lost_to_stops_s"] == {"p50": 0.0, "p99": 0.0}


def test_the_verb_prints_json_or_a_table_and_refuses_nonsense(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["checkpoint-policy", "--orbits", "2", "--seeds", "2", "--json"]) == 0
    assert "modelled" in json.loads(capsys.readouterr().out)["provenance"]
    assert main(["checkpoint-policy", "--orbits", "2", "--seeds", "2"]) == 0
    assert "times fewer bytes" in capsys.readouterr().out
    with pytest.raises(BadInput, match="--seeds: '0' is not a whole number of at least 1"):
        main(["checkpoint-policy", "--seeds", "0"])
