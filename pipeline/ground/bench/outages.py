"""One mission under faults, simulated under any save policy: what is written, what is lost, what is left. Modelled."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from pipeline.checkpoint.endurance import Allowance
from pipeline.orbit import Environment


class Costs(NamedTuple):
    """Of one save, and of one fault."""

    blocking_s: float  # training stands still
    seal_s: float  # from the start of a save until it counts
    restart_s: float  # from a fault to the first step after it
    bytes: float


class Moment(NamedTuple):
    """What a policy may know when the loop asks it [s]."""

    now_s: float
    begun_s: float  # when the work began that no save holds yet
    stop_s: float  # next planned stop


# How much longer until the next save; not above 0: now.
Policy = Callable[[Moment], float]


@dataclass(frozen=True)
class Arm:
    """A policy, whether it seals before planned stops (else they cut it off like a fault), and what it may write."""

    policy: Policy
    seals_before_stops: bool
    budget_bytes_day: float | None = None


@dataclass
class Flown:
    """What one mission came to. Times are of work [s]."""

    available_s: float = 0.0  # in which the plan lets it train
    kept_s: float = 0.0  # of work that survived to the end
    saves: int = 0
    lost_to_faults_s: list[float] = field(default_factory=list)
    lost_to_stops_s: list[float] = field(default_factory=list)


def draw_faults(sky: Environment, mtbf_s: float, rng: np.random.Generator) -> Float[np.ndarray, " fault"]:
    """Times of faults that nothing announces [s]: a Poisson process whose rate follows the hazard along the track."""
    expected = np.concatenate([[0.0], np.cumsum(sky.hazard[1:] + sky.hazard[:-1]) * 0.5 * sky.step_s / mtbf_s])
    count = rng.poisson(expected[-1])
    return np.interp(np.sort(rng.uniform(0.0, expected[-1], count)), expected, sky.time_s)


def fly(
    arm: Arm, windows: Sequence[tuple[float, float]], faults_s: Float[np.ndarray, " fault"], costs: Costs, slot_s: float
) -> Flown:
    """Flies the windows in which the plan trains, one after another.

    The loop asks the policy every `slot_s`, as the flight does between chunks, and never has two saves under way. A
    fault loses what no sealed save holds, and the restart. One that strikes while the GPU is off loses nothing.
    """
    flown, job = Flown(), _Job(arm, costs, windows[0][0])
    faults = iter([*faults_s, math.inf])
    fault_s = next(faults)
    for begin_s, end_s in windows:
        flown.available_s += end_s - begin_s
        now_s = job.begun_s = begin_s
        last_s = end_s - costs.seal_s if arm.seals_before_stops else end_s
        while now_s < end_s:
            while fault_s < now_s:  # while it was off, or down
                fault_s = next(faults)
            if now_s >= last_s:  # the stop's own save, and nothing else until it is sealed
                until_s, stood_still_s = end_s, end_s - now_s
                job.save(now_s, end_s)
            else:
                until_s = min(now_s + slot_s, last_s)
                stood_still_s = min(costs.blocking_s, until_s - now_s) if job.saves_now(now_s, end_s) else 0.0
            struck = fault_s < until_s
            job.work_s += max(0.0, min(fault_s, until_s) - now_s - stood_still_s)
            now_s = min(fault_s, until_s)
            job.settle(now_s)
            if struck:
                flown.lost_to_faults_s.append(job.lose())
                now_s = job.begun_s = now_s + costs.restart_s
        flown.lost_to_stops_s.append(job.lose())
    flown.kept_s, flown.saves = job.kept_s, job.saves
    return flown


class _Job:
    """Work done, work that a sealed save holds, and the save under way. Times in seconds of work and of the mission."""

    def __init__(self, arm: Arm, costs: Costs, start_s: float):
        self.work_s = self.kept_s = 0.0
        self.begun_s = start_s  # since then, no save has been begun
        self.saves = 0
        self._arm, self._costs = arm, costs
        self._sealed_at_s, self._saving_s = math.inf, 0.0
        self._credit = Allowance.full(arm.budget_bytes_day, start_s) if arm.budget_bytes_day else None

    def saves_now(self, now_s: float, stop_s: float) -> bool:
        idle, credit = self._sealed_at_s == math.inf, self._credit
        affords = credit is None or credit.wait_s(self._costs.bytes, now_s) == 0.0
        due = idle and affords and self._arm.policy(Moment(now_s, self.begun_s, stop_s)) <= 0.0
        if due and self.work_s > self.kept_s:
            self.save(now_s, now_s + self._costs.seal_s)
            return True
        return False

    def save(self, now_s: float, sealed_at_s: float) -> None:
        self.saves += 1
        self._sealed_at_s, self._saving_s, self.begun_s = sealed_at_s, self.work_s, now_s
        self._credit = self._credit and self._credit.charge(self._costs.bytes, now_s)

    def settle(self, now_s: float) -> None:
        """By now a save may have been sealed."""
        if now_s >= self._sealed_at_s:
            self.kept_s, self._sealed_at_s = self._saving_s, math.inf

    def lose(self) -> float:
        """What no sealed save holds is gone, and with it a save under way; how much that was [s]."""
        lost_s, self.work_s, self._sealed_at_s = self.work_s - self.kept_s, self.kept_s, math.inf
        return lost_s
