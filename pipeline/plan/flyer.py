"""One policy flown slot by slot on the plant, as one compiled scan."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pipeline.power import Ambient, Command, Plant, State
from pipeline.power.plant import HOUR_S, Scalar

Series = Any  # Float[Array, " slot"], traced or NumPy
Act = Callable[[Any, Any, Scalar, Scalar, Scalar], Scalar]


class Machine(NamedTuple):
    """GPU and host, as arrays."""

    shares: Float[Array, " point"]  # of full throughput
    watts: Float[Array, " point"]
    step_s: Scalar  # of one step's arithmetic at full throughput
    overhead_s: Scalar
    idle_w: Scalar
    host_w: Scalar
    restart_s: Scalar

    def steps_per_s(self, cap_w: Scalar) -> Scalar:
        share = jnp.interp(cap_w, self.watts, self.shares, left=0.0)
        return share / (self.overhead_s * share + self.step_s)


class Carry(NamedTuple):
    """What passes from slot to slot; totals count from the start of the flight."""

    state: State
    on: Scalar
    restart_left_s: Scalar
    steps: Scalar
    train_s: Scalar
    train_wh: Scalar


class Slot(NamedTuple):
    """The flight at the end of each slot, each field an array of slots."""

    charge_wh: Series
    plate_c: Series
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
        cap_w = act(parameters, row, carry.state.charge_wh, carry.state.heat_j, carry.on)
        on = cap_w > 0.0
        left_s = jnp.where(carry.on, carry.restart_left_s, machine.restart_s) * on
        restarting_s = jnp.minimum(left_s, slot_s)
        training_s = (slot_s - restarting_s) * on
        gpu_w = (training_s * cap_w + restarting_s * machine.idle_w) / slot_s
        state = plant.step(carry.state, Command(gpu_w, machine.host_w * on), sky, slot_s)
        after = Carry(
            state,
            on,
            left_s - restarting_s,
            carry.steps + training_s * machine.steps_per_s(cap_w),
            carry.train_s + training_s,
            carry.train_wh + plant.payload_w(Command(cap_w, machine.host_w)) * training_s / HOUR_S,
        )
        mode = on * (1.0 + (training_s > 0.0))
        totals = after.steps, after.train_s, after.train_wh, state.harvest_wh, state.discharge_wh
        return after, Slot(state.charge_wh, plant.plate_c(state.heat_j), mode, cap_w, *totals)

    return jax.lax.scan(one, carry, (ambient, rows))
