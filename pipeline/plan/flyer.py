"""One policy flown slot by slot on the plant."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pipeline.plan.payload import SWITCHED_OFF, Payload
from pipeline.power import Ambient, Command, Plant, State
from pipeline.power.plant import HOUR_S, Scalar

Series = Any  # Float[Array, " slot"], traced or NumPy
Act = Callable[[Any, Any, Scalar, Scalar, Scalar, Scalar], Scalar]


class Machine(NamedTuple):
    """GPU and host, as arrays."""

    shares: Float[Array, " point"]  # of full throughput
    watts: Float[Array, " point"]
    step_s: Scalar  # of one step's arithmetic at full throughput
    overhead_s: Scalar
    idle_w: Scalar
    host_w: Scalar
    restart_s: Scalar
    draw: Scalar  # power drawn over the cap

    def steps_per_s(self, cap_w: Scalar) -> Scalar:
        share = jnp.interp(cap_w, self.watts, self.shares, left=0.0)
        return share / (self.overhead_s * share + self.step_s)


class Carry(NamedTuple):
    """What passes from slot to slot; totals count from the start of the flight."""

    state: State
    payload: Payload
    steps: Scalar
    train_s: Scalar
    train_wh: Scalar


def begin(state: State, payload: Payload = SWITCHED_OFF) -> Carry:
    """The carry before the first slot, in float64."""
    doing = Payload(np.bool_(payload.on), *map(np.float64, payload[1:]))
    return Carry(State(*map(np.float64, state)), doing, *np.zeros(3))


class Slot(NamedTuple):
    """The flight at the end of each slot, each field an array of slots."""

    charge_wh: Series
    plate_c: Series
    battery_c: Series
    mode: Series  # as plan.Mode
    cap_w: Series
    steps: Series
    train_s: Series
    train_wh: Series
    harvest_wh: Series
    discharge_wh: Series  # drawn from the battery's cells


@partial(jax.jit, static_argnames="act")
def fly(
    plant: Plant,
    machine: Machine,
    act: Act,
    parameters: Any,
    carry: Carry,
    ambient: Ambient,
    rows: Any,
    slot_s: Scalar,
) -> tuple[Carry, Slot]:
    """Flies a policy through slots of `slot_s`.

    Args:
        act: the policy, `Policy.act`; `parameters` and `rows` are its arrays, `rows` with a leading axis of slots.
        ambient: the environment at the middle of each slot.

    Returns:
        the carry after the last slot, and the trace.
    """

    def one(carry: Carry, inputs: tuple[Ambient, Any]) -> tuple[Carry, Slot]:
        sky, row = inputs
        state, payload = carry.state, carry.payload
        cap_w = act(parameters, row, state.charge_wh, state.heat_j, payload.on, plant.full_wh(state))
        cap_w = payload.permit(cap_w)
        return slot(plant, machine, carry, cap_w, machine.steps_per_s(cap_w), sky, slot_s)

    return jax.lax.scan(one, carry, (ambient, rows))


def slot(
    plant: Plant, machine: Machine, carry: Carry, cap_w: Scalar, steps_per_s: Scalar, sky: Ambient, slot_s: Scalar
) -> tuple[Carry, Slot]:
    """One slot under a permitted cap. Operators alone, so that floats and traced arrays both pass."""
    payload, work = carry.payload.slot(cap_w, slot_s, machine.restart_s, steps_per_s)
    drawn_w = cap_w * machine.draw
    gpu_w = work.gpu_w(drawn_w, machine.idle_w, slot_s)
    state = plant.step(carry.state, Command(gpu_w, machine.host_w * payload.on), sky, slot_s)
    after = Carry(
        state,
        payload,
        carry.steps + work.steps,
        carry.train_s + work.training_s,
        carry.train_wh + plant.payload_w(Command(drawn_w, machine.host_w)) * work.training_s / HOUR_S,
    )
    mode = payload.on * (1.0 + (work.training_s > 0.0))
    totals = after.steps, after.train_s, after.train_wh, state.harvest_wh, state.discharge_wh
    return after, Slot(state.charge_wh, plant.plate_c(state.heat_j), state.battery_c, mode, cap_w, *totals)
