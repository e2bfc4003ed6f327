"""What a plan is made for: an orbit's timeline, a plant, a GPU and what one step of training costs."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum

from pipeline.config.mission import Gpu, Mission, Orbit, Satellite
from pipeline.orbit import Timeline, track
from pipeline.plan.flyer import Machine
from pipeline.power import Ambient, Command, GpuCurve, Plant, plant


class Mode(IntEnum):
    """What GPU and host are doing."""

    OFF = 0
    RESTART = 1  # powered, not yet training
    TRAIN = 2


SUNLIT, DARK = Ambient(0.0, 1.0, 0.0, 0.0), Ambient(0.0, 0.0, 0.0, 0.0)  # as the radiator sees them


@dataclass(frozen=True)
class Scenario:
    timeline: Timeline
    satellite: Satellite
    plant: Plant
    curve: GpuCurve
    host_w: float
    restart_s: float
    step_flops: float
    draw: float = 1.0  # power that the GPU draws while training over its cap, as measured
    check: Callable[[], None] = field(default=lambda: None, compare=False)  # called now and then while it is planned

    def command(self, mode: Mode, cap_w: float | None = None) -> Command:
        """What GPU and host draw in a mode; `cap_w` null: full power."""
        if mode == Mode.OFF:
            return Command(0.0, 0.0)
        if mode == Mode.RESTART:
            return Command(self.curve.idle_w, self.host_w)
        return Command(self.draw * (self.curve.full_w if cap_w is None else cap_w), self.host_w)

    def step_seconds(self, cap_w: float | None = None) -> float:
        return self.curve.step_seconds(self.step_flops, cap_w)

    def steps_per_s(self, cap_w: float) -> float:
        """While training; 0 where the GPU is off."""
        return 1.0 / self.step_seconds(cap_w) if cap_w > 0.0 else 0.0

    @property
    def heat_binds(self) -> bool:
        """Whether full power in sunlight, kept up for ever, would pass the plate's limit."""
        limit_j = self.plant.heat_at(self.plant.limit_at(self.curve.full_w))
        return bool(self.plant.payload_w(self.command(Mode.TRAIN)) > self.plant.radiated_w(limit_j, SUNLIT))

    def machine(self) -> Machine:
        """GPU and host as the arrays that a compiled flight takes."""
        curve = self.curve
        seconds = self.step_flops / curve.flops_per_s, curve.overhead_s
        return Machine(curve.shares, curve.watts, *seconds, curve.idle_w, self.host_w, self.restart_s, self.draw)


def scenario(orbit: Orbit, satellite: Satellite, gpu: Gpu, mission: Mission, step_flops: float) -> Scenario:
    """The scenario of a configuration. `step_flops` is the model's own; `mission.step_flops` replaces it where given.

    Raises:
        BadInput: elements that cannot be read.
    """
    real = mission.clock == "real"  # there nobody switches GPU and host off in a hold
    if real and satellite.loads.hold_w is None:
        loads = satellite.loads.model_copy(update={"hold_w": gpu.idle_w + satellite.loads.host_w})
        satellite = satellite.model_copy(update={"loads": loads})
    return Scenario(
        Timeline(track(orbit), mission.stations),
        satellite,
        plant(satellite),
        GpuCurve(gpu),
        satellite.loads.host_w,
        0.0 if real else mission.restart_s,
        mission.step_flops or step_flops,
    )
