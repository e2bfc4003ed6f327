"""The satellite as the job meets it: what time it is, what charge there is, and what a piece of work costs."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from pipeline.config import BadInput, Config
from pipeline.flight.clock import Clock, RealClock, SimulatedClock
from pipeline.flight.telemetry import FileSource, Reading, SimulatedSource, Source, UdpSource
from pipeline.plan import Mode, Scenario
from pipeline.power import Command, Simulator, State, fresh, from_json, to_json

HOUR_S = 3600.0
CLOCK_SLACK_S = 5.0  # telemetry from further in the future than this is not believed
DRIFT_K = 2.0  # by so much may the modelled plate stray from the measured one before it is put right


@dataclass(frozen=True)
class Telemetry:
    """One moment of the satellite: the plant flown along the orbit beside the job, put right by what is measured."""

    mission_s: float
    charge_wh: float
    charge: float  # state of charge, share of the capacity
    plate_c: float
    heat_j: float
    sunlit: float  # visible share of the Sun's disk
    orbit: int  # number of the revolution, from 1


class Spent(NamedTuple):
    """What a piece of work took. Watt-hours at the input of the regulator of GPU and host."""

    seconds: float
    wh: float


class Spacecraft:
    """Clock and plant together: each piece of work and each pause lets both go on by the same time."""

    def __init__(self, config: Config, scenario: Scenario, saved: dict[str, Any]):
        """`saved` is what `as_json` gave, or {} at the start of a mission."""
        self.scenario = scenario
        self._config = config
        area_m2 = config.satellite.array.area_m2 * (1.0 + config.mission.harvest_error)
        array = config.satellite.array.model_copy(update={"area_m2": area_m2})
        self._simulator = Simulator(config.satellite.model_copy(update={"array": array}), scenario.timeline)
        self.state: State = from_json(saved["plant"]) if saved else fresh(config.satellite)
        self.mode = Mode(saved.get("mode", Mode.OFF))
        self.train_s: float = saved.get("train_s", 0.0)  # mission time spent training and validating
        self.train_wh: float = saved.get("train_wh", 0.0)  # drawn by GPU and host in that time
        self.eclipses: int = saved.get("eclipses", 0)
        self._was_dark: bool = saved.get("dark", False)
        self.simulated = config.mission.clock == "simulated"
        self.clock: Clock
        if self.simulated:
            # What was killed is the process, not the satellite: modelled time goes on where the checkpoint was taken.
            self.clock = SimulatedClock(saved.get("now_s", 0.0))
        else:
            self.clock = RealClock(scenario.timeline.track.utc(0.0))
        now_s = self.clock.now()
        if saved and now_s < saved["now_s"]:
            raise BadInput(
                f"mission.clock: this machine's clock says mission second {now_s:.0f}, the checkpoint "
                f"{saved['now_s']:.0f}; set the clock"
            )
        self.started_s: float = saved.get("started_s", now_s)
        self._until_s: float = saved.get("now_s", now_s)
        self._believed_s = self._until_s - self._config.telemetry.max_age_s
        self.was_dark_since_saved = self._until_s < now_s
        if saved and self.was_dark_since_saved:
            self._pass(Mode.OFF)

    def as_json(self) -> dict[str, Any]:
        return {
            "now_s": self._until_s,
            "started_s": self.started_s,
            "mode": int(self.mode),
            "train_s": self.train_s,
            "train_wh": self.train_wh,
            "eclipses": self.eclipses,
            "dark": self._was_dark,
            "plant": to_json(self.state),
        }

    def telemetry(self) -> Telemetry:
        plant, ambient = self.scenario.plant, self._simulator.ambient(self._until_s)
        return Telemetry(
            mission_s=self._until_s,
            charge_wh=self.state.charge_wh,
            charge=self.state.charge_wh / float(plant.full_wh(self.state)),
            plate_c=float(plant.plate_c(self.state.heat_j)),
            heat_j=self.state.heat_j,
            sunlit=ambient.illumination,
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

    def measure(self) -> Reading | None:
        """The newest reading. One from outside puts the plant right."""
        reading = self.source.newest()
        if reading and self._config.telemetry.source != "simulated" and reading.mission_s > self._believed_s:
            self._believed_s = reading.mission_s
            plant = self.scenario.plant
            heat_j = self.state.heat_j
            # While the phase-change material melts, temperature does not tell the enthalpy: the model does.
            if abs(float(plant.plate_c(heat_j)) - reading.plate_c) > DRIFT_K:
                heat_j = float(plant.heat_at(reading.plate_c))
            self.state = self.state._replace(charge_wh=max(reading.charge_wh, 0.0), heat_j=heat_j)
        return reading

    def _modelled(self) -> Reading:
        plate_c = float(self.scenario.plant.plate_c(self.state.heat_j))
        return Reading(self._until_s, self.state.charge_wh, plate_c)

    @property
    def orbits(self) -> float:
        """Revolutions since the run began."""
        track = self.scenario.timeline.track
        return track.revolutions(self._until_s) - track.revolutions(self.started_s)

    def work(self, steps: float, cap_w: float) -> Spent:
        """Lets the time of `steps` steps' arithmetic pass; on a real clock it has passed already."""
        if self.simulated:
            self.clock.spend(steps * self.scenario.step_seconds(cap_w))
        spent = self._pass(Mode.TRAIN, cap_w)
        self.train_s += spent.seconds
        self.train_wh += spent.wh
        return spent

    def catch_up(self) -> None:
        """On a real clock, time passes between pieces of work too: brings the plant to now under the present load."""
        if not self.simulated:
            self._pass(self.mode)

    def restart(self) -> Spent:
        """From power-on of GPU and host to the first step."""
        if self.simulated:
            self.clock.spend(self.scenario.restart_s)
        return self._pass(Mode.RESTART)

    def hold(self, seconds: float) -> Spent:
        """GPU and host off for `seconds`."""
        self.clock.spend(seconds)
        return self._pass(Mode.OFF)

    def pause(self, seconds: float) -> Spent:
        """GPU on and idle for `seconds`, to go on at once."""
        self.clock.spend(seconds)
        spent = self._pass(Mode.RESTART)
        self.mode = Mode.TRAIN
        return spent

    def close(self) -> None:
        if "source" in self.__dict__:
            self.source.close()

    def _pass(self, mode: Mode, cap_w: float | None = None) -> Spent:
        """Brings the plant from where it stands to the clock's time, under the load of `mode`."""
        command: Command = self.scenario.command(mode, cap_w)
        before_s, self._until_s = self._until_s, self.clock.now()
        seconds = self._until_s - before_s
        self.state = self._simulator.advance(self.state, command, before_s, seconds)
        self.mode = mode
        dark = self._simulator.ambient(self._until_s).illumination < 0.5
        self.eclipses += dark and not self._was_dark
        self._was_dark = dark
        return Spent(seconds, float(self.scenario.plant.payload_w(command)) * seconds / HOUR_S)
