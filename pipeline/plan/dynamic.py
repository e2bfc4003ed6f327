"""The dynamic programme: the value of charge and heat at every moment, computed backwards in time as one scan.

State: charge x enthalpy x (off, restarting, training). Decision in each slot: off, or train at one of the levels; leaving off costs
the restart's time and energy. Bellman's recursion on a grid with linear interpolation (Bertsekas, Dynamic Programming and Optimal
Control, I.1.3 and I.6). The charge axis runs from the reserve of the moment to capacity, so that its lowest point is always
survivable and no cell of it is wasted.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pipeline.power import Ambient, Plant
from pipeline.power.plant import Scalar

IMPOSSIBLE = -1e9

Value = Float[Array, "charge heat"]


class Slots(NamedTuple):
    """What each slot of time brings, first to last."""

    off_wh: Float[Array, " slot"]  # charge gained with the payload off, were the battery never full
    restart_wh: Float[Array, " slot"]  # ... while restarting
    level_wh: Float[Array, "slot level"]  # ... while training at each level
    reserve_wh: Float[Array, " slot"]  # least charge at the slot's beginning
    next_reserve_wh: Float[Array, " slot"]  # ... at its end
    illumination: Float[Array, " slot"]


class Choices(NamedTuple):
    """What can be done, and what it yields."""

    payload_w: Float[Array, " level"]
    cap_w: Float[Array, " level"]
    rate: Float[Array, " level"]  # training speed as a share of the full
    limit_j: Float[Array, " level"]  # hottest plate for each level
    restart_w: Scalar
    restart_s: Scalar


class Table(NamedTuple):
    """The plan: what each slot, charge and enthalpy asks for."""

    start: Float[Array, "slot charge heat"]  # gain of starting over staying off [s of full training], within a slot's length
    stay: Float[Array, "slot charge heat"]  # gain of going on over switching off
    cap_w: Float[Array, "slot charge heat"]  # best power, if it trains


@partial(jax.jit, static_argnames=("charges", "waits"))
def backward(
    plant: Plant, choices: Choices, slots: Slots, heat_j: Float[Array, " heat"], slot_s: Scalar, charges: int, waits: int
) -> Table:
    """The plan for all slots, from the last to the first. After the last slot nothing is worth anything but survival.

    Args:
        heat_j: enthalpies of the grid, evenly spaced; one where heat cannot bind.
        charges: points of the charge axis.
        waits: whole slots that a restart takes.
    """
    share = jnp.linspace(0.0, 1.0, charges)
    pitch_j = heat_j[1] - heat_j[0] if len(heat_j) > 1 else 1.0
    rest = choices.restart_s / slot_s - waits  # of the slot in which a restart ends

    def arrive(value: Value, slot: Slots, gain_wh: Scalar, payload_w: Scalar) -> tuple[Value, Array, Array]:
        """`value` of the next slot as seen from this one; and where charge and enthalpy arrive."""
        low_wh, span_wh = slot.next_reserve_wh, plant.capacity_wh - slot.next_reserve_wh
        charge_wh = slot.reserve_wh + share * (plant.capacity_wh - slot.reserve_wh)
        reached = (jnp.minimum(charge_wh + gain_wh, plant.capacity_wh) - low_wh) / span_wh
        value = _between(value, reached * (charges - 1), 0)
        cooled_w = plant.radiated_w(heat_j, Ambient(0.0, slot.illumination, 0.0, 0.0))
        warmed_j = heat_j + (payload_w - cooled_w) * slot_s
        if len(heat_j) > 1:
            value = _between(value, (warmed_j - heat_j[0]) / pitch_j, 1)
        return value, reached, warmed_j

    def allowed(arrived: tuple[Value, Array, Array], limit_j: Scalar) -> Value:
        value, reached, warmed_j = arrived
        # A rounding error below the reserve is no violation: the reserve has its own margin.
        return jnp.where((reached >= -1e-5)[:, None] & (warmed_j <= limit_j)[None, :], value, IMPOSSIBLE)

    def one(carry: tuple[Value, Value, tuple[Value, ...]], slot: Slots) -> tuple[tuple, Table]:
        off, train, waiting = carry
        stay_off = arrive(off, slot, slot.off_wh, 0.0)[0]
        hottest_j = choices.limit_j.max()

        def level(gain_wh: Scalar, payload_w: Scalar, rate: Scalar, limit_j: Scalar, working: Scalar) -> Value:
            gain_wh = working * gain_wh + (1.0 - working) * slot.restart_wh
            payload_w = working * payload_w + (1.0 - working) * choices.restart_w
            return rate * working * slot_s + allowed(arrive(train, slot, gain_wh, payload_w), limit_j)

        each = jax.vmap(level, in_axes=(0, 0, 0, 0, None))
        kinds = slot.level_wh, choices.payload_w, choices.rate, choices.limit_j
        going_on, ending = each(*kinds, 1.0), each(*kinds, 1.0 - rest).max(axis=0)
        waited = [allowed(arrive(later, slot, slot.restart_wh, choices.restart_w), hottest_j) for later in waiting]
        waited = [ending, *waited]
        best = going_on.max(axis=0)
        table = Table(
            start=jnp.clip(waited[waits] - stay_off, -slot_s, slot_s).astype(jnp.float16),
            stay=jnp.clip(best - stay_off, -slot_s, slot_s).astype(jnp.float16),
            cap_w=choices.cap_w[going_on.argmax(axis=0)].astype(jnp.float16),
        )
        values = jnp.maximum(stay_off, waited[waits]), jnp.maximum(stay_off, best), tuple(waited[:waits])
        # Only differences count: kept near zero, float32 holds them to microseconds of training.
        base = values[0][-1, 0]
        return jax.tree.map(lambda value: value - base, values), table

    nothing = jnp.zeros((charges, len(heat_j)))
    _, table = jax.lax.scan(one, (nothing, nothing, (nothing,) * waits), slots, reverse=True)
    return table


def _between(value: Value, at: Float[Array, " point"], axis: int) -> Value:
    """`value` linearly interpolated at fractional indices along an axis, held at its ends."""
    last = value.shape[axis] - 1
    at = jnp.clip(at, 0.0, last)
    low = jnp.minimum(at.astype(int), last - 1)
    weight = jnp.expand_dims(at - low, 1 - axis)
    return jnp.take(value, low, axis) * (1.0 - weight) + jnp.take(value, low + 1, axis) * weight
