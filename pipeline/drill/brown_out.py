"""Outages in mission time: when radiation or a low battery takes the power away, and for how long it is dark.

The rate of outages follows the hazard along the track, and rises with the depth of discharge: a bus that sags trips on
loads that it carries easily when full. How much is assumed; that a brown-out comes to a satellite that works its
battery hardest is not.
"""

import numpy as np

from pipeline.config import RunFailed
from pipeline.drill.run import Run
from pipeline.drill.setting import Setting
from pipeline.orbit import environment
from pipeline.orbit.timeline import DAY_S
from pipeline.plan import Mode, Scenario, scenario
from pipeline.power import Simulator, State, fresh

DISCHARGED = 30.0  # rate at the depth-of-discharge floor, over that of a full battery outside the anomaly; assumed
A_RUN = 5.0  # outages that the undisturbed mission would have on average
RECHARGED = 0.9  # state of charge at which a satellite that browned out switches its payload on again
REBOOT_S = 60.0  # shortest outage
GRID_S = 10.0
LONGEST_DARK_S = 3 * DAY_S
TINY_FLOPS = 1.0  # of a step, where nothing is worked


class BrownOut:
    """Draws outages for the runs of one drill; modelled."""

    def __init__(self, setting: Setting) -> None:
        config = setting.config
        self._config, self._dice = config, setting.dice
        self._charge = setting.undisturbed.charge
        self._scenario: Scenario = scenario(config.orbit, config.satellite, config.gpu, config.mission, TINY_FLOPS)
        self._simulator = Simulator(config.satellite, self._scenario.timeline).without_power()

    def __call__(self, run: Run) -> bool:
        """One outage, counted; the next launch begins when the satellite has recharged. False if the run was done."""
        if not run.wait(lambda: run.happened("first_step")):
            return False
        outage_s = self._next_outage_s(run.events[-1]["mission_s"])
        if not run.wait(lambda: bool(run.events) and run.events[-1]["mission_s"] >= outage_s):
            return False
        seen = next((event for event in reversed(run.events) if "charge_wh" in event), None)
        if not run.lose_power("brown-out"):
            return False
        run.not_before_s = self._recharged_s(max(outage_s, run.events[-1]["mission_s"]), seen)
        return True

    def _next_outage_s(self, now_s: float) -> float:
        """Mission time of the next outage: a Poisson process whose rate varies in time."""
        period_s = self._scenario.timeline.track.period_s
        mission_s = max(self._charge[-1][0], period_s)
        sky = environment(self._scenario.timeline.track, now_s, mission_s, GRID_S)
        rate = sky.hazard + DISCHARGED * self._discharge(sky.time_s)
        due = np.cumsum(rate) / rate.sum() * A_RUN
        at = int(np.searchsorted(due, self._dice.expovariate(1.0)))
        return float(sky.time_s[min(at, len(due) - 1)])

    def _discharge(self, time_s: np.ndarray) -> np.ndarray:
        """Share of the usable charge that is spent, as in the undisturbed run; after its end, as in its last orbits."""
        seen_s, charge = np.array(self._charge).T
        period_s = self._scenario.timeline.track.period_s
        late = np.ceil(np.maximum(time_s - seen_s[-1], 0.0) / period_s) * period_s
        spent = 1.0 - np.interp(time_s - late, seen_s, charge)
        return np.clip(spent / self._config.satellite.battery.depth_of_discharge, 0.0, 1.0)

    def _recharged_s(self, outage_s: float, seen: dict | None) -> float:
        """Mission time at which charge and Sun allow the payload again, everything but the bus off until then."""
        state: State = fresh(self._config.satellite)
        plant = self._scenario.plant
        if seen:
            heat_j = float(plant.heat_at(seen["temperature_c"]))
            state = state._replace(charge_wh=seen["charge_wh"], heat_j=heat_j)
        off, now_s = self._scenario.command(Mode.OFF), outage_s
        while now_s < outage_s + LONGEST_DARK_S:
            state = self._simulator.advance(state, off, now_s, REBOOT_S)
            now_s += REBOOT_S
            charged = state.charge_wh >= RECHARGED * float(plant.full_wh(state))
            if charged and self._scenario.timeline.light(now_s) > 0.5:
                return float(np.ceil(now_s / GRID_S) * GRID_S)
        raise RunFailed(
            f"the satellite does not recharge within {LONGEST_DARK_S / DAY_S:.0f} days after an outage at mission "
            f"second {outage_s:.0f}; give it a larger satellite.array.area_m2"
        )
