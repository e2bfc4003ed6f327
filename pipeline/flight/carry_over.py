"""What was measured and saved under one configuration, told in the figures of the next launch's."""

import math
from typing import Any

from pydantic import ValidationError

from pipeline.config import BadInput, Config
from pipeline.config.load import understood
from pipeline.flight.mission import mission
from pipeline.flight.progress import Progress
from pipeline.flight.recorded import ANEW
from pipeline.plan import Scenario
from pipeline.plan.scenario import DARK
from pipeline.power import Plant


def carry_over(progress: Progress, meta: dict[str, Any], config: Config, now: Scenario, vocab_size: int) -> None:
    """Array, radiator and GPU do as before, whatever figures they are planned with: what was measured of them, over
    those of before, is made such over those of now. What is ahead is looked at anew.

    Args:
        progress: of the checkpoint; changed in place.
        meta: all that it kept; of it the spacecraft, in place.
        config, now: of this launch.
    """
    try:
        was = understood(meta["config"], {name: getattr(config, name) for name in ANEW})
        then = mission(was, vocab_size)
    except (BadInput, KeyError, TypeError, ValidationError):  # of a version that kept none, or had others
        return
    if _planned_by(was, then) == _planned_by(config, now):
        return
    progress.planned_from = progress.measured_from = {}
    progress.replan_s = progress.recount_s = -math.inf
    if progress.harvest != 1.0:  # that is, measured
        progress.harvest *= then.plant.array_w_per_flux / now.plant.array_w_per_flux
    if progress.rejection != 1.0:
        progress.rejection *= _rejected_w(then.plant, now.plant) / _rejected_w(now.plant, now.plant)
    if progress.slowness != 1.0:
        progress.slowness *= then.step_seconds() / now.step_seconds()
    if progress.draw != 1.0:
        progress.draw *= then.curve.full_w / now.curve.full_w
    spacecraft = meta["spacecraft"]
    spacecraft.pop("watched", None)
    _in_new_units(spacecraft["plant"], then.plant, now.plant)


def _planned_by(config: Config, scenario: Scenario) -> tuple[Any, ...]:
    """Of a satellite not its name, its sources and its radio."""
    return scenario.plant, scenario.host_w, config.orbit, config.gpu, config.mission


def _rejected_w(plant: Plant, limited: Plant) -> float:
    """Heat that a plate at the limit of `limited` rejects in shadow [W]."""
    return float(plant.radiated_w(plant.heat_at(limited.limit_c), DARK))


def _in_new_units(state: dict[str, Any], then: Plant, now: Plant) -> None:
    """Heat counts from the melting point, and a battery holds no more than it can."""
    if any(getattr(then, name) != getattr(now, name) for name in ("radiator_j_k", "melting_c", "latent_j")):
        state["heat_j"] = float(now.heat_at(then.plate_c(state["heat_j"])))
    if then.capacity_wh != now.capacity_wh:
        state["charge_wh"] = min(state["charge_wh"], now.capacity_wh)
