"""One bit of a live run flipped: in its state at rest or at work, in a gradient, in a batch that waits."""

import random
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, UInt32

from pipeline.config import Config
from pipeline.corpus.batches import Batches, digest
from pipeline.flight.loop import Job
from pipeline.lm.model import Params
from pipeline.lm.schedule import Cooldown
from pipeline.lm.step import Metrics, Tokens, TrainChunk, TrainState, train_chunk

# At rest: between two chunks. At work: between two steps of one chunk, or after its last.
PARAMETERS, OPTIMIZER = ("parameters at rest", "parameters at work"), ("optimizer at rest", "optimizer at work")
GRADIENTS, BATCH = "gradients", "batch"
TARGETS = (*PARAMETERS, *OPTIMIZER, GRADIENTS, BATCH)
CLASSES = (
    (31, "sign"),
    (27, "exponent, upper 4 bits"),
    (23, "exponent, lower 4 bits"),
    (12, "mantissa, upper 11 bits"),
    (0, "mantissa, lower 12 bits"),
)


class Flip(NamedTuple):
    """Bit `bit` of word `word` of leaf `leaf`, when `step` steps are done; of a gradient, in the step that leads there.

    At rest and in a batch, at the first opportunity from then on.
    """

    target: str
    leaf: int
    word: int
    bit: int
    step: int
    floats: bool  # whether the leaf holds floating-point numbers; otherwise counters or tokens

    @property
    def bits(self) -> str:
        if not self.floats:
            return "token" if self.target == BATCH else "counter"
        return next(name for lowest, name in CLASSES if self.bit >= lowest)


class Aim(NamedTuple):
    """A flip as the compiled chunk takes it; `step` counts from 0, and -1 never comes."""

    leaf: int = 0
    word: int = 0
    bit: int = 0
    step: int = -1


FaultyChunk = Callable[[TrainState, Tokens, int, Cooldown, Aim], tuple[TrainState, Metrics]]


def draw(target: str, state: TrainState, batch_words: int, steps: range, dice: random.Random) -> Flip:
    """A flip in each leaf as often as in any other, so that norms and counters get their share."""
    bit, step = dice.randrange(32), dice.choice(steps)
    if target == BATCH:
        return Flip(target, 0, dice.randrange(batch_words), bit, step, floats=False)
    leaves = jax.tree.leaves(state.opt_state if target in OPTIMIZER else state.params)
    leaf = dice.choice([number for number, array in enumerate(leaves) if array.size])
    floats = bool(np.issubdtype(leaves[leaf].dtype, np.floating))
    return Flip(target, leaf, dice.randrange(leaves[leaf].size), bit, step, floats)


def make_faulty_chunk(config: Config) -> FaultyChunk:
    """The train chunk with a place for a flip in the gradients of one step."""
    return jax.jit(partial(_faulty_chunk, config), donate_argnums=0)


def _faulty_chunk(
    config: Config, state: TrainState, tokens: Array, steps: int, cooldown: Cooldown, aim: Aim
) -> tuple[TrainState, Metrics]:
    def fault(gradients: Params, step: Int[Array, ""]) -> Params:
        leaves, tree = jax.tree.flatten(gradients)
        hit = [_struck(leaf, aim, (step == aim.step) & (aim.leaf == number)) for number, leaf in enumerate(leaves)]
        return jax.tree.unflatten(tree, hit)

    return train_chunk(config, state, tokens, steps, cooldown, fault)


def _struck(leaf: Array, aim: Aim, now: Array) -> Array:
    words: UInt32[Array, " word"] = jax.lax.bitcast_convert_type(leaf.reshape(-1), jnp.uint32)
    mask = jnp.where(now & (jnp.arange(words.size) == aim.word), jnp.uint32(1) << jnp.uint32(aim.bit), jnp.uint32(0))
    return jax.lax.bitcast_convert_type(words ^ mask, leaf.dtype).reshape(leaf.shape)


@dataclass
class Shot:
    """Fires one flip, once, into a job whose `train_chunk` it stands in for. None: fires nothing."""

    flip: Flip | None
    chunk: TrainChunk
    faulty: FaultyChunk | None = None  # what trains in place of `chunk`, if given
    unnoticed: bool = False  # a batch: its checksum is made to agree
    struck_step: int | None = None  # steps that were done

    def between(self, job: Job) -> None:
        """Between two chunks."""
        flip = self.flip
        if flip is None or self.struck_step is not None or job.progress.step < flip.step:
            return
        if flip.target in (PARAMETERS[0], OPTIMIZER[0]):
            job.state = _with_flip(job.state, flip)
        elif flip.target != BATCH or not self._strike_batch(job.corpus.batches, job.progress.sequences):
            return
        self.struck_step = job.progress.step

    def train(self, state: TrainState, tokens: Tokens, steps: int, cooldown: Cooldown) -> tuple[TrainState, Metrics]:
        """A chunk; stops in the middle of it to strike the state."""
        flip, first = self.flip, int(state.step)
        if flip is None or self.struck_step is not None or not first < flip.step <= first + steps:
            return self._run(state, tokens, steps, cooldown)
        if flip.target == GRADIENTS:
            self.struck_step = flip.step
            return self._run(state, tokens, steps, cooldown, Aim(flip.leaf, flip.word, flip.bit, flip.step - 1))
        if flip.target not in (PARAMETERS[1], OPTIMIZER[1]):
            return self._run(state, tokens, steps, cooldown)
        self.struck_step, done = flip.step, flip.step - first
        state, before = self._run(state, tokens, done, cooldown)
        state = _with_flip(state, flip)
        if done == steps:
            return state, before
        state, after = self._run(state, np.roll(tokens, -done, axis=0), steps - done, cooldown)
        columns = [np.where(np.arange(len(a)) < done, a, np.roll(b, done)) for a, b in zip(before, after, strict=True)]
        return state, Metrics(*map(jnp.asarray, columns))

    def _run(
        self, state: TrainState, tokens: Tokens, steps: int, cooldown: Cooldown, aim: Aim | None = None
    ) -> tuple[TrainState, Metrics]:
        if self.faulty is None:
            return self.chunk(state, tokens, steps, cooldown)
        return self.faulty(state, tokens, steps, cooldown, aim or Aim())

    def _strike_batch(self, batches: Batches, cursor: int) -> bool:
        """Whether the chunk that starts at `cursor` was waiting."""
        assert self.flip is not None
        prepared = batches._prepared
        if prepared is None or prepared[0][0] != cursor:
            return False
        tokens, _ = prepared[1].result()
        tokens.reshape(-1).view(np.uint32)[self.flip.word] ^= np.uint32(1 << self.flip.bit)
        if self.unnoticed:
            agreeing: Future = Future()
            agreeing.set_result((tokens, digest(tokens)))
            batches._prepared = prepared[0], agreeing
        return True


def _with_flip(state: TrainState, flip: Flip) -> TrainState:
    part = "opt_state" if flip.target in OPTIMIZER else "params"
    leaves, tree = jax.tree.flatten(getattr(state, part))
    words = np.array(leaves[flip.leaf]).reshape(-1).view(np.uint32)
    words[flip.word] ^= np.uint32(1 << flip.bit)
    leaves[flip.leaf] = jnp.array(words.view(leaves[flip.leaf].dtype).reshape(leaves[flip.leaf].shape))
    return state._replace(**{part: jax.tree.unflatten(tree, leaves)})
