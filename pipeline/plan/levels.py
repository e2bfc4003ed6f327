"""The powers that a plan chooses from."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pipeline.plan.scenario import Scenario
from pipeline.power import Command

WORTH = 0.8
BEND = 0.005
MOST_BENDS = 16


@dataclass(frozen=True)
class Levels:
    """GPU powers, rising, with what each draws and gives."""

    cap_w: Float[np.ndarray, " level"]
    payload_w: Float[np.ndarray, " level"]  # at the regulator's input, host included
    steps_per_s: Float[np.ndarray, " level"]

    @property
    def efficient(self) -> int:
        """Which one is p*, with the most steps per watt-hour."""
        return int(np.argmax(self.steps_per_s / self.payload_w))

    @property
    def worthwhile(self) -> "Levels":
        """Those from the lowest that still has `WORTH` of p*'s steps per watt-hour.

        Were restarts and the battery free, nothing below p* would be worth it: p* part of the time gives more. They
        are not, so that a steady power below p* can win, as where the radiator sets the mean.
        """
        efficiency = self.steps_per_s / self.payload_w
        lowest = int(np.argmax(efficiency >= WORTH * efficiency.max()))
        return Levels(self.cap_w[lowest:], self.payload_w[lowest:], self.steps_per_s[lowest:])


def levels(scenario: Scenario) -> Levels:
    """The points of the GPU's curve; at the first, it may stand still.

    Throughput is linear between them, steps are not where the time beside their arithmetic counts: there are more
    points where the chord would be off by more than `BEND`.
    """
    caps_w, made = scenario.curve.watts, at(scenario, scenario.curve.watts)
    between = everywhere(scenario)
    for _ in range(MOST_BENDS):
        bends = between.steps_per_s / np.interp(between.cap_w, made.cap_w, made.steps_per_s)
        if bends.max() <= 1.0 + BEND:
            break
        caps_w = np.sort(np.append(caps_w, between.cap_w[np.argmax(bends)]))
        made = at(scenario, caps_w)
    return made


def everywhere(scenario: Scenario) -> Levels:
    """Powers as dense as the bends of the curve ask for, densest where it leaves standstill."""
    lowest_w, highest_w = scenario.curve.watts[[0, -1]]
    return at(
        scenario,
        lowest_w + (highest_w - lowest_w) * np.union1d(np.linspace(0, 1, 4001)[1:], np.geomspace(1e-7, 1, 2001)),
    )


def at(scenario: Scenario, caps_w: Float[np.ndarray, " level"]) -> Levels:
    """What each of some GPU powers draws and gives."""
    shares = np.interp(caps_w, scenario.curve.watts, scenario.curve.shares)
    machine = scenario.machine()
    steps_per_s = shares / (machine.overhead_s * shares + machine.step_s)
    return Levels(caps_w, scenario.plant.payload_w(Command(scenario.draw * caps_w, scenario.host_w)), steps_per_s)


def hull(points: Float[np.ndarray, "point 2"]) -> Float[np.ndarray, "corner 2"]:
    """The corners of the upper concave hull of points in rising x (Andrew's monotone chain, 1979)."""
    corners: list[Float[np.ndarray, " 2"]] = []
    for point in points:
        while len(corners) > 1:
            (x0, y0), (x1, y1) = corners[-2], corners[-1]
            if (y1 - y0) * (point[0] - x0) > (point[1] - y0) * (x1 - x0):
                break
            corners.pop()
        corners.append(point)
    return np.array(corners)
