"""The powers worth training at."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pipeline.plan.scenario import Scenario
from pipeline.power import Command


@dataclass(frozen=True)
class Levels:
    """GPU powers from the most efficient to the full one, with what each draws and gives."""

    cap_w: Float[np.ndarray, " level"]
    payload_w: Float[np.ndarray, " level"]  # at the regulator's input, host included
    steps_per_s: Float[np.ndarray, " level"]


def levels(scenario: Scenario) -> Levels:
    """The points of the GPU's curve from p*, the one with the most steps per watt-hour, up.

    Below p*, time-sharing p* with off gives more steps for the same energy. Between points the curve is a line, along
    which time-sharing its ends gives the same, so the points are all that a plan needs.
    """
    caps_w = scenario.curve.watts[scenario.curve.shares > 0.0]
    payload_w = scenario.plant.payload_w(Command(caps_w, scenario.host_w))
    steps_per_s = np.array([1.0 / scenario.step_seconds(float(cap_w)) for cap_w in caps_w])
    best = int(np.argmax(steps_per_s / payload_w))
    return Levels(caps_w[best:], payload_w[best:], steps_per_s[best:])
