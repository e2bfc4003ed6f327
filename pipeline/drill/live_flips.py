"""Bits flipped while a run trains: in parameters, optimizer state, gradients, and a batch that waits in host memory.

Every flip gets a fresh stretch of training, from one sealed step, in the real loop with its real store. What is
caught must be mended: the stretch ends with the bits of the undisturbed one. What is not caught is harmless if the
loss at the end is no further from the undisturbed one than other text in that stretch puts it.
"""

import random
from collections.abc import Sequence
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from pipeline.checkpoint import arrays
from pipeline.config import Config, RunFailed
from pipeline.drill.flip import GRADIENTS, TARGETS, Flip, Shot, draw, make_faulty_chunk
from pipeline.flight.corruption import Corrupted, Guard, differing
from pipeline.flight.display import Display
from pipeline.flight.loop import Job
from pipeline.flight.notices import Interrupted, Notices
from pipeline.flight.progress import Progress
from pipeline.flight.run import assemble
from pipeline.lm.step import TrainState

REPLAY_EVERY = 40  # steps; the default would only make the stretches longer
START = 2 * REPLAY_EVERY  # by then there is something that losses and gradient norms are measured against
END = 4 * REPLAY_EVERY + 4  # the flip comes in the first half of the stretch from START to here
OTHER_TEXTS = 12  # for the noise
CONTROL = 10  # one flip in so many is flown without guards too


@dataclass
class Counts:
    injected: int = 0
    detected: int = 0
    repaired: int = 0  # of the detected: the stretch ended with the bits of the undisturbed one
    harmless: int = 0  # of the others: the loss at its end is within the noise
    missed: int = 0  # of the others: it is not
    crashed: int = 0  # the stretch ended otherwise

    def add(self, other: "Counts") -> None:
        for name in vars(Counts()):
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass
class LiveFlips(Counts):
    """What became of all flips."""

    within: int = 0  # of the detected: within REPLAY_EVERY steps of the flip
    latency_steps: list[int] = field(default_factory=list)  # from flip to detection
    found_by: dict[str, int] = field(default_factory=dict)
    table: dict[tuple[str, str], Counts] = field(default_factory=dict)  # by target and kind of bits
    loss: float = 0.0  # at the end of the undisturbed stretch [nats per token]
    noise: float = 0.0  # its standard deviation over OTHER_TEXTS
    control: dict[str, int] = field(default_factory=dict)  # the same without guards, but for `repaired`
    failures: list[str] = field(default_factory=list)  # stretches that crashed, or were detected and not mended

    def as_json(self) -> dict[str, Any]:
        rows = [{"target": target, "bits": bits} | vars(counts) for (target, bits), counts in self.table.items()]
        late = {f"p{p}": int(np.percentile(self.latency_steps or [0], p, method="higher")) for p in (50, 99, 100)}
        return vars(self) | {"table": rows, "latency_steps": late}


def small(config: Config, work: Path) -> Config:
    """The run of `config` with a model small enough for a thousand stretches, in the empty folder `work`.

    Text and optimizer stay. Steps cost next to no mission time, so that no stop comes in between, and nothing is
    validated or saved but where the drill says so.
    """
    values = config.model_dump()
    values |= {"name": "live-flips", "run_dir": work / "run", "budget": {"steps": 10**8}}
    values["model"] = {"depth": 2, "width": 32, "heads": 2, "context": 32}
    values["train"] |= {"batch": 4, "microbatch": None, "chunk_steps": 10, "replay_every": REPLAY_EVERY}
    # No chunk crosses a validation: every stretch ends at the same step, wherever its chunks began.
    values["train"] |= {"eval_every": END, "eval_batches": 40, "log_every": 1000}
    values["checkpoint"] |= {"interval_s": 1e9}
    values["mission"] |= {"clock": "simulated", "step_flops": 1e9, "restart_s": 0.0}
    values["telemetry"] |= {"source": "simulated"}
    values["gpu"] |= {"actuator": "simulated"}
    return Config(**values)


