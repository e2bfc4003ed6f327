"""What may be spent, and when the learning rate must begin to fall so that it reaches zero where the budget ends."""

import math
from dataclasses import replace
from typing import Any

from pipeline.config import BadInput, Config
from pipeline.flight.governor import Governor
from pipeline.flight.progress import Progress
from pipeline.flight.spacecraft import Spacecraft
from pipeline.lm.schedule import NEVER, Cooldown
from pipeline.plan import Forecast, forecast

HORIZON_S = 366 * 86400.0  # a satellite that has not done its budget by then never will


class Budget:
    """Steps and tokens are counted; orbits and watt-hours are turned into steps by flying the plan ahead of time."""

    def __init__(self, config: Config, spacecraft: Spacecraft, governor: Governor, validation_steps: float):
        """`validation_steps`: cost of all validation, as a share of the cost of training."""
        self._limits, self._cooldown = config.budget, config.optimizer.cooldown
        self._spacecraft, self._governor = spacecraft, governor
        flops = spacecraft.scenario.step_flops * (1.0 + validation_steps)
        self._scenario = replace(spacecraft.scenario, step_flops=flops)
        self._tokens_per_step = config.tokens_per_step
        steps = [self._limits.steps or NEVER]
        if self._limits.tokens:
            steps.append(math.ceil(self._limits.tokens / config.tokens_per_step))
        self._counted = min(steps)
        if self._counted == NEVER and not self._limits.orbits and not self._limits.wh:
            raise BadInput("budget: empty; give one of budget.steps, budget.tokens, budget.orbits or budget.wh")

    def total_steps(self, progress: Progress) -> int:
        """Steps at the end of the budget, as it looks now.

        Raises:
            BadInput: not one step fits.
        """
        if not self._limits.orbits and not self._limits.wh:
            return self._counted
        ahead = self._ahead(progress)
        kept_back = self._limits.margin if ahead.ended_by in ("wh", "orbits") else 0.0
        return progress.step + int(ahead.steps * (1.0 - kept_back))

    def expectation(self, progress: Progress) -> dict[str, Any]:
        """What the plan expects, from here to the end of the budget. Modelled."""
        ahead = self._ahead(progress)
        return {
            "provenance": "modelled",
            "steps": progress.step + int(ahead.steps),
            "tokens": int(ahead.steps) * self._tokens_per_step,
            "train_wh": ahead.train_wh,
            "harvest_wh": ahead.harvest_wh,
            "end_s": ahead.end_s,
            "ended_by": ahead.ended_by,
            "restarts": ahead.restarts,
            "eclipses": len(ahead.eclipses),
        }

    def _ahead(self, progress: Progress) -> Forecast:
        craft = self._spacecraft
        orbits = craft.scenario.timeline.track.revolutions(craft.started_s) + (self._limits.orbits or math.inf)
        ahead = forecast(
            self._scenario,
            self._governor.rule,
            craft.state,
            craft.telemetry().mission_s,
            craft.mode,
            steps=self._counted - progress.step if self._counted < NEVER else math.inf,
            wh=(self._limits.wh or math.inf) - progress.train_wh,
            orbits=orbits,
            horizon_s=HORIZON_S,
        )
        if ahead.steps < 1.0:
            raise BadInput(
                f"budget: not one step of {self._governor.step_s:.3g} s fits: orbits {self._limits.orbits}, wh "
                f"{self._limits.wh}; give more, or a larger satellite.array.area_m2"
            )
        return ahead

    def cooldown_start(self, total: int) -> int:
        return total - round(total * self._cooldown)

    def decide(self, progress: Progress, total: int) -> Cooldown:
        """The cooldown that begins now. Taken once; it binds every later launch of the run."""
        return Cooldown(progress.step, max(total, progress.step + 1))

    def spent(self, progress: Progress) -> str | None:
        """Which limit is reached, if one is."""
        if progress.step >= min(self._counted, progress.cooldown.end):
            return "steps"
        if self._limits.orbits and self._spacecraft.orbits >= self._limits.orbits:
            return "orbits"
        if self._limits.wh and progress.train_wh >= self._limits.wh:
            return "wh"
        return None
