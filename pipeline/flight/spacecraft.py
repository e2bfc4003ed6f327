"""The satellite as the job meets it: what time it is, what charge there is, and what a piece of work costs."""

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from pipeline.config import BadInput, Config, RunFailed
from pipeline.flight.battery import Battery
from pipeline.flight.clock import SETTLED_S, Clock, RealClock, SimulatedClock, wait_until_set
from pipeline.flight.progress import of_this_version
from pipeline.flight.radiator import Radiator
from pipeline.flight.telemetry import (
    COLDEST_C,
    HOTTEST_C,
    MOST_CHARGE,
    FileSource,
    Reading,
    SimulatedSource,
    Source,
    UdpSource,
)
from pipeline.orbit.elements import FAR_DAYS
from pipeline.orbit.timeline import DAY_S
from pipeline.plan import Mode, Payload, Scenario
from pipeline.power import OFF, Command, Simulator, State, fresh, from_json, to_json
from pipeline.power.plant import HOUR_S

CLOCK_SLACK_S = 5.0  # telemetry from further in the future than this is not believed
REMEMBERED_S = 1.0  # apart are the moments of the past to which a reading may belong
DARK_S = 60 * DAY_S  # without payload, charge and temperature are no longer those of before
KEPT = {  # in a checkpoint
    *("now_s", "started_s", "start_ahead_s", "mode", "payload", "cap_w", "train_s", "train_wh", "eclipses", "dark"),
    *("plant", "watched", "filled"),
}
DOUBTED_S = 120.0  # after the newest reading that was believed, any is
SMOOTHED_S = 30.0  # over which the noise of a sensor is
SPREAD_K = 2.0  # by so much may a sensor stray from the melting point while the phase-change material melts


@dataclass(frozen=True)
class Telemetry:
    """One moment of the satellite: the plant flown along the orbit beside the job, put right by what is measured."""

    mission_s: float
    charge_wh: float
    charge: float  # state of charge, share of the capacity
    plate_c: float
    sunlit: float  # visible share of the Sun's disk
    orbit: int  # number of the revolution, from 1


