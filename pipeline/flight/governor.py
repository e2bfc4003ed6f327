"""Whether to compute now, how hard and for how long: the plan's rule, asked at every poll."""

from collections import deque
from dataclasses import replace
from statistics import median
from typing import NamedTuple

from pipeline.config import BadInput, Config
from pipeline.flight.notices import SAFE, Notice
from pipeline.flight.progress import Measured
from pipeline.flight.spacecraft import Spacecraft
from pipeline.flight.watchdog import Watchdog
from pipeline.plan import Greedy, Mode, Planner, Scenario, StopKind, require_polls, stop_kind
from pipeline.plan.forecast import SLOT_S
from pipeline.plan.stops import NOTICE_S

WAIT_S = 1.0  # at most, on a real clock, before a hold looks at notices and telemetry again
WINDOW_S = 20.0  # of training between two corrections of the power drawn
PACE = 0.2  # weight of the newest measurement in the correction of the GPU's curve
PIECES = 9  # of work, whose median is what is planned with: one that stalls says nothing of the others


WAITING_FOR = {
    StopKind.HOT: "cooling down",
    StopKind.UMBRA: "umbra reserve",
    StopKind.LOW_CHARGE: "recharging",
}


class Directive(NamedTuple):
    """What to do until `deadline_s` [mission s]."""

    mode: Mode
    cap_w: float
    chunk_steps: int
    deadline_s: float
    reason: str
    notice: Notice | None = None  # power is given up: the state is sealed first


def capacity(config: Config, scenario: Scenario) -> int:
    """Steps that the compiled program has room for. Measured step times move the count, never the room."""
    if config.mission.clock != "simulated":
        return config.train.chunk_steps
    return max(1, min(config.train.chunk_steps, int(SLOT_S / scenario.step_seconds(scenario.curve.full_w))))


