"""What the optimal plan must beat, or else use: simple rules, all of which keep the umbra's reserve."""

import numpy as np

from pipeline.orbit.timeline import DAY_S
from pipeline.plan.greedy import Greedy, Limits
from pipeline.plan.levels import levels
from pipeline.plan.scenario import Scenario
from pipeline.power import Ambient
from pipeline.power.simulator import columns


def baselines(scenario: Scenario) -> dict[str, Greedy]:
    """The simple rules by name.

    Raises:
        BadInput: the satellite would not live through a hold (`reserve.require_hold`).
    """
    on = levels(scenario)
    ambient = _first_day(scenario)
    surplus_w = scenario.plant.array_w(ambient) - scenario.plant.bus_load_w(ambient)
    sunlit_w = float(np.mean(surplus_w[ambient.illumination >= 1.0]))
    return {
        "full_power": Greedy(scenario),
        "efficient_point": Greedy(scenario, float(on.cap_w[on.efficient])),
        "sunlight_only": SunlightOnly(scenario, _cap_w(scenario, sunlit_w)),
        "constant": Greedy(scenario, _cap_w(scenario, float(np.mean(surplus_w)))),
    }


class SunlightOnly(Greedy):
    """The greedy rule, off from the first moment of penumbra to the last."""

    def _limits(self, day: int) -> Limits:
        limits = super()._limits(day)
        sky = self.scenario.timeline.span(day * DAY_S, 2.0 * DAY_S)
        return limits._replace(stop_wh=np.where(sky.illumination < 1.0, np.inf, limits.stop_wh))


def _first_day(scenario: Scenario) -> Ambient:
    day = scenario.timeline.day(0)
    return Ambient(day.time_s, *columns(day))


def _cap_w(scenario: Scenario, payload_w: float) -> float:
    """The GPU power that draws `payload_w` at the regulator's input, as near as the worthwhile powers allow [W]."""
    on = levels(scenario).worthwhile
    return float(np.interp(payload_w, on.payload_w, on.cap_w))
