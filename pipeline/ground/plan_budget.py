"""What a budget asks of a plan: how far it must look ahead, and when the budget will be spent."""

import math
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from pipeline.config import BadInput, Config
from pipeline.orbit.timeline import DAY_S
from pipeline.plan import Outcomes, Planner, Scenario, outcomes
from pipeline.power import fresh

LONGEST_DAYS = 60.0


class Limits(NamedTuple):
    """Infinite where the budget sets none. Steps and energy are counted; orbits and a date end at a moment."""

    steps: float
    wh: float
    end_s: float  # mission time
    ends_by: str  # the key that sets it

    @property
    def counted(self) -> bool:
        return min(self.steps, self.wh) < math.inf


def limits(config: Config, made: Scenario) -> Limits:
    """The limits of a configured budget. Validation, whose corpus has not been read, is left out.

    Raises:
        BadInput: `budget.until` lies before the mission.
    """
    budget, track = config.budget, made.timeline.track
    steps, end_s = budget.steps or math.inf, {"": math.inf}
    if budget.tokens:
        steps = min(steps, math.ceil(budget.tokens / config.tokens_per_step))
    if budget.orbits:
        end_s["orbits"] = budget.orbits * track.period_s
    if until := budget.until:
        end_s["until"] = track.seconds(until)
        if end_s["until"] <= 0.0:
            begins = track.utc(0.0).isoformat(timespec="minutes")
            raise BadInput(f"budget.until: {until.isoformat()}: the mission begins at {begins}; give a later date")
    ends_by = min(end_s, key=lambda key: end_s[key])
    return Limits(steps, budget.wh or math.inf, end_s[ends_by], ends_by)


def spending(config: Config, made: Scenario, limit: Limits) -> Outcomes:
    """The optimal plan flown under errors until a counted budget is spent, for `LONGEST_DAYS` at most."""
    horizon_s = min(limit.end_s, LONGEST_DAYS * DAY_S)
    return outcomes(made, Planner(made), fresh(config.satellite), 0.0, horizon_s, steps=limit.steps, wh=limit.wh)


def duration_s(limit: Limits, spent: Outcomes | None, days: float | None) -> float:
    """How long to plan for [s]: `days`, else until half of the samples have spent the budget, else a day.

    Raises:
        BadInput: orbits or date lie beyond `LONGEST_DAYS`.
    """
    if days is not None:
        return days * DAY_S
    if spent is not None:
        return float(np.median(spent.end_s))
    if LONGEST_DAYS * DAY_S < limit.end_s < math.inf:
        raise BadInput(
            f"budget.{limit.ends_by}: ends after {limit.end_s / DAY_S:,.0f} days, a plan after at most "
            f"{LONGEST_DAYS:.0f}; give --days {LONGEST_DAYS:.0f} to plan their beginning"
        )
    return limit.end_s if limit.end_s < math.inf else DAY_S


def finish_s(limit: Limits, spent: Outcomes | None, planned_s: float) -> Float[np.ndarray, " sample"]:
    """Mission second at which each sample has spent the budget; infinite where not within `LONGEST_DAYS`.

    Without a budget, that is when the plan ends.
    """
    if spent is None:
        return np.array([limit.end_s if limit.end_s < math.inf else planned_s])
    return np.where(spent.spent | (spent.end_s >= limit.end_s), spent.end_s, np.inf)


def finish(made: Scenario, end_s: Float[np.ndarray, " sample"]) -> dict[str, Any]:
    """Percentiles of when the budget is spent, as UTC and as mission seconds; null: later than `LONGEST_DAYS`."""
    moments = {f"p{percent}": _percentile(end_s, percent) for percent in (5, 50, 95)}
    utc = made.timeline.track.utc
    return {
        "finish": {name: None if s is None else utc(s).isoformat(timespec="seconds") for name, s in moments.items()},
        "finish_s": moments,
    }


def _percentile(end_s: Float[np.ndarray, " sample"], percent: float) -> float | None:
    """One of the samples, for between a moment and never there is nothing."""
    moment = float(np.percentile(end_s, percent, method="inverted_cdf"))
    return moment if moment < math.inf else None
