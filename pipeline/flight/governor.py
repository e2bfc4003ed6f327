"""Whether to compute now, how hard and for how long: the plan's rule, asked at every poll."""

from enum import Enum
from typing import NamedTuple

from pipeline.config import BadInput
from pipeline.flight.spacecraft import Spacecraft
from pipeline.plan import Greedy, Mode, Scenario
from pipeline.plan.forecast import SLOT_S
from pipeline.plan.greedy import POLL_S


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

    def __init__(self, scenario: Scenario, spacecraft: Spacecraft, chunk_steps: int):
        """
        Raises:
            BadInput: one step takes longer than the rule may go unasked.
        """
        self.rule = Greedy(scenario)
        self.step_s = scenario.step_seconds()
        self._spacecraft = spacecraft
        self._chunk_steps = chunk_steps
        if self.step_s > POLL_S:
            raise BadInput(
                f"mission.step_flops: {scenario.step_flops:g}: a step takes {self.step_s:.0f} s, but charge must be "
                f"looked at every {POLL_S:.0f} s; lower it, or use a smaller batch"
            )

        # The compiled program has room for this many. Measured step times move the count, never the room.
        self.capacity = self.chunk_steps if spacecraft.simulated else chunk_steps

    @property
    def chunk_steps(self) -> int:
        """Steps that fit between two polls, which are as dense as the slots of the forecast."""
        return max(1, min(self._chunk_steps, int(SLOT_S / self.step_s)))

    def poll(self) -> Directive:
        craft = self._spacecraft
        seen = craft.telemetry()
        deadline_s = seen.mission_s + SLOT_S
        cap_w = self.rule.poll(seen.mission_s, seen.charge_wh, seen.heat_j, craft.mode != Mode.OFF)
        if cap_w > 0.0:
            mode = Mode.TRAIN if craft.mode != Mode.OFF else Mode.RESTART
            return Directive(mode, cap_w, self.chunk_steps, deadline_s, Save.NONE, "charge allows")
        stopping = craft.mode != Mode.OFF
        reason = self.rule.why_off(seen.mission_s, seen.heat_j, seen.sunlit > 0.5)
        return Directive(Mode.OFF, 0.0, 0, deadline_s, Save.NOW if stopping else Save.NONE, reason)

    def report(self, steps: float, seconds: float) -> None:
        """What a piece of work took on a real clock: the measured step time replaces the modelled one."""
        if not self._spacecraft.simulated:
            self.step_s += 0.2 * (seconds / steps - self.step_s)
