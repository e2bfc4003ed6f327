"""What may be spent, and when the learning rate must begin to fall so that it reaches zero where the budget ends."""

import math
from typing import Any

import numpy as np

from pipeline.config import BadInput, Config
from pipeline.flight.corruption import outlier_steps
from pipeline.flight.governor import Governor
from pipeline.flight.progress import Progress
from pipeline.flight.spacecraft import Spacecraft
from pipeline.lm.schedule import NEVER, Cooldown
from pipeline.orbit import eclipses, environment
from pipeline.orbit.timeline import DAY_S
from pipeline.plan import Forecast, forecast
from pipeline.plan.forecast import SLOT_S

HORIZON_S = 366 * DAY_S  # is looked ahead; what a budget holds that lasts longer nobody knows yet
RECOUNT = 0.01  # of the time to its end: that far away, one revolution more or less moves it by no more than its margin
COUNTED_S = 30.0  # an eclipse that is shorter is not counted


class Budget:
    """Steps and tokens are counted; orbits, dates and watt-hours become steps by flying the plan ahead of time."""

    def __init__(self, config: Config, spacecraft: Spacecraft, governor: Governor, validation_steps: float):
        """`validation_steps`: what one validation costs, in steps."""
        self._limits, self._cooldown = config.budget, config.optimizer.cooldown
        self._spacecraft, self._governor = spacecraft, governor
        self._validation_steps, self._every = validation_steps, config.train.eval_every
        self._replay_every = config.train.replay_every or NEVER
        self._spike_steps = outlier_steps(governor.capacity)
        self._tokens_per_step = config.tokens_per_step
        steps = [self._limits.steps or NEVER]
        if self._limits.tokens:
            steps.append(math.ceil(self._limits.tokens / config.tokens_per_step))
        self._counted = min(steps)
        self._until_s = self._date()
        self._forecast = self._end_s < math.inf or self._limits.wh is not None
        if self._counted == NEVER and not self._forecast:
            raise BadInput("budget: empty; give one of budget.steps, tokens, orbits, wh or until")

    def _date(self) -> float:
        """Mission time of the date that ends the run; infinite where none does."""
        track, until = self._spacecraft.scenario.timeline.track, self._limits.until
        if until is None:
            return math.inf
        end_s = track.seconds(until)
        if self._spacecraft.begun_here and end_s <= self._spacecraft.started_s:
            begins = track.utc(self._spacecraft.started_s).isoformat(timespec="minutes")
            raise BadInput(f"budget.until: {until.isoformat()}: the run begins at {begins}; give a later date")
        return end_s

    @property
    def _end_s(self) -> float:
        """Mission time at which orbits or date end the run, by the clock as set now; infinite where neither does."""
        orbits, period_s = self._limits.orbits or math.inf, self._spacecraft.scenario.timeline.track.period_s
        return min(self._spacecraft.started_s + orbits * period_s, self._until_s)

    def replan(self, progress: Progress) -> None:
        """How many steps the budget holds, looked at anew.

        Raises:
            BadInput: it has not been counted yet, and not one step fits.
        """
        if self._forecast and progress.cooldown.end == NEVER:
            self._count(progress, self._ahead(progress))
        else:  # once the cooldown has begun, nothing moves its end
            progress.planned_steps = min(self._counted, progress.cooldown.end)

    def _count(self, progress: Progress, ahead: Forecast) -> None:
        now_s = self._spacecraft.clock.now()
        goes_on = ahead.ended_by == "horizon" and ahead.end_s + SLOT_S < self._end_s
        progress.planned_steps = self._counted if goes_on else self._steps(progress, ahead)
        progress.recount_s = now_s + RECOUNT * (ahead.end_s - now_s)

    def due(self, progress: Progress) -> bool:
        """Whether its end is near enough, or the last count old enough, to count anew."""
        return self._spacecraft.clock.now() >= progress.recount_s

    def _steps(self, progress: Progress, ahead: Forecast) -> int:
        """Steps in all, of which some are kept back unless it is steps that end the run."""
        work = ahead.steps
        if ahead.ended_by != "steps":
            work -= self._limits.margin * work + self._for_spikes(progress, work)
        return min(self._counted, self._last_step(progress, work))

    def _for_spikes(self, progress: Progress, ahead: float) -> float:
        """Steps kept back for what will stand out in the `ahead` steps to come, and be computed again: as often as so
        far, once more where little has been seen, and two standard deviations besides (Poisson); at most half."""
        to_come = ahead / max(progress.step, 1)
        expected = progress.spikes * to_come + min(1.0, to_come)
        return min(self._spike_steps * (expected + 2.0 * math.sqrt(expected)), 0.5 * ahead)

    def _last_step(self, progress: Progress, work: float) -> int:
        """The step at which `work`, in steps, is used up by training, validation and replays together."""
        first, low, high = progress.step, progress.step, progress.step + int(work)
        while low < high:
            middle = (low + high + 1) // 2
            fits = middle - first + self._overhead(first, middle) <= work
            low, high = (middle, high) if fits else (low, middle - 1)
        return low

    def _overhead(self, first: int, last: int) -> float:
        """Of validations and replays after step `first` up to and at `last`, in steps."""
        count = last // self._every - first // self._every + (last % self._every > 0)
        replays = last // self._replay_every - first // self._replay_every
        return count * self._validation_steps + replays

    def expectation(self, progress: Progress) -> dict[str, Any]:
        """What the plan expects, from here to the end of the budget, which is counted by it if it was not. Modelled."""
        ahead = self._ahead(progress)
        if self._forecast and not progress.planned_steps:
            self._count(progress, ahead)
        steps = self._steps(progress, ahead)
        work = steps - progress.step + self._overhead(progress.step, steps)
        share = min(work / max(ahead.steps, 1.0), 1.0)  # some of them are kept back
        begin_s, track = self._spacecraft.now_s, self._spacecraft.scenario.timeline.track
        return {
            "provenance": "modelled",
            "steps": steps,
            "tokens": steps * self._tokens_per_step,
            "train_wh": share * ahead.train_wh,
            "harvest_wh": ahead.harvest_wh,
            "end_s": self._when(work, ahead),
            "ended_by": ahead.ended_by,
            "restarts": ahead.restarts,
            "eclipses": len(eclipses(environment(track, begin_s, ahead.end_s - begin_s, COUNTED_S))),
        }

    def _when(self, work: float, ahead: Forecast) -> float:
        """Mission time at which so many steps are done."""
        begin_s = self._spacecraft.now_s
        when_s = np.interp(work, np.append(0.0, ahead.trace.steps), np.append(begin_s, ahead.time_s))
        return min(float(when_s), ahead.end_s)

    def _ahead(self, progress: Progress) -> Forecast:
        craft = self._spacecraft
        now_s = craft.now_s
        left = self._counted - progress.step + self._overhead(progress.step, self._counted)
        ahead = forecast(
            self._governor.corrected,
            self._governor.rule,
            craft.state,
            now_s,
            craft.payload,
            steps=left if self._counted < NEVER else math.inf,
            wh=(self._limits.wh or math.inf) - craft.train_wh,
            horizon_s=min(self._end_s - now_s, HORIZON_S),
            sparse=True,
        )
        if not progress.planned_steps and progress.step + ahead.steps < 1.0:
            given = self._limits.model_dump(mode="json", include={"orbits", "wh", "until"}, exclude_none=True)
            limits = ", ".join(f"{name} {value}" for name, value in given.items())
            raise BadInput(
                f"budget: not one step of {craft.scenario.step_seconds():.3g} s fits into {limits}; give more"
                + ("" if given.keys() == {"wh"} else ", or a larger satellite.array.area_m2")
            )
        return ahead

    def cooldown_start(self, total: int) -> int:
        return total - round(total * self._cooldown)

    def decide(self, progress: Progress) -> Cooldown:
        """The cooldown that begins now. Taken once; it binds every later launch of the run."""
        return Cooldown(progress.step, max(progress.planned_steps, progress.step + 1))

    def over(self) -> bool:
        """Whether a slot that begins now would end after the date or the last orbit."""
        return self._spacecraft.clock.now() + SLOT_S > self._end_s

    def spent(self, progress: Progress) -> str | None:
        """Which limit is reached, if one is."""
        if progress.step >= min(self._counted, progress.cooldown.end):
            return "steps"
        # Whatever is granted: the last validation asks for power too, and what it gets beyond its need is not trained.
        if self._limits.wh and self._spacecraft.train_wh >= self._limits.wh:
            return "wh"
        if self._spacecraft.granted >= 1.0:
            return None  # of time, it is paid for already
        return "time" if self.over() else None
