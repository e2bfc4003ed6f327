"""Whether it is safe to compute, from measured charge and temperature alone: it knows no plan and trusts none."""

from dataclasses import dataclass

from pipeline.config.mission import Satellite
from pipeline.flight.telemetry import Reading


@dataclass
class Watchdog:
    """SAFE once a limit is crossed or telemetry is stale; released when all is well again by a margin.

    It guards the same limits as the plan, which keeps its distance from them: a watchdog that barks means that plan
    and satellite have parted.
    """

    satellite: Satellite
    max_age_s: float
    margin: float = 0.02  # of capacity, and of the span between plate limit and 0 °C, before it releases
    safe: str | None = None  # why; None when it is safe to compute

    def check(self, reading: Reading | None, now_s: float) -> str | None:
        """Why the GPU must be off, or None."""
        why = self._why(reading, now_s, 0.0)
        if self.safe and not why and self._why(reading, now_s, self.margin):
            return self.safe
        self.safe = why
        return why

    def _why(self, reading: Reading | None, now_s: float, margin: float) -> str | None:
        battery, radiator = self.satellite.battery, self.satellite.radiator
        if reading is None:
            return "no telemetry yet"
        if now_s - reading.mission_s > self.max_age_s:
            return f"telemetry is {now_s - reading.mission_s:.0f} s old"
        if why := reading.impossible(battery.capacity_wh):
            return why
        floor_wh = battery.capacity_wh * (1.0 - battery.depth_of_discharge + margin)
        if reading.charge_wh < floor_wh:
            return f"charge {reading.charge_wh:.0f} Wh under {floor_wh:.0f} Wh"
        limit_c = radiator.limit_c - margin * abs(radiator.limit_c)
        if reading.plate_c > limit_c:
            return f"plate {reading.plate_c:.1f} °C over {limit_c:.1f} °C"
        return None
