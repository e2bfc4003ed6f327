"""What was measured and saved under one configuration, told in the figures of the next launch's."""

import math
from typing import Any

from pydantic import ValidationError

from pipeline.config import BadInput, Config
from pipeline.config.load import understood
from pipeline.flight.mission import mission
from pipeline.flight.progress import Progress
from pipeline.flight.radiator import MOST
from pipeline.flight.recorded import ANEW
from pipeline.plan import Scenario
from pipeline.plan.scenario import DARK
from pipeline.power import Plant, State, from_json, to_json


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
        progress.harvest *= _ratio(then.plant.array_w_per_flux, now.plant.array_w_per_flux)
    if progress.rejection != 1.0:
        progress.rejection *= _ratio(*(_rejected_w(plant, now.plant.limit_c) for plant in (then.plant, now.plant)))
        progress.rejection = min(max(progress.rejection, 1.0 - MOST), 1.0 + MOST)
    if progress.slowness != 1.0:
        progress.slowness *= _ratio(then.step_seconds(), now.step_seconds())
    if progress.draw != 1.0:
        progress.draw *= _ratio(then.curve.full_w, now.curve.full_w)
    if progress.capacity != 1.0:
        progress.capacity *= _ratio(then.plant.capacity_wh, now.plant.capacity_wh)
    spacecraft = meta["spacecraft"]
    spacecraft.pop("watched", None)
    spacecraft.pop("filled", None)
    spacecraft["plant"] = to_json(_in_new_units(from_json(spacecraft["plant"]), then.plant, now.plant))


def _planned_by(config: Config, scenario: Scenario) -> tuple[Any, ...]:
    """Of a satellite not its name, its sources and its radio; of a mission not what is said of one launch."""
    lasting = config.mission.model_copy(update={"not_before_s": 0.0})
    return scenario.plant, scenario.host_w, config.orbit, config.gpu, lasting


def _ratio(then: float, now: float) -> float:
    """1 where one of them is none."""
    return then / now if then > 0.0 and now > 0.0 else 1.0


def _rejected_w(plant: Plant, plate_c: float) -> float:
    """Heat that a plate rejects in shadow [W]."""
    return float(plant.radiated_w(plant.heat_at(plate_c), DARK))


def _in_new_units(state: State, then: Plant, now: Plant) -> State:
    """Heat counts from the melting point, and a battery holds no more than it can."""
    if any(getattr(then, name) != getattr(now, name) for name in ("radiator_j_k", "melting_c", "latent_j")):
        melts = then.latent_j > 0.0 and 0.0 <= state.heat_j <= then.latent_j
        heat_j = state.heat_j / then.latent_j * now.latent_j if melts else now.heat_at(then.plate_c(state.heat_j))
        state = state._replace(heat_j=float(heat_j))
    if then.capacity_wh != now.capacity_wh:
        state = state._replace(charge_wh=min(state.charge_wh, now.capacity_wh))
    return state
