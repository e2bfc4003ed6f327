"""Whether to compute now, how hard and for how long: the plan's rule, asked at every poll."""

from dataclasses import replace
from enum import Enum
from typing import NamedTuple

from pipeline.config import BadInput, Config
from pipeline.flight.spacecraft import Spacecraft, Telemetry
from pipeline.flight.watchdog import Watchdog
from pipeline.plan import Greedy, Mode, Planner, Scenario
from pipeline.plan.forecast import SLOT_S
from pipeline.plan.greedy import POLL_S

HOT_K = 5.0  # a plate so far below its limit is what the GPU waits for, whatever the charge
SAFE = "SAFE"  # how the reason of a directive begins that the watchdog gave


class Save(Enum):
    NONE = "none"
    NOW = "now"  # sealed before anything else happens


class Directive(NamedTuple):
    """What to do until `deadline_s` [mission s]."""

    mode: Mode
    cap_w: float
    chunk_steps: int
    deadline_s: float
    checkpoint: Save
    reason: str


class Governor:
    """Turns telemetry into directives. It never blocks."""

    def __init__(self, config: Config, spacecraft: Spacecraft):
        """
        Raises:
            BadInput: one step takes longer than the rule may go unasked.
        """
        scenario = spacecraft.scenario
        self._make_rule = Planner if config.mission.policy == "optimal" else Greedy
        self.rule: Greedy | Planner = self._make_rule(scenario)
        self.watchdog = Watchdog(config.satellite, config.telemetry.max_age_s)
        self._spacecraft, self._scenario = spacecraft, scenario
        self._limit_c = config.satellite.radiator.limit_c
        self.slowness = 1.0  # measured over modelled time of a step
        self._harvest = 1.0  # measured over modelled harvest
        # The compiled program has room for this many. Measured step times move the count, never the room.
        self.capacity = config.train.chunk_steps
        if spacecraft.simulated:
            self.capacity = self._fitting(scenario.curve.full_w)
            slowest_w = self.rule.levels.cap_w.min() if isinstance(self.rule, Planner) else None
            if (longest_s := scenario.step_seconds(slowest_w)) > POLL_S:
                raise BadInput(
                    f"mission.step_flops: {scenario.step_flops:g}: a step takes {longest_s:.0f} s, but charge must be "
                    f"looked at every {POLL_S:.0f} s; lower it, or use a smaller batch"
                )

    def _fitting(self, cap_w: float) -> int:
        """Steps that fit between two polls, which are as dense as the slots of the forecast."""
        step_s = self._scenario.step_seconds(cap_w) * self.slowness
        return max(1, min(self.capacity, int(SLOT_S / step_s)))

    def poll(self) -> Directive:
        craft = self._spacecraft
        craft.catch_up()
        reading = craft.measure()
        seen = craft.telemetry()
        deadline_s = seen.mission_s + SLOT_S
        on = craft.mode != Mode.OFF
        unsafe = self.watchdog.check(reading, seen.mission_s)
        charge_wh = reading.charge_wh if reading else 0.0
        cap_w = 0.0 if unsafe else self.rule.poll(seen.mission_s, charge_wh, seen.heat_j, on)
        if cap_w > 0.0:
            mode = Mode.TRAIN if on else Mode.RESTART
            return Directive(mode, cap_w, self._fitting(cap_w), deadline_s, Save.NONE, "charge allows")
        reason = f"{SAFE}: {unsafe}" if unsafe else self._waiting_for(seen)
        return Directive(Mode.OFF, 0.0, 0, deadline_s, Save.NOW if on else Save.NONE, reason)

    def _waiting_for(self, seen: Telemetry) -> str:
        if seen.plate_c > self._limit_c - HOT_K:
            return "cooling down"
        return "recharging" if seen.sunlit > 0.5 else "umbra reserve"

    def report(self, steps: float, seconds: float, cap_w: float) -> None:
        """What a piece of work took on a real clock corrects the modelled curve, a fifth of the way each time."""
        if not self._spacecraft.simulated:
            measured = seconds / (steps * self._scenario.step_seconds(cap_w))
            self.slowness += 0.2 * (measured - self.slowness)

    def correct(self, harvest: float, slowness: float) -> None:
        """Plans from now on with `harvest` times the modelled array and steps `slowness` times as long."""
        self._harvest, self.slowness = harvest, slowness
        self.rule = self._make_rule(self.corrected)

    @property
    def corrected(self) -> Scenario:
        """The scenario with what was measured of array and GPU."""
        scenario, curve = self._scenario, self._scenario.curve
        if self.slowness != 1.0:
            measured_s = scenario.step_seconds() * self.slowness
            flops = max(1.0, (measured_s - curve.overhead_s) * curve.flops_per_s)
            scenario = replace(scenario, step_flops=flops)
        if self._harvest != 1.0:
            plant = scenario.plant
            array = plant.array_w_per_flux * self._harvest
            scenario = replace(scenario, plant=replace(plant, array_w_per_flux=array))
        return scenario
