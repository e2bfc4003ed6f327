"""Whether it is safe to compute, from measured charge and temperature alone: it knows no plan and trusts none."""

from dataclasses import dataclass
from functools import cached_property

from pipeline.config.mission import Satellite
from pipeline.flight.telemetry import Reading
from pipeline.power import Plant, plant

MARGIN = 0.02  # of capacity, and of the span between plate limit and 0 °C, before it releases


@dataclass
class Watchdog:
    """SAFE once a limit is crossed or telemetry is stale; released when all is well again by a margin.

    It guards the same limits as the plan, which keeps its distance from them: a watchdog that barks means that plan
    and satellite have parted.
    """

    satellite: Satellite
    max_age_s: float
    safe: str | None = None  # why; None when it is safe to compute
    cap_w: float = 0.0  # under which the GPU draws, or drew when it became SAFE: by it, the plate guards the junction

    @cached_property
    def _plant(self) -> Plant:
        return plant(self.satellite)

    def check(self, reading: Reading | None, now_s: float, cap_w: float = 0.0) -> str | None:
        """Why the GPU, under `cap_w` so far, must be off; or None."""
        if not self.safe:
            self.cap_w = cap_w
        why = self._why(reading, now_s, 0.0)
        if self.safe and not why and self._why(reading, now_s, MARGIN):
            return self.safe
        self.safe = why
        return why

    def stale(self, reading: Reading | None, now_s: float) -> bool:
        """Whether nothing tells what charge and temperature are now."""
        return reading is None or now_s - reading.mission_s > self.max_age_s

    def _why(self, reading: Reading | None, now_s: float, margin: float) -> str | None:
        battery = self.satellite.battery
        if reading is None:
            return "no telemetry yet"
        if self.stale(reading, now_s):
            return f"telemetry is {now_s - reading.mission_s:.0f} s old"
        if why := reading.impossible(battery.capacity_wh):
            return why
        floor_wh = battery.capacity_wh * (1.0 - battery.depth_of_discharge + margin)
        if reading.charge_wh < floor_wh:
            return f"charge {reading.charge_wh:.0f} Wh under {floor_wh:.0f} Wh"
        limit_c = float(self._plant.limit_at(self.cap_w))
        limit_c -= margin * abs(limit_c)
        if reading.plate_c > limit_c:
            return f"plate {reading.plate_c:.1f} °C over {limit_c:.1f} °C"
        return None
