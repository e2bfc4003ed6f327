"""When a plan gives up power, why, and how long before a limit: the moments at which the state must be sealed."""

from enum import Enum
from typing import NamedTuple

import numpy as np

from pipeline.plan.forecast import SLOT_S, Forecast
from pipeline.plan.greedy import POLL_S
from pipeline.plan.scenario import Scenario

NOTICE_S = POLL_S - SLOT_S  # a rule stops where one more poll interval would not fit; a slot before, it did
HOT_K = 5.0  # a plate so near its limit is what training stops for, whatever the charge


class StopKind(Enum):
    """Why training stops."""

    UMBRA = "umbra"  # the battery must carry the bus through the shadow under way or ahead
    LOW_CHARGE = "low charge"  # nothing is left to spend in sunlight
    HOT = "hot"  # the plate is at its limit, or at the junction's


class Stop(NamedTuple):
    """A planned end of training. A checkpoint of its last step is sealed within NOTICE_S, in which reserve and limits
    hold even if training goes on."""

    time_s: float  # mission time of the last slot's end
    kind: StopKind


def stops(scenario: Scenario, flight: Forecast) -> list[Stop]:
    """The stops of a forecast, in order."""
    return [_stop(scenario, flight, time_s) for time_s in flight.stops_s]


def stop_kind(scenario: Scenario, time_s: float, plate_c: float, cap_w: float) -> StopKind:
    """Why training stops at a moment at which a rule gives up the power `cap_w`."""
    if plate_c > scenario.plant.limit_at(cap_w) - HOT_K:
        return StopKind.HOT
    return StopKind.UMBRA if scenario.timeline.light(time_s + POLL_S) < 1.0 else StopKind.LOW_CHARGE


def _stop(scenario: Scenario, flight: Forecast, time_s: float) -> Stop:
    slot = max(0, int(np.searchsorted(flight.time_s, time_s - 0.5 * SLOT_S)))
    plate_c, cap_w = float(flight.trace.plate_c[slot]), float(flight.trace.cap_w[slot])
    return Stop(time_s, stop_kind(scenario, time_s, plate_c, cap_w))
