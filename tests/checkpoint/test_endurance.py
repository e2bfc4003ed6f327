"""Optional saves stay within a day's bytes, whatever the mandatory ones take."""

import random
from itertools import pairwise

import pytest
from checkpoint_states import like, state_of

from pipeline.checkpoint import Tag
from pipeline.checkpoint.arrays import nbytes
from pipeline.checkpoint.endurance import BURST, DAY_S, Allowance

GB = 1e9


def written(
    allowance: Allowance, size: float, days: float, every_s: float, must: float = 0.0
) -> list[tuple[float, bool]]:
    """(time, whether it had to be) of saves by a job that would save every `every_s`; a share `must` has to be."""
    dice, made = random.Random(1), []
    for tick in range(int(days * DAY_S / every_s)):
        now_s, has_to = tick * every_s, dice.random() < must
        if has_to or allowance.wait_s(size, now_s) == 0.0:
            allowance = allowance.charge(size, now_s)
            made.append((now_s, has_to))
    return made


def most_in_a_day(times_s: list[float]) -> int:
    return max(sum(1 for other in times_s if start <= other < start + DAY_S) for start in times_s)


@pytest.mark.parametrize("size", [0.01 * GB, 0.13 * GB, 0.6 * GB])
def test_optional_saves_stay_within_the_days_budget_and_use_it(size: float) -> None:
    made = written(Allowance.full(10 * GB, 0.0), size, days=4, every_s=41.0)
    count = most_in_a_day([time_s for time_s, _ in made])
    assert count * size <= 10 * GB
    assert count * size >= 0.9 * 10 * GB
    gaps = [b - a for (a, _), (b, _) in pairwise(made) if a > DAY_S]
    assert max(gaps) <= min(gaps) + 41.0, "spent evenly, not all in the morning"


def test_saves_before_stops_go_on_and_the_optional_ones_make_room_for_them() -> None:
    made = written(Allowance.full(10 * GB, 0.0), 0.13 * GB, days=4, every_s=41.0, must=0.02)
    assert most_in_a_day([time_s for time_s, _ in made]) * 0.13 <= 10.0 + 0.13
    dice = random.Random(1)
    assert sum(has_to for _, has_to in made) == sum(dice.random() < 0.02 for _ in range(int(4 * DAY_S / 41.0)))


def test_more_saves_before_stops_than_the_budget_has_leave_no_optional_ones() -> None:
    made = written(Allowance.full(1 * GB, 0.0), 0.13 * GB, days=2, every_s=41.0, must=0.1)
    assert sum(not has_to for time_s, has_to in made if time_s > 0.2 * DAY_S) == 0


def test_one_save_larger_than_the_burst_is_still_made_at_its_rate() -> None:
    made = written(Allowance.full(1 * GB, 0.0), 0.25 * GB, days=4, every_s=60.0)
    assert 0.25 * GB > BURST * GB
    assert most_in_a_day([time_s for time_s, _ in made if time_s > DAY_S]) in (3, 4)


def test_credit_neither_grows_backwards_nor_beyond_the_burst() -> None:
    allowance = Allowance.full(10 * GB, 1000.0).charge(0.5 * GB, 1000.0)
    assert allowance.at(0.0).credit_bytes == allowance.credit_bytes
    assert allowance.at(1e9).credit_bytes == BURST * 10 * GB
    assert allowance.wait_s(0.5 * GB, 1000.0) == pytest.approx((0.5 - 0.125) / (15 / 16 * 10) * DAY_S)


def test_a_store_refuses_only_optional_saves_says_so_once_and_remembers_over_a_restart(open_store, events) -> None:
    size = nbytes(state_of(1, 8))
    budget = {"write_budget_gb_day": 8 * size / GB}  # three hours and 12 minutes each
    store = open_store(**budget)
    assert store.affords(0.0)
    assert store.save(1, state_of(1, 8), {}, tag=Tag(mission_s=0.0))
    assert store.wait(60)
    assert [store.affords(time_s) for time_s in (600.0, 1200.0)] == [False, False]
    assert store.save(2, state_of(2, 8), {}, urgent=True, tag=Tag(mission_s=1800.0))  # before a stop
    assert store.wait(60)
    (said,) = events.of("save_skipped")
    assert said["reason"].startswith("checkpoint.write_budget_gb_day: ")
    store = open_store(**budget)
    store.restore(like(state_of(0, 8)))
    assert store.save(2, state_of(2, 8), {}, tag=Tag(mission_s=1800.0))  # sealed already: costs nothing
    assert not store.affords(2.5 * DAY_S / 8)
    assert store.affords(2.8 * DAY_S / 8)
    assert open_store().affords(1800.0), "without a budget all are"
