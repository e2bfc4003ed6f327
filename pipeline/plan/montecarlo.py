"""How sure a forecast is: one policy flown through many skies at once, each until the budget is spent."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float

from pipeline.orbit.timeline import DAY_S
from pipeline.plan.flyer import Act, Carry, Machine, begin, fly
from pipeline.plan.forecast import PIECE_SLOTS, SLOT_S, Policy, reached, sampled
from pipeline.plan.scenario import Scenario
from pipeline.power import Ambient, Plant, State
from pipeline.power.plant import Scalar

Samples = Float[np.ndarray, " sample"]
Weather = tuple[Float[np.ndarray, "sample slot"], Float[np.ndarray, "sample slot"]]  # harvest, outage


@dataclass(frozen=True)
class Chances:
    """What may differ from the plan. Every figure is assumed.

    Attributes:
        solar: standard deviation of the harvest's relative error at the beginning of each orbit; linear between.
        array: standard deviation of the array's relative strength, drawn once: degradation and pointing.
        outage_every_s: mean time between outages of the GPU; more of them where radiation is denser.
        outage_s: mean time that one lasts, exponentially distributed.
    """

    solar: float = 0.03
    array: float = 0.02
    outage_every_s: float = 2.0 * DAY_S
    outage_s: float = 900.0

    def harvest(self, random: np.random.Generator, samples: int, orbits: int) -> Float[np.ndarray, "sample orbit"]:
        """Harvest over the planned at the beginning of each orbit."""
        array = 1.0 + self.array * random.standard_normal((samples, 1))
        return np.maximum(array * (1.0 + self.solar * random.standard_normal((samples, orbits))), 0.0)


@dataclass(frozen=True)
class Noise(Chances):
    """A harvest anywhere within ±`solar` of the planned: in half of the samples drawn once, in half for each orbit.

    The first two samples have the least and the most all the way.
    """

    solar: float = 0.1
    outage_every_s: float = math.inf

    def harvest(self, random: np.random.Generator, samples: int, orbits: int) -> Float[np.ndarray, "sample orbit"]:
        drawn = random.uniform(-self.solar, self.solar, (samples, orbits))
        drawn[: samples // 2] = drawn[: samples // 2, :1]
        drawn[:2] = [[-self.solar], [self.solar]]
        return 1.0 + drawn


@dataclass(frozen=True)
class Outcomes:
    """What became of each sample up to the limit that ended it."""

    steps: Samples
    train_wh: Samples
    harvest_wh: Samples
    end_s: Samples  # mission time
    spent: Bool[np.ndarray, " sample"]  # whether steps or watt-hours ended it, not the horizon
    lowest_wh: Samples  # least charge
    over_k: Samples  # most that the plate was above the limit of the power drawn; below zero, it never was
    unserved_wh: Samples  # demanded and not delivered up to the end of its last day: brown-outs


class Piece(NamedTuple):
    """A day's flight of all samples, at the end of each slot; the first three count from the start."""

    steps: Any  # Float[Array, "sample slot"]
    train_wh: Any
    harvest_wh: Any
    charge_wh: Any
    over_k: Any


