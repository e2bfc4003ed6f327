"""When a budget will be spent, whatever it is counted in."""

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.config import BadInput, Config, load
from pipeline.flight.mission import mission
from pipeline.ground import plan_budget
from pipeline.ground.plan_budget import duration_s, finish, finish_s, limits, spending
from pipeline.plan import Outcomes, Scenario

CONFIGS = Path(__file__).parents[2] / "configs"
DAY_S = 86400.0
STARVED = ["--satellite", str(CONFIGS / "satellites" / "starved.yaml")]


def asked(*overrides: str) -> tuple[Config, Scenario]:
    config = load(["--config", str(CONFIGS / "demo.yaml"), "--budget.orbits", "null", *STARVED, *overrides])
    return config, mission(config)


def answered(*overrides: str) -> tuple[dict[str, Any], Outcomes | None, float]:
    config, made = asked(*overrides)
    limit = limits(config, made)
    spent = spending(config, made, limit) if limit.counted else None
    seconds = duration_s(limit, spent, None)
    return finish(made, finish_s(limit, spent, seconds)), spent, seconds


@pytest.mark.parametrize(
    ("overrides", "counted", "amount"),
    [
        (["--budget.steps", "3000"], "steps", 3000.0),
        (["--budget.tokens", "2304000"], "steps", 3000.0),  # 768 tokens a step
        (["--budget.tokens", "2303999"], "steps", 3000.0),
        (["--budget.wh", "3000"], "train_wh", 3000.0),
        (["--budget.wh", "3000", "--budget.steps", "1000000", "--budget.orbits", "100"], "train_wh", 3000.0),
    ],
)
def test_what_is_counted_is_flown_until_it_is_spent(overrides: list[str], counted: str, amount: float) -> None:
    answer, spent, seconds = answered(*overrides)
    assert spent is not None
    assert spent.spent.all()
    np.testing.assert_allclose(getattr(spent, counted), amount, rtol=1e-9)
    moments = answer["finish_s"]
    assert 0.3 * DAY_S < moments["p5"] < moments["p50"] < moments["p95"] < 3.0 * DAY_S
    assert moments["p5"] < seconds == pytest.approx(moments["p50"], rel=0.01)
    # The date is the moment, counted from the epoch of the elements.
    begins = asked()[1].timeline.track.utc(0.0)
    for percent, date in answer["finish"].items():
        since_s = (datetime.fromisoformat(date) - begins).total_seconds()
        assert since_s == pytest.approx(moments[percent], abs=1.0)


def test_orbits_and_a_date_end_at_a_moment() -> None:
    period_s = asked()[1].timeline.track.period_s
    orbits, spent, seconds = answered("--budget.orbits", "3")
    assert spent is None
    assert set(orbits["finish_s"].values()) == {seconds} == {3.0 * period_s}
    date, _, _ = answered("--budget.until", "2026-07-26T16:00Z", "--budget.orbits", "300")
    assert set(date["finish"].values()) == {"2026-07-26T16:00:00+00:00"}


def test_the_first_limit_reached_ends_it() -> None:
    both, spent, _ = answered("--budget.steps", "1000000", "--budget.orbits", "2")
    assert spent is not None
    assert not spent.spent.any()
    period_s = asked()[1].timeline.track.period_s
    assert set(both["finish_s"].values()) == {2.0 * period_s}


def test_without_a_budget_a_day_is_planned() -> None:
    answer, _, seconds = answered()
    assert seconds == answer["finish_s"]["p95"] == DAY_S


def test_a_budget_that_is_not_spent_within_the_longest_plan_has_no_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_budget, "LONGEST_DAYS", 0.5)
    answer, spent, seconds = answered("--budget.steps", "1000000")
    assert spent is not None
    assert np.all(spent.end_s == 0.5 * DAY_S)
    assert set(answer["finish"].values()) == set(answer["finish_s"].values()) == {None}
    assert seconds == 0.5 * DAY_S


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["--budget.until", "2020-01-01T00:00Z"], "budget.until: 2020-01-01T00:00:00+00:00: the mission begins"),
        (["--budget.until", "2030-01-01T00:00Z"], "budget.until: ends after 1,255 days"),
        (["--budget.orbits", "5000", "--budget.until", "2040-01-01"], "budget.orbits: ends after 329 days"),
    ],
)
def test_a_moment_that_cannot_be_planned_for_is_named(overrides: list[str], words: str) -> None:
    with pytest.raises(BadInput) as caught:
        answered(*overrides)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
