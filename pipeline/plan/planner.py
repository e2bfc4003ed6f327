"""The plan in use: the dynamic programme's table, day by day, behind the same rule for the flight loop and for forecasts."""

import math
from functools import lru_cache
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from pipeline.orbit.timeline import DAY_S
from pipeline.plan.dynamic import Choices, Slots, Table, backward
from pipeline.plan.greedy import MARGIN, POLL_S
from pipeline.plan.levels import levels
from pipeline.plan.reserve import reserve_after_wh, reserve_wh, stored_wh
from pipeline.plan.scenario import DARK, SUNLIT, Mode, Scenario
from pipeline.power import OFF, Command, Plant
from pipeline.power.plant import Scalar

SLOT_S = 60.0
CHARGES = 96
HEAT_PITCH_K = 1.0  # a coarser grid of temperature loses whole percents where heat decides

Series = Float[np.ndarray, " time"]


class Row(NamedTuple):
    """What the rule needs of one moment."""

    slot: Scalar  # of the table
    reserve_wh: Scalar
    least_wh: Scalar  # per level: charge from which one more poll interval at it leaves the reserve


class Parameters(NamedTuple):
    table: Table
    plant: Plant
    level_w: Scalar  # GPU power of each level
    payload_w: Scalar
    limit_j: Scalar
    lowest_j: Scalar  # first point of the heat axis
    pitch_j: Scalar


