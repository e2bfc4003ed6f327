"""What the plan expects of the revolution ahead, and how the satellite does against it."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from pipeline.flight.governor import Governor
from pipeline.flight.progress import Measured, Progress
from pipeline.flight.spacecraft import Spacecraft
from pipeline.flight.watchdog import MARGIN
from pipeline.lm.schedule import NEVER
from pipeline.plan import Forecast, Payload, Stop, forecast, stops
from pipeline.power import from_json

NO_SURPRISE = 0.002  # of a harvest: the rounding of whole steps
BAND_CHARGE = 0.04  # of capacity, around the charge that was predicted
BAND_K = 3.0  # around the predicted plate; twice that with what training for one slot less or more makes of it
SOONEST_S = 900.0  # a satellite that strays again is not looked at sooner
OFF_PACE = 0.1  # of the time of a step: so much more or less than planned with changes how many fit into the budget
OFF_PACE_S = 60.0  # nor one whose steps have again another pace sooner than this
LEAST_LIGHT = 0.25  # of the harvest that was forecast: with less there is too little to tell
MOST_SURPRISE = 0.3  # of one look


@dataclass(frozen=True)
class _Ahead:
    """A forecast, its grid begun by the moment it was made."""

    flight: Forecast
    stops: list[Stop]
    time_s: Float[np.ndarray, " slot"]
    charge_wh: Float[np.ndarray, " slot"]
    plate_c: Float[np.ndarray, " slot"]
    harvest_wh: Float[np.ndarray, " slot"]  # since that moment

    def at(self, column: Float[np.ndarray, " slot"], now_s: float) -> float:
        return float(np.interp(now_s, self.time_s, column))

    def tells(self, now_s: float) -> bool:
        """Whether there has been light enough since to measure the array by it."""
        return self.at(self.harvest_wh, now_s) >= max(LEAST_LIGHT * self.flight.harvest_wh, 1.0)


class Outlook:
    """Made anew each revolution, and when charge or temperature leaves the predicted band.

    What was harvested since the last look, against what was forecast of it, corrects the rule: an array that gives a
    tenth less than modelled is known long before it matters. So does what the plate tells of its radiator.
    """

    def __init__(self, spacecraft: Spacecraft, governor: Governor, progress: Progress):
        self._craft, self._governor, self._progress = spacecraft, governor, progress
        self._period_s = spacecraft.scenario.timeline.track.period_s
        self._ahead: _Ahead | None = None
        self._base: _Ahead | None = None  # what harvest is measured by: an earlier prediction until there is enough
        if progress.planned_from:
            self._ahead = self._base = self._predict(progress.planned_from)
            if progress.measured_from != progress.planned_from:
                self._base = self._predict(progress.measured_from) if progress.measured_from else None

    def due(self) -> str | None:
        """Why it is time to look again, or None."""
        now_s, progress = self._craft.clock.now(), self._progress
        if now_s >= progress.replan_s:
            return "a revolution has passed" if self._ahead else "launch"
        if self._ahead and not self._base and self._craft.told:
            return "there is telemetry"
        since_s = now_s - (progress.replan_s - self._period_s)
        off_pace = self._governor.off_pace
        if since_s >= OFF_PACE_S and progress.cooldown.start == NEVER and abs(off_pace - 1.0) > OFF_PACE:
            return f"a step takes {off_pace:.3g} times as long as planned"
        if self._ahead is None or since_s < SOONEST_S:
            return None
        if self._base is not self._ahead and self._base and self._base.tells(now_s):
            return "harvest can be measured"
        return self._strays(self._ahead, now_s)

    def look(self) -> None:
        """Corrects rule and GPU curve by what was measured, and predicts the revolution that begins now."""
        craft, progress, governor = self._craft, self._progress, self._governor
        now_s = craft.clock.now()
        # A look that comes too early to tell renews the prediction alone: the next may come as early, and so for ever.
        early = self._base is not None and not self._base.tells(now_s)
        harvest, capacity = progress.harvest, progress.capacity
        if self._base and not early:
            capacity, tells = self._measured_capacity()
            if tells:
                harvest = self._measured_harvest(self._base, progress.measured_from, now_s)
        progress.planned_from = craft.as_json()
        progress.replan_s = now_s + self._period_s
        rejection = craft.radiator.measured()
        progress.measured = governor.correct(
            Measured(harvest, governor.slowness, governor.draw, rejection or progress.rejection, capacity)
        )
        if rejection:
            craft.radiator.begin_anew()
        self._ahead = self._predict(progress.planned_from)
        if not craft.told:  # what it begins with is a guess
            progress.measured_from, self._base = {}, None
        elif not early:
            progress.measured_from, self._base = progress.planned_from, self._ahead

    def interrupted(self) -> None:
        """The watchdog has stopped what the plan foresaw.

        Low charge is the very evidence of an array that gives less. After anything else the battery may fill up, or
        is not known, and is no measure of the array.
        """
        battery = self._governor.watchdog.satellite.battery
        # Twice the margin: released by what is measured, which noise may hold below what there is.
        low = 1.0 - battery.depth_of_discharge + 2.0 * MARGIN
        if self._craft.state.charge_wh > low * battery.capacity_wh:
            self.forget()

    def forget(self) -> None:
        """What the plan did not foresee is no measure of the array: the next look only looks ahead."""
        self._progress.planned_from = self._progress.measured_from = {}
        self._ahead = self._base = None

    def next_stop(self) -> Stop | None:
        """The next planned end of training; None where none is in view."""
        now_s = self._craft.clock.now()
        coming = self._ahead.stops if self._ahead else []
        return next((stop for stop in coming if stop.time_s > now_s), None)

    def _predict(self, begun: dict[str, Any]) -> _Ahead:
        """The forecast from a satellite's state, a little beyond the revolution, so that it covers a late look."""
        scenario, state, start_s = self._governor.corrected, from_json(begun["plant"]), begun["now_s"]
        horizon_s = 1.25 * self._period_s
        payload = Payload(*begun["payload"])
        flight = forecast(scenario, self._governor.rule, state, start_s, payload, horizon_s=horizon_s)
        plate_c = float(scenario.plant.plate_c(state.heat_j))
        return _Ahead(
            flight,
            stops(scenario, flight),
            np.append(start_s, flight.time_s),
            np.append(state.charge_wh, flight.trace.charge_wh),
            np.append(plate_c, flight.trace.plate_c),
            np.append(0.0, flight.trace.harvest_wh - state.harvest_wh),
        )

    def _strays(self, ahead: _Ahead, now_s: float) -> str | None:
        craft = self._craft
        charge_wh, plant = craft.state.charge_wh, craft.scenario.plant
        expected_wh = ahead.at(ahead.charge_wh, now_s)
        if abs(charge_wh - expected_wh) > BAND_CHARGE * plant.capacity_wh:
            return f"charge is {charge_wh:.0f} Wh, {expected_wh:.0f} Wh were predicted"
        # At its limit a plate swings with every start and stop, at another phase than predicted: its band is what the
        # prediction has within ten minutes.
        near = np.abs(ahead.time_s - now_s) <= 0.5 * SOONEST_S
        plate_c, low_c, high_c = float(plant.plate_c(craft.state.heat_j)), *_ends(ahead.plate_c[near])
        if not low_c - BAND_K <= plate_c <= high_c + BAND_K:
            return f"plate is at {plate_c:.1f} °C, {low_c:.1f} to {high_c:.1f} °C were predicted"
        return None

    def _measured_capacity(self) -> tuple[float, bool]:
        """Charge that the battery holds over that modelled, to a per cent (what has faded is modelled), and whether it
        tells of the harvest."""
        craft, progress = self._craft, self._progress
        modelled_wh = float(craft.scenario.plant.full_wh(craft.state))
        thought_wh = float(self._governor.corrected.plant.full_wh(craft.state))
        full_wh, tells = craft.battery.found(thought_wh, progress.harvest)
        return (progress.capacity if full_wh == thought_wh else round(full_wh / modelled_wh, 2)), tells

    def _measured_harvest(self, ahead: _Ahead, then: dict[str, Any], now_s: float) -> float:
        """Harvest over that modelled, from the energy that is there now and was not forecast, or was and is not."""
        craft, trace = self._craft, ahead.flight.trace
        harvest_wh = ahead.at(ahead.harvest_wh, now_s)
        train_wh = ahead.at(np.append(0.0, trace.train_wh), now_s)
        stored_wh = craft.state.charge_wh - ahead.at(ahead.charge_wh, now_s)
        stored_wh /= float(craft.scenario.plant.charge_efficiency)
        spent_wh = craft.train_wh - then["train_wh"] - train_wh
        surprise = (stored_wh + spent_wh) / harvest_wh
        if not math.isfinite(surprise) or abs(surprise) < NO_SURPRISE:
            return self._progress.harvest
        return self._progress.harvest * (1.0 + min(max(surprise, -MOST_SURPRISE), MOST_SURPRISE))


def _ends(values: Float[np.ndarray, " slot"]) -> tuple[float, float]:
    return (float(values.min()), float(values.max())) if len(values) else (-math.inf, math.inf)