def outcomes(
    scenario: Scenario,
    policy: Policy,
    state: State,
    start_s: float,
    horizon_s: float,
    samples: int = 64,
    chances: Chances = Chances(),
    seed: int = 0,
    steps: float = math.inf,
    wh: float = math.inf,
) -> Outcomes:
    """Flies `policy`, which sees charge and heat but knows the plan's sky alone, from off at `start_s`.

    Each sample ends where its `steps` or `wh` are reached, as `forecast` counts them, or after `horizon_s`. Days are
    flown one at a time, so that memory does not grow with the horizon.

    Raises:
        BadInput: where the elements give no position.
    """
    last_s, going, totals = start_s + horizon_s, np.ones(samples, bool), np.zeros((3, samples, 1))
    ended = Outcomes(
        steps=np.zeros(samples),
        train_wh=np.zeros(samples),
        harvest_wh=np.zeros(samples),
        end_s=np.zeros(samples),
        spent=np.zeros(samples, bool),
        lowest_wh=np.full(samples, np.inf),
        over_k=np.full(samples, -np.inf),
        unserved_wh=np.zeros(samples),
    )
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        begun = begin(state._replace(harvest_wh=0.0, unserved_wh=0.0))
        carry = jax.tree.map(lambda value: np.full(samples, value), begun)
        for begin_s, weather in _days(scenario, chances, samples, start_s, horizon_s, seed):
            parameters, rows = policy.piece(begin_s)
            sky, machine = sampled(scenario, begin_s + 0.5 * SLOT_S), scenario.machine()
            carry, piece = _fly_all(scenario.plant, machine, policy.act, parameters, carry, sky, rows, *weather)
            piece = Piece(*map(np.asarray, piece))
            ended.unserved_wh[going] = np.asarray(carry.state.unserved_wh)[going]
            edges_s = np.append(begin_s, begin_s[-1] + SLOT_S)
            totals = np.concatenate([totals[:, :, -1:], piece[:3]], axis=2)
            for sample in np.flatnonzero(going):
                spent_s = min(reached(edges_s, totals[0, sample], steps), reached(edges_s, totals[1, sample], wh))
                end_s = min(spent_s, last_s)
                flown = slice(max(1, int(np.searchsorted(edges_s, end_s))))
                ended.lowest_wh[sample] = min(ended.lowest_wh[sample], piece.charge_wh[sample, flown].min())
                ended.over_k[sample] = max(ended.over_k[sample], piece.over_k[sample, flown].max())
                if end_s <= edges_s[-1]:
                    going[sample], ended.spent[sample], ended.end_s[sample] = False, spent_s <= last_s, end_s
                    for total, counted in zip((ended.steps, ended.train_wh, ended.harvest_wh), totals, strict=True):
                        total[sample] = np.interp(end_s, edges_s, counted[sample])
            if not going.any():
                break
    return ended


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
) -> tuple[Carry, Piece]:
    """The carry of each sample after the last slot, and its trace."""

    def held(parameters: Any, row: Any, *measured: Scalar) -> Scalar:
        planned, out = row
        return act(parameters, planned, *measured) * (1.0 - out)

    def one(carry: Carry, share: Float[Array, " slot"], out: Float[Array, " slot"]) -> tuple[Carry, Piece]:
        lit = sky._replace(flux_w_m2=sky.flux_w_m2 * share)
        carry, trace = fly(plant, machine, held, parameters, carry, lit, (rows, out), SLOT_S)
        over_k = trace.plate_c - plant.limit_at(trace.cap_w)
        return carry, Piece(trace.steps, trace.train_wh, trace.harvest_wh, trace.charge_wh, over_k)

    return jax.vmap(one)(carries, sunlight, down)


def _days(
    scenario: Scenario, chances: Chances, samples: int, start_s: float, horizon_s: float, seed: int
) -> Iterator[tuple[Float[np.ndarray, " slot"], Weather]]:
    """Day by day: when each slot begins; harvest over the planned; and 1 while the GPU is down, else 0."""
    random, count, slots = np.random.default_rng(seed), math.ceil(horizon_s / DAY_S), np.arange(PIECE_SLOTS)
    period_s = scenario.timeline.track.period_s
    harvest = chances.harvest(random, samples, math.ceil(count * DAY_S / period_s) + 1)
    down_until = np.zeros((samples, 1), int)  # slot of the day
    for number in range(count):
        begin_s = start_s + number * DAY_S + SLOT_S * slots
        orbit = (begin_s - start_s) / period_s
        sunlight = np.stack([np.interp(orbit, np.arange(len(knots)), knots) for knots in harvest])
        hazard = scenario.timeline.span(begin_s[0], DAY_S).hazard[:PIECE_SLOTS]
        down = slots < down_until
        for sample, slot in np.argwhere(random.random(down.shape) < _outage_rate(chances, hazard)):
            until = slot + 1 + int(random.exponential(chances.outage_s) / SLOT_S)
            down[sample, slot:until] = True
            down_until[sample] = max(down_until[sample, 0], until)
        down_until = np.maximum(down_until - PIECE_SLOTS, 0)
        yield begin_s, (sunlight, down.astype(float))


def _outage_rate(chances: Chances, hazard: Float[np.ndarray, " slot"]) -> Float[np.ndarray, " slot"]:
    """Outages that begin in each slot, on average."""
    return SLOT_S / chances.outage_every_s * hazard / hazard.mean()
