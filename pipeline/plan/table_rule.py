"""The dynamic programme's table, day by day, as one rule for flight and for forecasts."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from pipeline.config import BadInput
from pipeline.orbit.timeline import DAY_S
from pipeline.plan.dynamic import Choices, HeatAxis, Slots, Table, backward, heat_axis
from pipeline.plan.greedy import DWELL_S, POLL_S
from pipeline.plan.levels import levels
from pipeline.plan.reserve import overdrawn, require_reserve, reserve_after_wh, reserve_wh, stored_wh
from pipeline.plan.scenario import DARK, SUNLIT, Mode, Scenario
from pipeline.power import OFF, Command, Plant
from pipeline.power.plant import HOUR_S, Scalar, lesser

AHEAD_S = 6.0 * 3600.0  # in view beyond the day, at least: about four orbits, longer than a radiator remembers
MOST_AHEAD_S = 3 * DAY_S  # a slot costs the same however little it changes
COLD_K = 15.0  # below the limit or the melting point, a colder plate is worth no more
MOST_PITCHES = 250  # of heat: time goes with their square, 2 s a day by then; the satellites that ship have 101 at most
CHARGES, CHARGES_WITH_HEAT = 48, 24  # where heat binds, 48 win 0.05 % and cost twice as much
UNREACHABLE_WH = 1e6
CAUTION = 0.1  # harvest may be so much smaller, load so much larger, than modelled
LEAST_SPAN_WH = 1e-6  # between reserve and a full battery
MOST_RESERVE = 0.999  # of capacity, on the table's grid: where no charge is enough, the rule does not ask it
KEPT_BYTES = 300e6  # of planned days: ten where heat binds, hundreds elsewhere

Series = Float[np.ndarray, " time"]


@dataclass(frozen=True)
class Grid:
    """How finely the programme sees. Halving all of it wins less than 0.2 % on the satellites that ship."""

    slot_s: float = 60.0
    charges: int | None = None  # null: `CHARGES`, or `CHARGES_WITH_HEAT` where heat binds
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
    room_j: Scalar  # per level: the plate's limit, less what one more poll interval at it brings
    start_j: Scalar  # hottest plate from which training begins
    heat: HeatAxis


class Day(NamedTuple):
    """The plan of one day: the table by slots, the rest by samples of the timeline."""

    parameters: Parameters
    reserve_wh: Series
    least_wh: Float[np.ndarray, "time level"]


class TableRule:
    """The programme's rule for one scenario.

    The table of a day is computed when it is first asked for, with some orbits of the next day in view, and kept: each
    look ahead to the end of a budget asks for the same days.
    """

    def __init__(self, scenario: Scenario, end_s: float = math.inf, grid: Grid = Grid()) -> None:
        """`end_s`: mission second after which nothing is worth anything.

        Raises:
            BadInput: when the battery cannot carry the bus alone through an umbra.
        """
        self.scenario, self.grid, self.end_s = scenario, grid, end_s
        self.charges = grid.charges or (CHARGES_WITH_HEAT if scenario.heat_binds else CHARGES)
        self.levels = levels(scenario).worthwhile
        plant = scenario.plant
        self._limit_j = plant.heat_at(plant.limit_at(self.levels.cap_w))
        self._start_j = self._start_limit()
        # The programme stays where the rule will let it: otherwise it would settle at the limit and be cut off there.
        heating_w = np.maximum(_heating_w(plant, self.levels.payload_w, self._limit_j), 0.0)
        self._kept_j = self._limit_j - heating_w * POLL_S
        self._room_j = self._limit_j - self.levels.payload_w * (1.0 + CAUTION) * POLL_S
        pairs = zip(self.levels.cap_w.tolist(), self._room_j.tolist(), strict=True)
        self._falling = list(enumerate(pairs))[::-1]  # power and room of each level, the highest first
        self._lowest_w = self.levels.cap_w.item(0)
        self._heat = self._heat_axis()
        self._ahead_s = self._memory_s()
        self._days: dict[int, Day] = {}
        require_reserve(plant, scenario.timeline.span(0.0, 2.0 * DAY_S), CAUTION)
        self._day(0)

    def poll(self, time_s: float, charge_wh: float, heat_j: float, on: bool, full_wh: float) -> float:
        """Power that the GPU may draw until the next poll, within `POLL_S` [W]; 0: off.

        `act` in floats, which takes a third of the time, and no further than the answer needs.
        """
        number = self.scenario.timeline.number(time_s)
        parameters, reserve_wh, least_wh = self._day(number)
        table, into_s = parameters.table, time_s - number * DAY_S
        slot, sample = int(into_s / self.grid.slot_s), int(into_s / self.scenario.timeline.step_s)
        cell = _cell(parameters, reserve_wh.item(sample), charge_wh, heat_j, full_wh)
        gain = _read(table.gain.item, 2 * slot + on, cell)
        if gain <= 0.0 or not (on or heat_j <= self._start_j):
            return 0.0
        wanted_w = _read(table.cap_w.item, slot, cell)
        cooled_j = heat_j - parameters.plant.radiated_w(heat_j, SUNLIT) * POLL_S
        for level, (level_w, room_j) in self._falling:
            if charge_wh >= least_wh.item(sample, level) and cooled_j <= room_j:
                return min(max(wanted_w, self._lowest_w), level_w)
        return 0.0

    def piece(self, time_s: Series) -> tuple[Parameters, Row]:
        """Arrays and rows with which a forecast flies through evenly spaced moments."""
        first = self.scenario.timeline.number(time_s[0])
        days = [self._day(number) for number in range(first, self.scenario.timeline.number(time_s[-1]) + 1)]
        # Always two, so that one compiled scan serves forecasts that begin within a day.
        days = (days * 2)[:2]
        table = Table(*(np.concatenate(parts) for parts in zip(*(day.parameters.table for day in days), strict=True)))
        into_s = time_s - first * DAY_S
        sample = (into_s / self.scenario.timeline.step_s).astype(int)
        reserve, least = (np.concatenate([day[part] for day in days]) for part in (1, 2))
        return self._parameters(table), Row((into_s / self.grid.slot_s).astype(int), reserve[sample], least[sample])

    @staticmethod
    def act(parameters: Parameters, row: Row, charge_wh: Scalar, heat_j: Scalar, on: Scalar, full_wh: Scalar) -> Scalar:
        """Power until the next poll [W]; 0: off. Operators and methods alone: NumPy and traced arrays both pass.

        The table says what is best; what is allowed is checked anew, for its grid is coarser than the reserve.
        """
        gains, caps_w = parameters.table.gain.reshape(-1), parameters.table.cap_w.reshape(-1)
        cell = _cell(parameters, row.reserve_wh, charge_wh, heat_j, full_wh)
        gain = _read(lambda at: gains[at], 2 * row.slot + on, cell)
        gain = gain * (on | (heat_j <= parameters.start_j))
        cooled_j = heat_j - parameters.plant.radiated_w(heat_j, SUNLIT) * POLL_S
        allowed = (charge_wh >= row.least_wh) & (cooled_j <= parameters.room_j)
        cap_w = (parameters.level_w * allowed).max()
        wanted_w = _read(lambda at: caps_w[at], row.slot, cell)
        # Rounded to half precision, the lowest power may lie below the curve, where the GPU stands still.
        return (gain > 0.0) * lesser(cap_w, -lesser(-wanted_w, -parameters.level_w[0]))

    def _start_limit(self) -> float:
        """Enthalpy from which p* can be kept up for a dwell in sunlight [J].

        The grid sees no differences far below its pitch, and would restart every minute at the limit to win nothing.
        """
        plant, first = self.scenario.plant, self.levels.efficient
        limit_j = float(self._limit_j[first])
        dwell_j = max(float(_heating_w(plant, self.levels.payload_w[first], limit_j)), 0.0) * DWELL_S
        # A plate too light for a whole dwell would otherwise never cool enough to begin.
        return max(limit_j - dwell_j, 0.5 * (plant.resting_j(SUNLIT) + limit_j))

    def _memory_s(self) -> float:
        """In view beyond the day: what p* takes to draw all that the battery may give, within bounds."""
        usable_wh = self.scenario.plant.capacity_wh - self.scenario.plant.floor_wh
        hours = usable_wh / self.levels.payload_w[self.levels.efficient]
        return self.grid.slot_s * round(min(max(AHEAD_S, hours * HOUR_S), MOST_AHEAD_S) / self.grid.slot_s)

    def _heat_axis(self) -> HeatAxis:
        plant, top_j = self.scenario.plant, float(self._kept_j.max())
        resting_j = plant.resting_j(DARK)
        if resting_j >= top_j:
            raise BadInput(
                f"satellite.radiator.area_m2: {self.scenario.satellite.radiator.area_m2:g}: in a hold the plate rests "
                f"at {float(plant.plate_c(resting_j)):.0f} C, too hot to train; enlarge it"
            )
        if not self.scenario.heat_binds:
            return HeatAxis(np.array([top_j]), top_j, plant.radiator_j_k)
        bottom_j = max(resting_j, min(top_j, 0.0) - COLD_K * plant.radiator_j_k)
        pitch_j = max(plant.radiator_j_k * self.grid.heat_pitch_k, (top_j - bottom_j) / MOST_PITCHES)
        return heat_axis(top_j, bottom_j, pitch_j)

    def _day(self, number: int) -> Day:
        if number not in self._days:
            day = self._plan(number)
            most = int(KEPT_BYTES / sum(np.asarray(part).nbytes for part in jax.tree.leaves(day)))
            while len(self._days) >= max(2, most):  # a forecast's day begins on one and ends on the next
                del self._days[next(iter(self._days))]
            self._days[number] = day
        return self._days[number]

    def _plan(self, number: int) -> Day:
        scenario, plant, timeline, slot_s = self.scenario, self.scenario.plant, self.scenario.timeline, self.grid.slot_s
        begin_s = number * DAY_S
        sky = timeline.span(begin_s, max(2.0 * DAY_S, DAY_S + self._ahead_s))
        per, count = round(slot_s / timeline.step_s), round((DAY_S + self._ahead_s) / slot_s)
        edges = per * np.arange(count + 1)
        reserve = reserve_wh(plant, sky, CAUTION)
        within = np.minimum(reserve, MOST_RESERVE * plant.capacity_wh)

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
            reserve_wh=within[edges[:-1]],
            next_reserve_wh=within[edges[1:]],
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
            0.5 * scenario.step_seconds(),  # on average
        )
        # A forecast asks for days in float64, a poll does not: both must get the same table.
        with jax.enable_x64(False), jax.default_device(jax.devices("cpu")[0]):
            arguments = jax.tree.map(np.float32, (plant, choices, slots, self._heat, slot_s))
            arguments = (arguments[0], arguments[1]._replace(first=first), *arguments[2:])
            table = backward(*arguments, self.charges, int(scenario.restart_s / slot_s))
        kept, day = round(DAY_S / slot_s), round(DAY_S / timeline.step_s)
        tables = Table(*(np.asarray(part[:kept]) for part in table))
        return Day(self._parameters(tables), reserve[:day], np.stack([least(each)[:day] for each in commands], axis=1))

    def _parameters(self, table: Table) -> Parameters:
        return Parameters(table, self.scenario.plant, self.levels.cap_w, self._room_j, self._start_j, self._heat)


def _heating_w(plant: Plant, payload_w: Scalar, heat_j: Scalar) -> Scalar:
    """Net heat into the plate at most, in sunlight [W]."""
    return payload_w * (1.0 + CAUTION) - plant.radiated_w(heat_j, SUNLIT)


class Cell(NamedTuple):
    """Where charge and enthalpy lie between four points of the grid."""

    points: int  # of the grid
    heats: int  # of them for each charge
    corner: Scalar  # index of the first of the four
    charge_share: Scalar  # of the way to the next point
    heat_share: Scalar


def _cell(parameters: Parameters, reserve_wh: Scalar, charge_wh: Scalar, heat_j: Scalar, full_wh: Scalar) -> Cell:
    _, charges, heats = parameters.table.cap_w.shape
    # The table is of a new battery. Read by nominal charge, it would wait for one that a faded battery never reaches.
    span_wh = -lesser(reserve_wh - full_wh, -LEAST_SPAN_WH)
    across = (charge_wh - reserve_wh) / span_wh * (charges - 1)
    charge, charge_share = _place(across, charges)
    heat, heat_share = _place(parameters.heat.place(heat_j), heats)
    return Cell(charges * heats, heats, charge * heats + heat, charge_share, heat_share)


def _place(at: Scalar, points: int) -> tuple[Scalar, Scalar]:
    """The grid point below a fractional index, and the rest. With one point, the rest says nothing."""
    if isinstance(at, float):  # NumPy's clip of one number takes three microseconds
        low = max(0, min(int(at), points - 2))
        return low, max(0.0, min(at - low, 1.0))
    low = at.astype(int).clip(0, max(points - 2, 0))
    return low, (at - low).clip(0.0, 1.0)


def _read(entry: Callable[[Scalar], Scalar], grid: Scalar, cell: Cell) -> Scalar:
    """One grid of a flattened table, interpolated in a cell."""
    points, heats, corner, charge_share, heat_share = cell
    at = grid * points + corner
    here, above = entry(at), entry(at + heats)
    if heats > 1:
        here = here + (entry(at + 1) - here) * heat_share
        above = above + (entry(at + heats + 1) - above) * heat_share
    return here + (above - here) * charge_share
