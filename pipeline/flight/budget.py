"""What may be spent, and when the learning rate must begin to fall so that it reaches zero where the budget ends."""

import math
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
        """`validation_steps`: what one validation costs, in steps."""
        self._limits, self._cooldown = config.budget, config.optimizer.cooldown
        self._spacecraft, self._governor = spacecraft, governor
        self._validation_steps, self._every = validation_steps, config.train.eval_every
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
        return min(self._counted, self._last_step(progress, ahead.steps * (1.0 - kept_back)))

    def _last_step(self, progress: Progress, work: float) -> int:
        """The step at which `work`, in steps, is used up by training and validation together."""
        first, low, high = progress.step, progress.step, progress.step + int(work)
        while low < high:
            middle = (low + high + 1) // 2
            fits = middle - first + self._validation_cost(first, middle) <= work
            low, high = (middle, high) if fits else (low, middle - 1)
        return low

    def _validation_cost(self, first: int, last: int) -> float:
        """Of the validations after step `first` up to and at `last`, in steps."""
        count = last // self._every - first // self._every + (last % self._every > 0)
        return count * self._validation_steps

    def expectation(self, progress: Progress) -> dict[str, Any]:
        """What the plan expects, from here to the end of the budget. Modelled."""
        ahead = self._ahead(progress)
        steps = min(self._counted, self._last_step(progress, ahead.steps))
        return {
            "provenance": "modelled",
            "steps": steps,
            "tokens": steps * self._tokens_per_step,
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
        left = self._counted - progress.step + self._validation_cost(progress.step, self._counted)
        ahead = forecast(
            craft.scenario,
            self._governor.rule,
            craft.state,
            craft.telemetry().mission_s,
            craft.mode,
            steps=left if self._counted < NEVER else math.inf,
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

    def decide(self, progress: Progress) -> Cooldown:
        """The cooldown that begins now. Taken once; it binds every later launch of the run."""
        return Cooldown(progress.step, max(progress.planned_steps, progress.step + 1))

    def spent(self, progress: Progress) -> str | None:
        """Which limit is reached, if one is."""
        if progress.step >= min(self._counted, progress.cooldown.end):
            return "steps"
        if self._limits.orbits and self._spacecraft.orbits >= self._limits.orbits:
            return "orbits"
        if self._limits.wh and progress.train_wh >= self._limits.wh:
            return "wh"
        return None