def run_live_flips(config: Config, flips: int = 1000, seed: int = 0) -> LiveFlips:
    """Injects `flips` single-bit flips, as many into each of TARGETS, and every CONTROL-th once more without guards.

    Args:
        config: what `small` makes of a run. It trains in this process.

    Returns:
        `injected`, `detected`, `repaired`, `harmless` as every drill counts them, and more. All is well if `injected`
        is `detected` + `harmless` and `repaired` is `detected`.

    Raises:
        RunFailed: the control arm noticed a flip, or none of its flips corrupted anything: the injector is broken.
    """
    notices, display = Notices(config.checkpoint.notice_s), Display(quiet=True)
    try:
        with ExitStack() as stack:
            try:
                job = assemble(config, notices, display, stack)
            except Interrupted as interrupted:
                raise KeyboardInterrupt from interrupted
            return _Range(job).shoot(flips, random.Random(seed))
    finally:
        display.close()
        notices.release()


class _Blind(Guard):
    """Guards nothing."""

    def _compare(self, state: TrainState, left: Array, found: Array) -> None:
        pass


@dataclass(frozen=True)
class _End:
    """How a stretch ended."""

    state: TrainState  # in host memory
    loss: float
    found_by: str | None = None
    latency_steps: int = 0


class _Range:
    """One job, taken back again and again to the same sealed step."""

    def __init__(self, job: Job):
        self.job, self.train = job, job.config.train
        self.chunk, self.faulty = job.train_chunk, make_faulty_chunk(job.config)
        while job.progress.step < START:
            job.turn()
        if not job.save(urgent=True):
            raise RunFailed(f"{job.config.directory}: step {START} could not be sealed; free some space")
        self.sealed, self.saved = _host(job.state), job.progress.as_json()
        # Every stretch goes back to that step, so that none may seal another.
        job.save = lambda urgent=False: True  # type: ignore[method-assign]
        self.clean, self.clean_faulty = self.fly(self.shot(None)), self.fly(Shot(None, self.chunk, self.faulty))
        others = [self.fly(self.shot(None), text=number).loss for number in range(1, OTHER_TEXTS + 1)]
        self.noise = float(np.std(others, ddof=1))

    def shoot(self, flips: int, dice: random.Random) -> LiveFlips:
        words = self.train.chunk_steps * self.train.batch * (self.job.config.model.context + 1)
        steps = range(START + 1, START + REPLAY_EVERY + 1)
        drawn = [draw(TARGETS[i % len(TARGETS)], self.sealed, words, steps, dice) for i in range(flips)]
        result = LiveFlips(loss=self.clean.loss, noise=self.noise)
        for flip in sorted(drawn, key=_order):
            counted = self.judge(flip, result)
            result.table.setdefault((flip.target, flip.bits), Counts()).add(counted)
            result.add(counted)
        result.control = self.control(drawn[::CONTROL])
        return result

    def shot(self, flip: Flip | None, unnoticed: bool = False) -> Shot:
        """A flip in a gradient needs the program that has a place for it."""
        program = self.faulty if flip and flip.target == GRADIENTS else None
        return Shot(flip, self.chunk, program, unnoticed)

    def judge(self, flip: Flip, result: LiveFlips) -> Counts:
        """Flies one flip, and counts what became of it."""
        counted = Counts(injected=1)
        try:
            end = self.fly(self.shot(flip))
        except Exception as error:  # whatever it is, no run may end so
            counted.crashed = 1
            result.failures.append(f"{flip}: {type(error).__name__}: {error}")
            return counted
        if end.found_by is None:
            counted.harmless = int(self.harmless(flip, end))
            counted.missed = 1 - counted.harmless
            return counted
        changed = self.changed(flip, end)
        counted.detected, counted.repaired = 1, int(not changed)
        if changed:
            result.failures.append(
                f"{flip}: found by {end.found_by} after {end.latency_steps} steps, not mended: other bits at the end "
                f"in {changed}"
            )
        result.found_by[end.found_by] = result.found_by.get(end.found_by, 0) + 1
        result.latency_steps.append(end.latency_steps)
        result.within += end.latency_steps <= REPLAY_EVERY
        return counted

    def control(self, flips: Sequence[Flip]) -> dict[str, int]:
        """The same flips with nothing on guard: some must end in a corrupted state, and none may be noticed."""
        counts = {"injected": len(flips), "detected": 0, "corrupted": 0, "missed": 0, "crashed": 0}
        for flip in flips:
            try:
                end = self.fly(self.shot(flip, unnoticed=True), guarded=False)
            except RunFailed:  # the loss is not finite any more
                counts["crashed"] += 1
                continue
            counts["detected"] += end.found_by is not None
            counts["corrupted"] += bool(self.changed(flip, end))
            counts["missed"] += not self.harmless(flip, end)
        if counts["detected"] or not counts["corrupted"]:
            raise RunFailed(f"control arm without guards: {counts}: the injector is broken")
        return counts

    def changed(self, flip: Flip, end: _End) -> str | None:
        """Which leaves do not end with the bits of the undisturbed stretch, in words; None if all do."""
        clean = self.clean_faulty if flip.target == GRADIENTS else self.clean
        return differing(_bits(end.state), _bits(clean.state))

    def harmless(self, flip: Flip, end: _End) -> bool:
        return not self.changed(flip, end) or abs(end.loss - self.clean.loss) <= 2.0 * self.noise

    def fly(self, shot: Shot, guarded: bool = True, text: int = 0) -> _End:
        """From the sealed step to the end of the stretch; with a `text` other than 0, on other text."""
        job, found_by, latency_steps = self.job, None, 0
        self.back(shot, guarded, text)
        while job.progress.step < END:
            if job.notices.pending:
                raise KeyboardInterrupt
            shot.between(job)
            before = job.progress.corruptions
            try:
                job.turn()
                if job.progress.step >= END:
                    job.guard.check(job.state, job.progress.step)  # as the next save would
                step = job.progress.step
            except Corrupted as found:
                step = job.progress.step
                job.roll_back(found)
            if job.progress.corruptions > before and found_by is None:
                assert shot.struck_step is not None
                found_by, latency_steps = job.found_by, step - shot.struck_step
        assert shot.flip is None or shot.struck_step is not None
        return _End(_host(job.state), self.loss(), found_by, latency_steps)

    def back(self, shot: Shot, guarded: bool, text: int) -> None:
        """To the sealed step."""
        job, train = self.job, self.train if guarded else self.train.model_copy(update={"replay_every": None})
        job.state = jax.tree.map(jnp.array, self.sealed)
        vars(job.progress).update(vars(Progress.from_json(deepcopy(self.saved))))
        job.progress.sequences += text * (END - START) * train.batch
        job.rollbacks, job.found_by = (-1, 0), None
        job.train_chunk = shot.train
        kind = Guard if guarded else _Blind
        job.guard = kind(train, job.corpus.batches, Shot(None, self.chunk, shot.faulty).train, job.governor.capacity)
        job.guard.rest(job.state, job.progress.step)

    def loss(self) -> float:
        """On held-out text [nats per token]; infinite if it is no number."""
        loss = self.job.validation.whole(self.job.state.params)["loss"]
        return loss if np.isfinite(loss) else np.inf


def _host(state: TrainState) -> TrainState:
    return jax.tree.map(np.array, state)


def _bits(state: TrainState) -> dict[str, bytes]:
    return {name: leaf.tobytes() for name, leaf in arrays.named(state).items()}


def _order(flip: Flip) -> tuple[int, int]:
    """That of the table."""
    return TARGETS.index(flip.target), -flip.bit