class Planner:
    """The optimal rule for one scenario.

    The table of a day is computed when first asked for, with the day after it in view (or up to `end_s`): 0.5 s.
    """

    def __init__(self, scenario: Scenario, end_s: float = math.inf, slot_s: float = SLOT_S, charges: int = CHARGES, heat_pitch_k: float = HEAT_PITCH_K, cold_k=40.) -> None:
        self.scenario = scenario
        self.end_s, self.slot_s, self.charges, self.heat_pitch_k, self.cold_k = end_s, slot_s, charges, heat_pitch_k, cold_k
        self.levels = levels(scenario)
        plant = scenario.plant
        self._limit_j = plant.heat_at(plant.limit_at(self.levels.cap_w))
        self._heat_j = self._heat_axis()
        self.day = lru_cache(maxsize=3)(self._day)

    def _heat_axis(self) -> Float[np.ndarray, " heat"]:
        plant, top_j = self.scenario.plant, float(self._limit_j.max())
        if not self.scenario.heat_binds:
            return np.array([top_j])
        bottom_j = max(plant.resting_j(DARK), min(top_j, 0.0) - self.cold_k * plant.radiator_j_k)
        return np.linspace(bottom_j, top_j, 2 + math.ceil((top_j - bottom_j) / (plant.radiator_j_k * self.heat_pitch_k)))

    def _day(self, number: int) -> tuple[Table, Series, Float[np.ndarray, "time level"]]:
        scenario, plant, timeline = self.scenario, self.scenario.plant, self.scenario.timeline
        begin_s = number * DAY_S
        sky = timeline.span(begin_s, 3.0 * DAY_S)
        per = round(self.slot_s / timeline.step_s)
        slots = max(1, round((min(begin_s + 2.0 * DAY_S, self.end_s) - begin_s) / self.slot_s))
        edges = per * np.arange(slots + 1)
        reserve = reserve_wh(plant, sky, MARGIN)

        def gained(command: Command) -> Series:
            return np.diff(stored_wh(plant, sky, command, 0.0)[edges])

        commands = [scenario.command(Mode.TRAIN, float(watts)) for watts in self.levels.cap_w]
        restart = scenario.command(Mode.RESTART)
        light = np.add.reduceat(sky.illumination, edges[:-1])[: slots] / per
        inputs = Slots(gained(OFF), gained(restart), np.stack([gained(each) for each in commands], axis=1), reserve[edges[:-1]], reserve[edges[1:]], light)
        waits = int(scenario.restart_s / self.slot_s)
        choices = Choices(self.levels.payload_w, self.levels.cap_w, self.levels.steps_per_s / self.levels.steps_per_s[-1], self._limit_j, plant.payload_w(restart), scenario.restart_s)
        with jax.default_device(jax.devices("cpu")[0]):
            as32 = jax.tree.map(np.float32, (plant, choices, inputs, self._heat_j, self.slot_s))
            table = backward(*as32, self.charges, waits)
        kept = round(DAY_S / self.slot_s)
        polled = 1 + math.ceil(POLL_S / timeline.step_s)
        least = np.stack([reserve_after_wh(reserve, stored_wh(plant, sky, each, MARGIN), polled) for each in commands], axis=1)
        day = round(DAY_S / timeline.step_s)
        return Table(*(np.asarray(part[:kept]) for part in table)), reserve[:day], least[:day]

    def poll(self, time_s: float, charge_wh: float, heat_j: float, on: bool) -> float:
        """Power that the GPU may draw until the next poll, within `POLL_S` [W]; 0: off."""
        number = self.scenario.timeline.number(time_s)
        table, reserve, least = self.day(number)
        slot, sample = self._places(time_s - number * DAY_S)
        row = Row(slot, reserve[sample], least[sample])
        return float(self.act(self._parameters(table), row, np.float64(charge_wh), np.float64(heat_j), on))

    def piece(self, time_s: Series) -> tuple[Parameters, Row]:
        """Arrays and rows with which a forecast flies through evenly spaced moments."""
        numbers = range(self.scenario.timeline.number(time_s[0]), self.scenario.timeline.number(time_s[-1]) + 1)
        days = [self.day(number) for number in numbers]
        table = Table(*(np.concatenate(parts) for parts in zip(*(day[0] for day in days), strict=True)))
        slot, sample = self._places(time_s - numbers[0] * DAY_S)
        slot = np.minimum(slot, len(table.start) - 1)
        reserve, least = (np.concatenate([day[part] for day in days]) for part in (1, 2))
        return self._parameters(table), Row(slot, reserve[sample], least[sample])

    def _places(self, into_s: Scalar) -> tuple[Scalar, Scalar]:
        """Slot of the table and sample of the grid at a time into the first day."""
        return np.asarray(into_s / self.slot_s).astype(int), np.asarray(into_s / self.scenario.timeline.step_s).astype(int)

    def _parameters(self, table: Table) -> Parameters:
        heat_j = self._heat_j
        pitch_j = heat_j[1] - heat_j[0] if len(heat_j) > 1 else 1.0
        return Parameters(table, self.scenario.plant, self.levels.cap_w, self.levels.payload_w, self._limit_j, heat_j[0], pitch_j)

    @staticmethod
    def act(parameters: Parameters, row: Row, charge_wh: Scalar, heat_j: Scalar, on: Scalar) -> Scalar:
        """Power until the next poll [W]; 0: off. Operators and methods alone, so that NumPy and traced arrays both pass.

        The table says what is best; what is allowed is checked anew, for its grid is coarser than the reserve.
        """
        table, plant = parameters.table, parameters.plant
        charges, heats = table.start.shape[1:]
        across = (charge_wh - row.reserve_wh) / (plant.capacity_wh - row.reserve_wh) * (charges - 1)
        down = (heat_j - parameters.lowest_j) / parameters.pitch_j
        i, u = _cell(across, charges)
        j, v = _cell(down, heats)
        j1 = (j + 1).clip(0, heats - 1)

        def look(part: Scalar) -> Scalar:
            here = part[row.slot, i, j] * (1.0 - v) + part[row.slot, i, j1] * v
            return here * (1.0 - u) + (part[row.slot, i + 1, j] * (1.0 - v) + part[row.slot, i + 1, j1] * v) * u

        gain = look(table.stay) * on + look(table.start) * (1 - on)
        heated_j = heat_j + (parameters.payload_w * (1.0 + MARGIN) - plant.radiated_w(heat_j, SUNLIT)) * POLL_S
        allowed = (charge_wh >= row.least_wh) & (heated_j <= parameters.limit_j)
        cap_w = (parameters.level_w * allowed).max()
        wanted_w = look(table.cap_w)
        return (gain > 0.0) * (cap_w * (cap_w < wanted_w) + wanted_w * (cap_w >= wanted_w))


def _cell(at: Scalar, points: int) -> tuple[Scalar, Scalar]:
    """The grid point below a fractional index, and the rest."""
    at = at.clip(0.0, points - 1.0)
    low = at.astype(int).clip(0, max(points - 2, 0))
    return low, at - low
