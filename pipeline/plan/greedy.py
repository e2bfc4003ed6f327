"""The greedy rule: train at full power while charge and heat allow, keep the umbra's reserve, hold otherwise."""

from functools import lru_cache
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from pipeline.orbit.timeline import DAY_S
from pipeline.plan.reserve import overdrawn, require_hold, reserve_after_wh, reserve_wh, stored_wh
from pipeline.plan.scenario import SUNLIT, Mode, Scenario
from pipeline.power.plant import Scalar

MARGIN = 0.05  # harvest may be so much smaller, load so much larger, than modelled
POLL_S = 30.0  # longest time that the flight loop works between two polls
DWELL_S = 300.0  # training begins only where a restart and this much training fit: restarts cost energy
FULL = 0.98  # of what the battery holds by now: it need not become fuller to begin

Series = Float[np.ndarray, " time"]


class Limits(NamedTuple):
    """Where training may begin and must end, at one moment or along time."""

    start_wh: Scalar  # a restart and a dwell fit
    least_wh: Scalar  # a restart fits: enough where even a full battery does not hold a dwell
    stop_wh: Scalar
    start_j: Scalar
    stop_j: Scalar


def decide(charge_wh: Scalar, heat_j: Scalar, training: Scalar, full_wh: Scalar, limits: Limits) -> Scalar:
    """Whether to train until the next poll. Comparisons alone, so that floats and traced arrays both pass.

    Two pairs of thresholds keep it from chattering: it begins where a restart and a dwell fit, and goes on while one
    more poll fits. What fits leaves the umbra's reserve untouched and the plate below its limit.

    Args:
        full_wh: what the faded battery holds.
    """
    fits = (charge_wh >= limits.stop_wh) & (heat_j <= limits.stop_j)
    enough = (charge_wh >= limits.start_wh) | (charge_wh >= FULL * full_wh)
    begins = enough & (charge_wh >= limits.least_wh) & (heat_j <= limits.start_j)
    return fits & (begins | training)


class Greedy:
    """The rule for one scenario, for any moment of it."""

    def __init__(self, scenario: Scenario, cap_w: float | None = None) -> None:
        """`cap_w`: power while training, full power if null.

        Raises:
            BadInput: the satellite would not live through a hold (`reserve.require_hold`).
        """
        self.scenario = scenario
        self.cap_w = scenario.curve.full_w if cap_w is None else cap_w
        self._day = lru_cache(maxsize=8)(self._limits)
        sky = scenario.timeline.span(0.0, 2.0 * DAY_S)
        require_hold(scenario.plant, sky, MARGIN, scenario.satellite.battery.initial_c)

    def poll(self, time_s: float, charge_wh: float, heat_j: float, training: bool, full_wh: float) -> float:
        """Power that the GPU may draw until the next poll, within `POLL_S` [W]; 0: off."""
        return self.cap_w if decide(charge_wh, heat_j, training, full_wh, self._now(time_s)) else 0.0

    def piece(self, time_s: Series) -> tuple[float, Limits]:
        """The power, and the limits at each of `time_s`, as the forecast scans them."""
        number = time_s // DAY_S
        slot = ((time_s - number * DAY_S) / self.scenario.timeline.step_s).astype(int)
        days = [(self._day(int(day)), slot[number == day]) for day in np.unique(number)]
        rows = [np.broadcast_arrays(*(series[at] for series in day[:3]), *day[3:]) for day, at in days]
        return self.cap_w, Limits(*np.concatenate(rows, axis=1))

    @staticmethod
    def act(cap_w: Scalar, now: Limits, charge_wh: Scalar, heat_j: Scalar, training: Scalar, full_wh: Scalar) -> Scalar:
        """`poll`, for a scan."""
        return jnp.where(decide(charge_wh, heat_j, training, full_wh, now), cap_w, 0.0)

    def _now(self, time_s: float) -> Limits:
        day = self.scenario.timeline.number(time_s)
        limits = self._day(day)
        slot = int((time_s - day * DAY_S) / self.scenario.timeline.step_s)
        start_wh, least_wh, stop_wh = (series[slot] for series in limits[:3])
        return Limits(start_wh, least_wh, stop_wh, limits.start_j, limits.stop_j)

    def _limits(self, day: int) -> Limits:
        plant, timeline = self.scenario.plant, self.scenario.timeline
        sky = timeline.span(day * DAY_S, 2.0 * DAY_S)
        command = self.scenario.command(Mode.TRAIN, self.cap_w)
        reserve, stored = reserve_wh(plant, sky, MARGIN), stored_wh(plant, sky, command, MARGIN)
        poll = 1 + int(np.ceil(POLL_S / timeline.step_s))
        restart = int(np.ceil(self.scenario.restart_s / timeline.step_s))
        dwell = poll + restart + int(np.ceil(DWELL_S / timeline.step_s))
        served = np.where(overdrawn(plant, sky, command, MARGIN), np.inf, reserve)
        stop_wh = reserve_after_wh(served, stored, poll)
        # A restart is not interrupted: it must end where training may go on.
        waiting = stored_wh(plant, sky, self.scenario.command(Mode.RESTART), MARGIN)
        least_wh = reserve_after_wh(stop_wh, waiting, restart)
        start_wh = reserve_after_wh(reserve, stored, dwell)
        start_j, stop_j = self._heat_limits(poll * timeline.step_s, dwell * timeline.step_s)
        return Limits(start_wh, least_wh, stop_wh, start_j, stop_j)

    def _heat_limits(self, poll_s: float, dwell_s: float) -> tuple[float, float]:
        """Enthalpies from which one poll, or restart and dwell, end at or below the limit in full sunlight [J]."""
        plant = self.scenario.plant
        heating_w = plant.payload_w(self.scenario.command(Mode.TRAIN, self.cap_w)) * (1.0 + MARGIN)
        limit_j = plant.heat_at(plant.limit_at(self.cap_w))

        def begin_j(seconds: float) -> float:
            # It radiates least where it is coldest, at the beginning.
            lowest_j = limit_j - heating_w * seconds
            return limit_j - max(heating_w - plant.radiated_w(lowest_j, SUNLIT), 0.0) * seconds

        stop_j = begin_j(poll_s)
        # A plate too light for a whole dwell would otherwise never cool enough to begin.
        return max(min(begin_j(dwell_s), stop_j), 0.5 * (plant.resting_j(SUNLIT) + stop_j)), stop_j
