"""The dynamic programme: the value of charge and heat at every moment, computed backwards in time as one scan.

State: charge x enthalpy x (off, restarting, training). Decision in each slot: off, or train at one of the levels;
leaving off costs the restart's time and energy. Bellman's recursion on a grid with linear interpolation (Bertsekas,
Dynamic Programming and Optimal Control, I.1.3 and I.6). The charge axis runs from the reserve of the moment to
capacity, so that its lowest point is always survivable and no cell of it is wasted.
"""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pipeline.power import OFF, Ambient, Plant
from pipeline.power.plant import Scalar, positive

IMPOSSIBLE = -1e9
CROWDING = 3.0  # first points 0.1, 0.3 and 0.6 pitches below the top

Value = Float[Array, "charge heat"]
Series = Any  # Float[Array, " slot"], traced or NumPy


class Slots(NamedTuple):
    """What each slot of time brings, first to last."""

    off_wh: Series  # charge gained with the payload off, were the battery never full
    restart_wh: Series  # ... while restarting
    level_wh: Series  # ... while training, one column for each level; far below zero where the battery cannot give it
    reserve_wh: Series  # least charge at the slot's beginning
    next_reserve_wh: Series  # ... at its end
    illumination: Series
    counts: Series  # 1; 0 after the end of the mission, where nothing is worth anything


class Choices(NamedTuple):
    """What can be done, and what it yields. Arrays have one entry for each level."""

    payload_w: Series
    cap_w: Series
    rate: Series  # training speed as a share of the full
    limit_j: Series  # hottest plate
    first: Scalar  # the level that a restart ends with
    start_j: Scalar  # hottest plate from which a restart begins
    restart_w: Scalar
    restart_s: Scalar
    lost_s: Scalar  # what a stop costs besides, in time of full training: a step cut short is done again


class HeatAxis(NamedTuple):
    """Enthalpies from the hottest down: about `pitch_j` apart, and closer near the top, where training is cut off.

    Point k lies z² pitches below the top, where k = z² + `CROWDING` z.
    """

    points_j: Series  # one where heat cannot bind
    top_j: Scalar  # the first of them
    pitch_j: Scalar

    def place(self, heat_j: Scalar) -> Scalar:
        """Fractional index of an enthalpy. Operators and methods alone: NumPy and traced arrays both pass."""
        pitches = positive((self.top_j - heat_j) / self.pitch_j)
        return pitches + CROWDING * pitches**0.5


def heat_axis(hottest_j: float, coldest_j: float, pitch_j: float) -> HeatAxis:
    """The axis that covers a range of enthalpies [J]."""
    pitches = (hottest_j - coldest_j) / pitch_j
    index = np.arange(2 + math.ceil(pitches + CROWDING * math.sqrt(pitches)))
    root = 0.5 * (np.sqrt(CROWDING**2 + 4.0 * index) - CROWDING)
    return HeatAxis(hottest_j - pitch_j * root**2, hottest_j, pitch_j)


class Table(NamedTuple):
    """The plan: what each slot, charge and enthalpy asks for."""

    # Gain of training over staying off [s of full training], clipped to a slot's length: from off, and while on.
    gain: Any  # slot x 2 x charge x heat
    cap_w: Any  # best power, if it trains; slot x charge x heat


@partial(jax.jit, static_argnames=("charges", "waits"))
def backward(
    plant: Plant,
    choices: Choices,
    slots: Slots,
    heat: HeatAxis,
    slot_s: Scalar,
    charges: int,
    waits: int,
) -> Table:
    """The plan for all slots, from the last to the first. After the last slot nothing is worth anything but survival.

    Args:
        heat: enthalpies of the grid.
        charges: points of the charge axis.
        waits: whole slots that a restart takes.
    """
    share, heat_j = jnp.linspace(0.0, 1.0, charges), heat.points_j
    working = 1.0 - (choices.restart_s / slot_s - waits)  # share of the slot in which a restart ends

    def arrive(value: Value, slot: Slots, gain_wh: Scalar, payload_w: Scalar, limit_j: Scalar) -> Value:
        """`value` of the next slot as seen from this one; impossible below the reserve and above the limit."""
        charge_wh = slot.reserve_wh + share * (plant.capacity_wh - slot.reserve_wh)
        above_wh = jnp.minimum(charge_wh + gain_wh, plant.capacity_wh) - slot.next_reserve_wh
        reached = above_wh / (plant.capacity_wh - slot.next_reserve_wh)
        cooled_w = plant.radiated_w(heat_j, Ambient(0.0, slot.illumination, 0.0, 0.0))
        warmed_j = heat_j + (payload_w - cooled_w) * slot_s
        if len(heat_j) > 1:
            value = value @ _hats(heat.place(warmed_j), len(heat_j)).T
        value = _hats(reached * (charges - 1), charges) @ value
        # A rounding error below the reserve is no violation: the reserve has its own margin.
        return jnp.where((reached >= -1e-5)[:, None] & (warmed_j <= limit_j)[None, :], value, IMPOSSIBLE)

    def one(carry: tuple[Value, Value, tuple[Value, ...]], slot: Slots) -> tuple[tuple, Table]:
        off, train, waiting = carry
        # Off is always possible: that is what the reserve is.
        gained_wh = jnp.maximum(slot.off_wh, slot.next_reserve_wh - slot.reserve_wh)
        stay_off = arrive(off, slot, gained_wh, plant.payload_w(OFF), jnp.inf)

        def level(gain_wh: Scalar, payload_w: Scalar, rate: Scalar, limit_j: Scalar) -> Value:
            return rate * slot_s + arrive(train, slot, gain_wh, payload_w, limit_j)

        each = slot.level_wh, choices.payload_w, choices.rate, choices.limit_j
        going_on = jax.vmap(level)(*each)
        first_wh, first_w, first_rate, first_j = (kind[choices.first] for kind in each)
        ending = first_rate * working * slot_s + arrive(
            train,
            slot,
            working * first_wh + (1.0 - working) * slot.restart_wh,
            working * first_w + (1.0 - working) * choices.restart_w,
            first_j,
        )
        waited = [arrive(later, slot, slot.restart_wh, choices.restart_w, first_j) for later in waiting]
        waited = [ending, *waited]
        start = jnp.where(heat_j <= choices.start_j, waited[waits] - choices.lost_s, IMPOSSIBLE)
        best = going_on.max(axis=0)
        table = Table(
            gain=jnp.clip(jnp.stack([start, best]) - stay_off, -slot_s, slot_s).astype(jnp.float16),
            cap_w=choices.cap_w[going_on.argmax(axis=0)].astype(jnp.float16),
        )
        values = jnp.maximum(stay_off, start), jnp.maximum(stay_off, best), tuple(waited[:waits])
        # Only differences count: kept near zero, float32 holds them to microseconds of training.
        base = values[0][-1, 0]
        return jax.tree.map(lambda value: (value - base) * slot.counts, values), table

    nothing = jnp.zeros((charges, len(heat_j)))
    _, table = jax.lax.scan(one, (nothing, nothing, (nothing,) * waits), slots, reverse=True)
    return table


def _hats(at: Float[Array, " point"], points: int) -> Float[Array, "point grid"]:
    """Weights of the grid's points in linear interpolation at fractional indices, held at the ends.

    A product with them takes a third of the time of gathering columns.
    """
    distance = jnp.clip(at, 0.0, points - 1.0)[:, None] - jnp.arange(points)
    return jnp.maximum(1.0 - jnp.abs(distance), 0.0)
