"""The plan in use: the dynamic programme's table, day by day, as one rule for flight and for forecasts."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from pipeline.orbit.timeline import DAY_S
from pipeline.plan.dynamic import Choices, HeatAxis, Slots, Table, backward, heat_axis
from pipeline.plan.greedy import DWELL_S, POLL_S
from pipeline.plan.levels import levels
from pipeline.plan.reserve import overdrawn, reserve_after_wh, reserve_wh, stored_wh
from pipeline.plan.scenario import DARK, SUNLIT, Mode, Scenario
from pipeline.power import OFF, Command, Plant
from pipeline.power.plant import Scalar

AHEAD_S = 6.0 * 3600.0  # in view beyond the day: about four orbits, longer than battery and radiator remember
COLD_K = 25.0  # below the limit or the melting point, a colder plate is worth no more
UNREACHABLE_WH = 1e6
CAUTION = 0.1  # harvest may be so much smaller, load so much larger, than modelled

Series = Float[np.ndarray, " time"]


@dataclass(frozen=True)
class Grid:
    """How finely the programme sees. Halving all of it wins less than 0.2 % on the satellites that ship."""

    slot_s: float = 60.0
    charges: int = 48
    heat_pitch_k: float = 0.5  # at 1 K, a rule at constant power won by 0.4 % on a satellite limited by heat


class Row(NamedTuple):
    """What the rule needs of one moment, or of many."""

    slot: Scalar  # of the table
    reserve_wh: Scalar
    least_wh: Scalar  # per level: charge from which one more poll interval at it leaves the reserve


class Parameters(NamedTuple):
    table: Table
    plant: Plant
    level_w: Scalar  # GPU power of each level
    payload_w: Scalar
    limit_j: Scalar
    start_j: Scalar  # hottest plate from which training begins
    heat: HeatAxis


class Day(NamedTuple):
    """The plan of one day: the table by slots, the rest by samples of the timeline."""

    table: Table
    reserve_wh: Series
    least_wh: Float[np.ndarray, "time level"]


class Planner:
    """The optimal rule for one scenario.

    The table of a day is computed when it is first asked for, with some orbits of the next day in view.
    """

    def __init__(self, scenario: Scenario, end_s: float = math.inf, grid: Grid = Grid()) -> None:
        """`end_s`: mission second after which nothing is worth anything.

        Raises:
            BadInput: when the battery cannot carry the bus alone through an umbra.
        """
        self.scenario, self.grid, self.end_s = scenario, grid, end_s
        self.levels = levels(scenario).worthwhile
        plant = scenario.plant
        self._limit_j = plant.heat_at(plant.limit_at(self.levels.cap_w))
        self._start_j = self._start_limit()
        # The programme stays where the rule will let it: otherwise it would settle at the limit and be cut off there.
        heating_w = np.maximum(_heating_w(plant, self.levels.payload_w, self._limit_j), 0.0)
        self._kept_j = self._limit_j - heating_w * POLL_S
        self._heat = self._heat_axis()
        self._day = lru_cache(maxsize=3)(self._plan)
        self._day(0)

    def poll(self, time_s: float, charge_wh: float, heat_j: float, on: bool) -> float:
        """Power that the GPU may draw until the next poll, within `POLL_S` [W]; 0: off."""
        number = self.scenario.timeline.number(time_s)
        day = self._day(number)
        into_s = time_s - number * DAY_S
        slot, sample = int(into_s / self.grid.slot_s), int(into_s / self.scenario.timeline.step_s)
        row = Row(slot, day.reserve_wh[sample], day.least_wh[sample])
        return float(self.act(self._parameters(day.table), row, np.float64(charge_wh), np.float64(heat_j), on))

    def piece(self, time_s: Series) -> tuple[Parameters, Row]:
        """Arrays and rows with which a forecast flies through evenly spaced moments."""
        first = self.scenario.timeline.number(time_s[0])
        days = [self._day(number) for number in range(first, self.scenario.timeline.number(time_s[-1]) + 1)]
        # Always two, so that one compiled scan serves forecasts that begin within a day.
        days = (days * 2)[:2]
        table = Table(*(np.concatenate(parts) for parts in zip(*(day.table for day in days), strict=True)))
        into_s = time_s - first * DAY_S
        sample = (into_s / self.scenario.timeline.step_s).astype(int)
        reserve, least = (np.concatenate([day[part] for day in days]) for part in (1, 2))
        return self._parameters(table), Row((into_s / self.grid.slot_s).astype(int), reserve[sample], least[sample])

    @staticmethod
    def act(parameters: Parameters, row: Row, charge_wh: Scalar, heat_j: Scalar, on: Scalar) -> Scalar:
        """Power until the next poll [W]; 0: off. Operators and methods alone: NumPy and traced arrays both pass.

        The table says what is best; what is allowed is checked anew, for its grid is coarser than the reserve.
        """
        table, plant = parameters.table, parameters.plant
        charges, heats = table.cap_w.shape[1:]
        across = (charge_wh - row.reserve_wh) / (plant.capacity_wh - row.reserve_wh) * (charges - 1)
        i, u = _cell(across, charges)
        j, v = _cell(parameters.heat.place(heat_j), heats)
        j1 = j + (heats > 1)

        def look(part: Scalar, *at: Scalar) -> Scalar:
            here = part[*at, i, j] * (1.0 - v) + part[*at, i, j1] * v
            return here * (1.0 - u) + (part[*at, i + 1, j] * (1.0 - v) + part[*at, i + 1, j1] * v) * u

        gain = look(table.gain, row.slot, on * 1)
        heated_j = heat_j + _heating_w(plant, parameters.payload_w, heat_j) * POLL_S
        allowed = (charge_wh >= row.least_wh) & (heated_j <= parameters.limit_j)
        gain = gain * (on | (heat_j <= parameters.start_j))
        cap_w = (parameters.level_w * allowed).max()
        wanted_w = look(table.cap_w, row.slot)
        return (gain > 0.0) * (cap_w * (cap_w < wanted_w) + wanted_w * (cap_w >= wanted_w))

    def _start_limit(self) -> float:
        """Enthalpy from which p* can be kept up for a dwell in sunlight [J].

        The grid sees no differences far below its pitch, and would restart every minute at the limit to win nothing.
        """
        plant, first = self.scenario.plant, self.levels.efficient
        limit_j = float(self._limit_j[first])
        dwell_j = max(float(_heating_w(plant, self.levels.payload_w[first], limit_j)), 0.0) * DWELL_S
        # A plate too light for a whole dwell would otherwise never cool enough to begin.
        return max(limit_j - dwell_j, 0.5 * (plant.resting_j(SUNLIT) + limit_j))

    def _heat_axis(self) -> HeatAxis:
        plant, top_j = self.scenario.plant, float(self._kept_j.max())
        if not self.scenario.heat_binds:
            return HeatAxis(np.array([top_j]), plant.radiator_j_k)
        bottom_j = max(plant.resting_j(DARK), min(top_j, 0.0) - COLD_K * plant.radiator_j_k)
        return heat_axis(top_j, bottom_j, plant.radiator_j_k * self.grid.heat_pitch_k)

    def _plan(self, number: int) -> Day:
        scenario, plant, timeline, slot_s = self.scenario, self.scenario.plant, self.scenario.timeline, self.grid.slot_s
        begin_s = number * DAY_S
        sky = timeline.span(begin_s, 2.0 * DAY_S)
        per, count = round(slot_s / timeline.step_s), round((DAY_S + AHEAD_S) / slot_s)
        edges = per * np.arange(count + 1)
        reserve = reserve_wh(plant, sky, CAUTION)

        def gained(command: Command) -> Series:
            stored = np.diff(stored_wh(plant, sky, command, 0.0)[edges])
            browned = np.logical_or.reduceat(overdrawn(plant, sky, command, CAUTION), edges)[:count]
            return np.where(browned, -UNREACHABLE_WH, stored)

        def least(command: Command) -> Series:
            after = 1 + math.ceil(POLL_S / timeline.step_s)
            stored = stored_wh(plant, sky, command, CAUTION)
            served = np.where(overdrawn(plant, sky, command, CAUTION), np.inf, reserve)
            return reserve_after_wh(served, stored, after)

        commands = [scenario.command(Mode.TRAIN, float(watts)) for watts in self.levels.cap_w]
        restart = scenario.command(Mode.RESTART)
        slots = Slots(
            off_wh=gained(OFF),
            restart_wh=gained(restart),
            level_wh=np.stack([gained(each) for each in commands], axis=1),
            reserve_wh=reserve[edges[:-1]],
            next_reserve_wh=reserve[edges[1:]],
            illumination=np.add.reduceat(sky.illumination, edges)[:count] / per,
            counts=begin_s + slot_s * np.arange(count) < self.end_s,
        )
        rate = self.levels.steps_per_s / self.levels.steps_per_s[-1]
        payload_w, first = self.levels.payload_w, self.levels.efficient
        choices = Choices(
            payload_w,
            self.levels.cap_w,
            rate,
            self._kept_j,
            first,
            self._start_j,
            plant.payload_w(restart),
            scenario.restart_s,
        )
        with jax.default_device(jax.devices("cpu")[0]):
            arguments = jax.tree.map(np.float32, (plant, choices, slots, self._heat, slot_s))
            arguments = (arguments[0], arguments[1]._replace(first=first), *arguments[2:])
            table = backward(*arguments, self.grid.charges, int(scenario.restart_s / slot_s))
        kept, day = round(DAY_S / slot_s), round(DAY_S / timeline.step_s)
        tables = Table(*(np.asarray(part[:kept]) for part in table))
        return Day(tables, reserve[:day], np.stack([least(each)[:day] for each in commands], axis=1))

    def _parameters(self, table: Table) -> Parameters:
        chosen = self.levels.cap_w, self.levels.payload_w
        return Parameters(table, self.scenario.plant, *chosen, self._limit_j, self._start_j, self._heat)


def _heating_w(plant: Plant, payload_w: Scalar, heat_j: Scalar) -> Scalar:
    """Net heat into the plate at most, in sunlight [W]."""
    return payload_w * (1.0 + CAUTION) - plant.radiated_w(heat_j, SUNLIT)


def _cell(at: Scalar, points: int) -> tuple[Scalar, Scalar]:
    """The grid point below a fractional index, and the rest."""
    # Operators, for NumPy's clip of one number takes three microseconds.
    at = at * (at > 0.0)
    at = at + (points - 1.0 - at) * (at > points - 1.0)
    low = at.astype(int)
    low = low - (low > max(points - 2, 0))
    return low, at - low