class Spacecraft:
    """Clock and plant together: both go on by the same time.

    On a real clock, time passes by itself and `obey` only waits. On the simulated one it passes in slots, those of the
    forecast: `obey` lets a slot pass and grants the work that fits into it, so that power decides how much is worked
    and the lengths of steps decide nothing about power.
    """

    def __init__(
        self,
        config: Config,
        scenario: Scenario,
        saved: dict[str, Any],
        wait: Callable[[str], None] = lambda why: time.sleep(1.0),
    ):
        """
        Args:
            saved: what `as_json` gave, or {} at the start of a mission.
            wait: lets a moment pass, for the reason given.

        Raises:
            RunFailed: this machine's clock has not been set, or is so far ahead that the elements give no position.
            Refused: `saved` is of a newer version.
        """
        self.scenario = scenario
        self._config = config
        satellite = scenario.satellite
        area_m2 = satellite.array.area_m2 * (1.0 + config.mission.harvest_error)
        array = satellite.array.model_copy(update={"area_m2": area_m2})
        self._simulator = Simulator(satellite.model_copy(update={"array": array}), scenario.timeline)
        with of_this_version("spacecraft", saved, KEPT):
            self.state: State = self._possible(from_json(saved["plant"])) if saved else fresh(config.satellite)
            self.mode = Mode(saved.get("mode", Mode.OFF))
            self.payload = Payload(*saved.get("payload", ()))
            self.radiator = Radiator(scenario.plant.radiator_j_k, *saved.get("watched", ()))
            self.battery = Battery(scenario.plant.capacity_wh, *saved.get("filled", ()))
        self.cap_w: float = saved.get("cap_w", 0.0)  # under which granted work is done
        self.train_s: float = saved.get("train_s", 0.0)  # mission time spent training and validating
        self.train_wh: float = saved.get("train_wh", 0.0)  # drawn by GPU and host in that time
        self.eclipses: int = saved.get("eclipses", 0)
        self._was_dark: bool = saved.get("dark", False)
        self.simulated = config.mission.clock == "simulated"
        self.clock: Clock
        if self.simulated:
            # Modelled time goes on where the checkpoint was taken, unless the satellite is known to have been dark.
            self.clock = SimulatedClock(max(saved.get("now_s", 0.0), config.mission.not_before_s))
        else:
            self.clock = RealClock(scenario.timeline.track.utc(0.0))
            if (before_s := -self.clock.now()) > FAR_DAYS * DAY_S:  # it may be set soon: worth trying again
                raise RunFailed(
                    f"mission.clock: this machine's clock is {before_s / DAY_S:.0f} days before orbit.start; set it"
                )
        self.external = config.telemetry.source != "simulated"
        self._holds_unknown = not self.simulated and config.satellite.loads.hold_w is None
        self.set_back_s = 0.0  # by this launch
        if saved and isinstance(self.clock, RealClock):
            self.set_back_s = wait_until_set(self.clock, saved["now_s"], self._measured, wait)
        now_s = self.clock.now()
        if not self.simulated:
            try:
                self.scenario.timeline.light(now_s)
            except BadInput as error:  # it may be set by the next try
                raise RunFailed(str(error)) from error
        self.begun_here = not saved
        self._start_ahead_s: float = saved.get("start_ahead_s", 0.0)  # by so much clocks set forward have moved that
        self.started_s: float = saved.get("started_s", now_s)
        self._until_s: float = saved.get("now_s", 0.0 if self.simulated else now_s)
        self._believed_s = self._until_s - self._config.telemetry.max_age_s
        self._past = deque([self._moment])  # since the newest reading believed, a second apart or more
        self._told_s = -math.inf  # of that reading
        self._doubted: Reading | None = None  # newer
        self._unheard_wh = 0.0  # said by it, and smoothed away
        if self.set_back_s:
            self._rename(-self.set_back_s)
        self.was_dark_since_saved = self._until_s < now_s or self.set_back_s > 0.0
        if self.was_dark_since_saved:
            self._until_s = max(self._until_s, now_s - DARK_S)
            self._pass(OFF, powered=False)
            self.mode, self.payload, self.cap_w = Mode.OFF, Payload(), 0.0

    def _possible(self, state: State) -> State:
        """The state, or the nearest that can be: a checkpoint may hold what a broken sensor once said."""
        plant = self.scenario.plant
        coldest_j, hottest_j = float(plant.heat_at(COLDEST_C)), float(plant.heat_at(HOTTEST_C))
        return state._replace(
            charge_wh=min(max(state.charge_wh, 0.0), MOST_CHARGE * plant.capacity_wh),
            heat_j=min(max(state.heat_j, coldest_j), hottest_j),
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "now_s": self._until_s,
            "started_s": self.started_s,
            "start_ahead_s": self._start_ahead_s,
            "mode": int(self.mode),
            "payload": list(self.payload),
            "cap_w": self.cap_w,
            "train_s": self.train_s,
            "train_wh": self.train_wh,
            "eclipses": self.eclipses,
            "dark": self._was_dark,
            "plant": to_json(self.state),
            "watched": [self.radiator.rejected_j, self.radiator.unmodelled_j],
            "filled": self.battery.as_json(),
        }

    @property
    def now_s(self) -> float:
        """Mission time that the plant has reached."""
        return self._until_s

    @property
    def least_wh(self) -> float:
        """Charge, as the newest reading believed has it where that says less: by that the watchdog goes."""
        return self.state.charge_wh + min(0.0, self._unheard_wh)

    def holds(self, capacity: float) -> None:
        """The battery, over what is modelled."""
        plant = self._simulator.plant
        self._simulator.plant = replace(plant, capacity_wh=capacity * self.scenario.plant.capacity_wh)

    def telemetry(self) -> Telemetry:
        plant = self._simulator.plant
        return Telemetry(
            mission_s=self._until_s,
            charge_wh=self.state.charge_wh,
            charge=self.state.charge_wh / float(plant.full_wh(self.state)),
            plate_c=float(plant.plate_c(self.state.heat_j)),
            sunlit=self.scenario.timeline.light(self._until_s),
            orbit=int(self.scenario.timeline.track.revolutions(self._until_s)) + 1,
        )

    @cached_property
    def source(self) -> Source:
        """Where charge and temperature are measured. Opened when first asked for.

        Raises:
            BadInput: the source cannot be opened.
        """
        config, start = self._config.telemetry, self.scenario.timeline.track.utc(0.0)
        if config.source == "file":
            assert config.path is not None
            return FileSource(config.path, start, self.clock.now, CLOCK_SLACK_S)
        if config.source == "udp":
            return UdpSource(config, start, self.clock.now, CLOCK_SLACK_S)
        return SimulatedSource(config, self._modelled)

    def listen(self) -> None:
        """Opens the source of telemetry.

        Raises:
            BadInput: it cannot be opened.
        """
        _ = self.source

    def measure(self) -> Reading | None:
        """The newest reading. One from outside puts the plant right, unless it cannot be.

        It is of the past: what the model changed since then is added.
        """
        reading = self.source.newest()
        seen_s = self._doubted.mission_s if self._doubted else self._believed_s
        new = self.external and reading is not None and reading.mission_s > seen_s
        if reading and new and not reading.impossible(self.scenario.plant.capacity_wh):
            self._hear(reading)
        return reading

    def _hear(self, reading: Reading) -> None:
        """What leaps from the model, right a moment ago, is garbled, unless the next says it too."""
        plant, since_s = self.scenario.plant, reading.mission_s - self._told_s
        if since_s <= min(DOUBTED_S, self._config.telemetry.max_age_s):
            then_wh, then_j, *_ = self._then(reading.mission_s)
            modelled = Reading(reading.mission_s, then_wh, float(plant.plate_c(then_j)))
            if not reading.agrees(modelled, plant.capacity_wh):
                doubted, self._doubted = self._doubted, reading
                if not (doubted and reading.agrees(doubted, plant.capacity_wh)):
                    return
                since_s = math.inf  # it was the model that was wrong
        self._believed_s = self._told_s = reading.mission_s
        self._doubted = None
        self._put_right(reading, since_s)

    def _then(self, mission_s: float) -> tuple[float, ...]:
        """The plant at a moment not long ago, as `_moment` gives it."""
        times_s, *columns = np.array([*self._past, self._moment]).T
        return tuple(float(np.interp(mission_s, times_s, column)) for column in columns)

    @property
    def told(self) -> bool:
        """Whether charge and temperature are what was measured in this launch, and not only modelled since."""
        return not self.external or self._told_s > -math.inf

    def _put_right(self, reading: Reading, since_s: float) -> None:
        """`since_s`: since the reading before. The model had but that time to stray: what a reading says more is its
        sensor's noise, at every turn of which a rule at its limit would stop and start."""
        plant, state = self.scenario.plant, self.state
        then_wh, then_j, rejected_wh, harvest_wh = self._then(reading.mission_s)
        heat_j = float(plant.heat_at(reading.plate_c))
        # While the phase-change material melts, temperature does not tell the enthalpy: the model does, where it can.
        melts = plant.latent_j > 0.0 and abs(reading.plate_c - plant.melting_c) <= SPREAD_K
        if melts:
            heat_j = min(max(then_j, min(heat_j, 0.0)), max(heat_j, plant.latent_j))
        believed = -math.expm1(-since_s / SMOOTHED_S)
        strays_wh, strays_j = reading.charge_wh - then_wh, heat_j - then_j
        most_wh = max(float(self._simulator.plant.full_wh(state)), reading.charge_wh)
        charge_wh = min(max(state.charge_wh + believed * strays_wh, 0.0), most_wh)
        error_wh, error_j = charge_wh - state.charge_wh, believed * strays_j
        self._unheard_wh = strays_wh - error_wh
        self.state = state._replace(charge_wh=charge_wh, heat_j=state.heat_j + error_j)
        self._past = deque((time_s, wh + error_wh, j + error_j, *books) for time_s, wh, j, *books in self._past)
        if since_s > self._config.telemetry.max_age_s:
            self.radiator.lose_sight()
            self.battery.lose_sight()
        self.radiator.read(rejected_wh * HOUR_S, strays_j, error_j, not melts)
        self.battery.read(then_wh + error_wh, error_wh, harvest_wh)

    @property
    def _moment(self) -> tuple[float, ...]:
        state = self.state
        return self._until_s, state.charge_wh, state.heat_j, state.rejected_wh, state.harvest_wh

    def _remember(self) -> None:
        """Keeps the plant of the last while: a reading may be of then."""
        past, oldest_s = self._past, max(self._believed_s, self._until_s - self._config.telemetry.max_age_s)
        if self._until_s - past[-1][0] >= REMEMBERED_S:
            past.append(self._moment)
        while len(past) > 1 and past[1][0] <= oldest_s:
            past.popleft()

    def _modelled(self) -> Reading:
        plate_c = float(self.scenario.plant.plate_c(self.state.heat_j))
        return Reading(self._until_s, self.state.charge_wh, plate_c)

    @property
    def orbits(self) -> float:
        """Revolutions since the run began."""
        track = self.scenario.timeline.track
        return track.revolutions(self._until_s) - track.revolutions(self.started_s)

    @property
    def granted(self) -> float:
        """How much may be worked before the governor is asked again [steps]."""
        return self.payload.part

    def ready(self, within_s: float) -> bool:
        """Whether GPU and host, switched on by now, train `within_s` from here."""
        if self.payload.on:
            return self.payload.restart_left_s < within_s
        return self.simulated and self.scenario.restart_s < within_s

    def obey(self, mode: Mode, cap_w: float, deadline_s: float, steps: int) -> None:
        """Does as the governor says until it is asked again: at `deadline_s`, or after `steps` steps.

        Args:
            mode, cap_w: what GPU and host shall do.
            deadline_s: mission time of the next poll, if nothing is worked before.
            steps: what a real clock grants; on the simulated one, it is what fits into the slot.
        """
        self.cap_w = cap_w
        if self.simulated:
            return self._slot(cap_w, deadline_s - self.clock.now())
        if mode == Mode.OFF:
            self.clock.spend(max(0.0, deadline_s - self.clock.now()))
        seconds = self._pass(self.scenario.command(Mode.OFF if mode == Mode.OFF else Mode.RESTART))
        self.mode = mode
        self.payload = self.payload.slot(cap_w, seconds, 0.0, 0.0)[0]._replace(part=float(steps))

    def _slot(self, cap_w: float, seconds: float) -> None:
        scenario = self.scenario
        self.payload, work = self.payload.slot(cap_w, seconds, scenario.restart_s, scenario.steps_per_s(cap_w))
        self.payload = self.payload._replace(part=self.payload.part + work.steps)  # granted, not yet worked
        training = scenario.command(Mode.TRAIN, cap_w)
        gpu_w = work.gpu_w(training.gpu_w, scenario.curve.idle_w, seconds)
        self.clock.spend(seconds)
        self._pass(Command(gpu_w, scenario.host_w * self.payload.on))
        self.mode = Mode.TRAIN if work.training_s > 0.0 else Mode(int(self.payload.on))
        self._count(work.training_s, training)

    def worked(self, steps: float, gpu_w: float | None = None) -> float:
        """A piece of work is done, given in training steps; returns the time that it took on a real clock [s].

        Args:
            gpu_w: what the GPU drew meanwhile on a real clock; null: as much as was commanded.
        """
        self.payload = self.payload._replace(part=self.payload.part - steps)  # a replay may overdraw it
        if self.simulated:
            return 0.0
        training = self.scenario.command(Mode.TRAIN, self.cap_w if gpu_w is None else gpu_w)
        seconds = self._pass(training)
        self._count(seconds, training)
        return seconds

    def _count(self, seconds: float, command: Command) -> None:
        self.train_s += seconds
        self.train_wh += float(self.scenario.plant.payload_w(command)) * seconds / HOUR_S

    def catch_up(self) -> None:
        """On a real clock, time passes between pieces of work too: brings the plant to now under the present load."""
        if not self.simulated:
            self._pass(self.scenario.command(self.mode))

    def follow_clock(self) -> float:
        """Goes with this machine's clock where that was set, for good, and telemetry does not go by the time of before;
        returns by how much [s]."""
        set_s = self.clock.strayed_s()
        if not set_s or self._contradicted(set_s):
            return 0.0
        self.catch_up()
        self.clock.shift(set_s)
        self._rename(set_s)
        self.source.shift(set_s)
        return set_s

    def _contradicted(self, set_s: float) -> bool:
        """Whether the orbit is not known at what the clock was set to, or readings since are of the time of before."""
        now_s, track = self.clock.now(), self.scenario.timeline.track
        try:  # a look ahead goes beyond the revolution
            track.positions_km(now_s + set_s + np.array([0.0, 2.0 * track.period_s]))
        except BadInput:
            return True
        told_s = self._measured()
        if told_s is None or told_s <= now_s - max(SETTLED_S, self._config.telemetry.max_age_s):
            return False
        return abs(now_s - told_s) < abs(now_s + set_s - told_s)

    def _measured(self) -> float | None:
        """Mission time of the newest reading from outside [s]."""
        reading = self.source.newest() if self.external else None
        return reading.mission_s if reading else None

    def _rename(self, set_s: float) -> None:
        """A clock that is set gives this moment, and those before it, other names: nothing was drawn or harvested.

        So has the run's start. But an earlier launch may have told the time aright: then a clock that is set back takes
        it no further back than clocks set forward have brought it.
        """
        self._until_s += set_s
        least_s = max(set_s, -self._start_ahead_s)
        told_aright = set_s < 0.0 and not self.begun_here and self.started_s + least_s <= self._until_s
        start_s = least_s if told_aright else set_s
        self.started_s += start_s
        self._start_ahead_s = max(0.0, self._start_ahead_s + start_s)
        self._believed_s += set_s
        self._told_s += set_s
        self._doubted = None
        self._past = deque((time_s + set_s, *rest) for time_s, *rest in self._past)

    def pause(self, seconds: float) -> None:
        """GPU on and idle for `seconds` of a real clock, to go on at once: a part of the work that needs it."""
        self.clock.spend(seconds)
        resting = self.scenario.command(Mode.RESTART)
        self._count(self._pass(resting), resting)

    def close(self) -> None:
        if "source" in self.__dict__:
            self.source.close()

    def _pass(self, command: Command, powered: bool = True) -> float:
        """Brings the plant from where it stands to the clock's time under a load; returns that time [s]."""
        before_s, self._until_s = self._until_s, self.clock.now()
        seconds = self._until_s - before_s
        simulator = self._simulator if powered else self._simulator.without_power()
        self.state = simulator.advance(self.state, command, before_s, seconds)
        dark = self.scenario.timeline.light(self._until_s) < 0.5
        self.eclipses += dark and not self._was_dark
        self._was_dark = dark
        if self.external:
            self._remember()
            if self._holds_unknown and not command.gpu_w:
                self.radiator.lose_sight()
        return seconds