class Governor:
    """Turns telemetry into directives. It never blocks."""

    def __init__(self, config: Config, spacecraft: Spacecraft):
        """
        Raises:
            BadInput: one step takes longer than the rule may go unasked.
        """
        scenario = spacecraft.scenario
        require_polls(scenario, config.mission)
        self._make_rule = Planner if config.mission.policy == "optimal" else Greedy
        self.rule: Greedy | Planner = self._make_rule(scenario)
        self._planned_with = self._measured = Measured()  # of that rule; and of the scenario as it is corrected
        self.watchdog = Watchdog(config.satellite, config.telemetry.max_age_s)
        self._spacecraft, self._scenario = spacecraft, scenario
        self._pieces = deque([1.0] * PIECES, PIECES)  # measured over modelled time of a step
        self._slowness_now = 1.0  # the same, at once
        self.draw = 1.0  # measured over commanded power of the GPU
        self._joules = self._commanded_j = 0.0  # in the window under way
        self.capacity = capacity(config, scenario)

    def _fitting(self, cap_w: float) -> int:
        """Steps that fit between two polls, which are as dense as the slots of the forecast."""
        step_s = self._scenario.step_seconds(cap_w) * self._slowness_now
        return max(1, min(self.capacity, int(SLOT_S / step_s)))

    def poll(self) -> Directive:
        craft = self._spacecraft
        craft.catch_up()
        reading = craft.measure()
        now_s, heat_j, payload = craft.now_s, craft.state.heat_j, craft.payload
        if unsafe := self.watchdog.check(reading, now_s, craft.cap_w):
            trouble = craft.source.trouble if self.watchdog.stale(reading, now_s) else ""
            return self.hold(f"{SAFE}: {unsafe}" + (f"; {trouble}" if trouble else ""), Notice(SAFE, 0.0))
        assert reading is not None
        # What was measured outside is in the plant, carried on to now.
        charge_wh = craft.least_wh if craft.external else reading.charge_wh
        full_wh = self.rule.scenario.plant.full_wh(craft.state)
        cap_w = payload.permit(self.rule.poll(now_s, charge_wh, heat_j, payload.on, full_wh))
        if cap_w > 0.0:
            mode = Mode.TRAIN if craft.ready(SLOT_S) else Mode.RESTART
            steps = self._fitting(cap_w) if mode == Mode.TRAIN else 0
            return Directive(mode, cap_w, steps, self._next_slot(now_s), "charge allows")
        kind = stop_kind(self._scenario, now_s, float(self._scenario.plant.plate_c(heat_j)), craft.cap_w)
        return self.hold(WAITING_FOR[kind], Notice(kind.name, NOTICE_S))

    def hold(self, reason: str, notice: Notice) -> Directive:
        """GPU off, for a moment; if it is on, `notice` is given first."""
        craft, now_s = self._spacecraft, self._spacecraft.now_s
        deadline_s = self._next_slot(now_s) if craft.simulated else now_s + WAIT_S
        return Directive(Mode.OFF, 0.0, 0, deadline_s, reason, notice if craft.payload.on else None)

    @staticmethod
    def _next_slot(now_s: float) -> float:
        return SLOT_S * (now_s // SLOT_S + 1.0)

    def report(
        self, steps: float, seconds: float, cap_w: float, joules: float | None = None, pause_s: float = 0.0
    ) -> None:
        """What a piece of work took on a real clock corrects the modelled curve: how many steps fit between two polls
        a fifth of the way each time, the plan by the median of some.

        Args:
            joules: drawn by the GPU in `seconds`, where that is measured.
            pause_s: rested after it, so that the mean power is `cap_w`.
        """
        if self._spacecraft.simulated:
            return
        seconds += pause_s
        measured = seconds / (steps * self._scenario.step_seconds(cap_w))
        self._slowness_now += PACE * (measured - self._slowness_now)
        self._pieces.append(measured)
        if joules is None:
            return
        self._joules += joules + pause_s * self._scenario.curve.idle_w
        self._commanded_j += seconds * cap_w
        if self._commanded_j >= WINDOW_S * cap_w:  # the counter is exact over a long window only
            self.draw += PACE * (self._joules / self._commanded_j - self.draw)
            self._joules = self._commanded_j = 0.0

    def correct(self, measured: Measured) -> Measured:
        """Plans from now on with what was measured.

        Returns:
            what is planned with: the battery of before where there is no plan for this one, and array and radiator too
            where there is none even so, as where the bus alone would not live on that harvest.

        Raises:
            BadInput: there is none for those of before either.
        """
        if measured.slowness != self.slowness:  # of an earlier launch
            self._slowness_now, self._pieces = measured.slowness, deque([measured.slowness] * PIECES, PIECES)
        self.draw, before = measured.draw, self._planned_with
        old = before._replace(slowness=measured.slowness, draw=measured.draw)
        for self._measured in (measured, measured._replace(capacity=before.capacity), old):
            try:
                if self._measured != self._planned_with:  # a plan takes half a second, at every restart
                    self.rule = self._make_rule(self.corrected)
            except BadInput as error:
                refused = error
            else:
                self._planned_with = self._measured
                self._spacecraft.holds(self._measured.capacity)
                return self._measured
        raise refused

    @property
    def slowness(self) -> float:
        """Measured over modelled time of a step, as is planned with."""
        return median(self._pieces)

    @property
    def off_pace(self) -> float:
        """Measured over planned time of a step."""
        return self.slowness / self._planned_with.slowness

    @property
    def corrected(self) -> Scenario:
        """The scenario with what was measured of array, radiator, battery and GPU."""
        scenario, curve = replace(self._scenario, draw=self.draw), self._scenario.curve
        if self.slowness != 1.0:
            measured_s = scenario.step_seconds() * self.slowness
            flops = max(1.0, (measured_s - curve.overhead_s) * curve.flops_per_s)
            scenario = replace(scenario, step_flops=flops)
        plant = replace(
            scenario.plant,
            array_w_per_flux=scenario.plant.array_w_per_flux * self._measured.harvest,
            radiator_m2=scenario.plant.radiator_m2 * self._measured.rejection,
            capacity_wh=scenario.plant.capacity_wh * self._measured.capacity,
        )
        return replace(scenario, plant=plant)
