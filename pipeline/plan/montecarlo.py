"""How sure a forecast is: one policy flown through many skies at once."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from pipeline.plan.flyer import Act, Carry, Machine, begin, fly
from pipeline.plan.forecast import PIECE_SLOTS, SLOT_S, Policy, sampled
from pipeline.plan.scenario import Scenario
from pipeline.power import Ambient, Plant, State
from pipeline.power.plant import Scalar

Samples = Float[np.ndarray, " sample"]


@dataclass(frozen=True)
class Chances:
    """What may differ from the plan. Every figure is assumed.

    Attributes:
        solar: standard deviation of the harvest's relative error, drawn for each orbit.
        array: standard deviation of the array's relative strength, drawn once: degradation and pointing.
        outage_every_s: mean time between outages of the GPU; more of them where radiation is denser.
        outage_s: mean time that one lasts, exponentially distributed.
    """

    solar: float = 0.03
    array: float = 0.02
    outage_every_s: float = 2.0 * 86400.0
    outage_s: float = 900.0


@dataclass(frozen=True)
class Outcomes:
    """Totals of each sample."""

    steps: Samples
    train_wh: Samples
    harvest_wh: Samples
    lowest_wh: Samples  # least charge


def outcomes(
    scenario: Scenario,
    policy: Policy,
    state: State,
    start_s: float,
    duration_s: float,
    samples: int = 64,
    chances: Chances = Chances(),
    seed: int = 0,
) -> Outcomes:
    """Flies `policy`, which sees charge and heat but knows the plan's sky alone, from off at `start_s`.

    Raises:
        BadInput: where the elements give no position.
    """
    count = round(duration_s / SLOT_S)
    random = np.random.default_rng(seed)
    sunlight = _sunlight(scenario, random, chances, samples, count)
    hazard = scenario.timeline.span(start_s, duration_s).hazard[:count]
    down = _outages(random, chances, hazard, samples)
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        carry = jax.tree.map(lambda value: np.full(samples, value), begin(state))
        lowest = np.full(samples, np.inf)
        for first in range(0, count, PIECE_SLOTS):
            piece = slice(first, min(first + PIECE_SLOTS, count))
            begin_s = start_s + SLOT_S * np.arange(piece.start, piece.stop)
            parameters, rows = policy.piece(begin_s)
            sky = sampled(scenario, begin_s + 0.5 * SLOT_S)
            machine, weather = scenario.machine(), (sunlight[:, piece], down[:, piece])
            carry, reached = _fly_all(scenario.plant, machine, policy.act, parameters, carry, sky, rows, *weather)
            lowest = np.minimum(lowest, reached)
    harvest_wh = np.asarray(carry.state.harvest_wh) - state.harvest_wh
    return Outcomes(np.asarray(carry.steps), np.asarray(carry.train_wh), harvest_wh, lowest)


@partial(jax.jit, static_argnames="act")
def _fly_all(
    plant: Plant,
    machine: Machine,
    act: Act,
    parameters: Any,
    carries: Carry,
    sky: Ambient,
    rows: Any,
    sunlight: Float[Array, "sample slot"],
    down: Float[Array, "sample slot"],
) -> tuple[Carry, Float[Array, " sample"]]:
    """The carry of each sample after the last slot, and its least charge."""

    def held(parameters: Any, row: Any, charge_wh: Scalar, heat_j: Scalar, on: Scalar) -> Scalar:
        planned, out = row
        return act(parameters, planned, charge_wh, heat_j, on) * (1.0 - out)

    def one(carry: Carry, share: Float[Array, " slot"], out: Float[Array, " slot"]) -> tuple[Carry, Scalar]:
        lit = sky._replace(flux_w_m2=sky.flux_w_m2 * share)
        carry, trace = fly(plant, machine, held, parameters, carry, lit, (rows, out), SLOT_S)
        return carry, trace.charge_wh.min()

    return jax.vmap(one)(carries, sunlight, down)


def _sunlight(
    scenario: Scenario, random: np.random.Generator, chances: Chances, samples: int, count: int
) -> Float[np.ndarray, "sample slot"]:
    """Harvest over the planned: one draw for each mission and one for each orbit, linear between orbits."""
    orbit = np.arange(count) * SLOT_S / scenario.timeline.track.period_s
    knots = np.arange(int(orbit[-1]) + 2)
    drawn = chances.solar * random.standard_normal((samples, len(knots)))
    array = 1.0 + chances.array * random.standard_normal((samples, 1))
    return np.maximum(array * (1.0 + np.stack([np.interp(orbit, knots, each) for each in drawn])), 0.0)


def _outages(
    random: np.random.Generator, chances: Chances, hazard: Float[np.ndarray, " slot"], samples: int
) -> Float[np.ndarray, "sample slot"]:
    """1 while the GPU is down, else 0."""
    rate = SLOT_S / chances.outage_every_s * hazard / hazard.mean()
    begins = random.random((samples, len(hazard))) < rate
    down = np.zeros(begins.shape)
    for sample, slot in np.argwhere(begins):
        down[sample, slot : slot + 1 + int(random.exponential(chances.outage_s) / SLOT_S)] = 1.0
    return down
