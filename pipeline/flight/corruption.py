"""Silent corruption: whether the state is still what training left, and whether a step computes the same twice.

Two guards, for two kinds of fault:

- At rest. Whenever training stops (pause, validation, save, and between chunks at least every `chunk_steps` steps) the
  state's fingerprint is taken on the device, and compared when it goes on: nothing that happened in between passes.
- At work. What a step computed can only be told by computing it again. One step in `replay_every` is, and besides
  whatever ends in a loss or gradient norm that stands out: from a copy of the state before it, and from data read
  again. Another result is corruption, and a third computation decides; the same is what the text does.

Not found is a fault while steps run that neither stands out nor falls into a replayed step, and one that strikes
between two chunks where no fingerprint was due: one takes 2 % of a small model's step on a CPU, so that of chunks
shorter than half of `chunk_steps` not every one ends with it.
"""

from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, UInt32

from pipeline.checkpoint import Restored, arrays
from pipeline.config.learning import Train
from pipeline.corpus.batches import Batches
from pipeline.flight.progress import Progress
from pipeline.lm.fingerprint import fingerprint
from pipeline.lm.outlier import LOSS_LIMIT, NORM_LIMIT, RECENT, outliers, remember
from pipeline.lm.schedule import NEVER
from pipeline.lm.step import Metrics, TrainChunk, TrainState

SPARES = 2  # a fault in the last step before one of them shows only after it: the other is older
APART = 3  # steps between them, at least; so many, that chunks of one step are not copied one by one


class Corrupted(Exception):
    """The state, or what was computed from it, is not what it must be."""

    def __init__(self, what: str, found_by: str) -> None:
        """`found_by`: fingerprint, or replay."""
        super().__init__(what)
        self.found_by = found_by


class Suspicion(NamedTuple):
    """Why the last steps are to be computed again."""

    reason: str
    steps: int  # what that is charged for
    stands_out: bool  # by loss or gradient norm; otherwise its turn has come


class Verdict(NamedTuple):
    """The state that the last steps lead to, and which result was wrong, if one was."""

    state: TrainState
    found: str | None


class Spare(NamedTuple):
    """A copy of the state, on the device, and the fingerprint of what was copied."""

    step: int
    sequences: int
    state: TrainState
    prints: UInt32[Array, "leaf 2"]


class Guard:
    """Watches over one job's state. Around each chunk: `enter`, the chunk, `leave`, and `replay` if that says so."""

    def __init__(self, config: Train, batches: Batches, train_chunk: TrainChunk, capacity: int):
        """`capacity`: steps that `train_chunk` has been compiled for."""
        self._config, self._every = config, config.replay_every
        self._batches, self._train_chunk, self._capacity = batches, train_chunk, capacity
        self._apart, self._usual = max(capacity, APART), outlier_steps(capacity)
        self.forget()

    def forget(self) -> None:
        """The state is another one from here on."""
        self._left: UInt32[Array, "leaf 2"] | None = None  # fingerprint of the state as training left it
        self._left_step = 0
        self._found: UInt32[Array, "leaf 2"] | None = None  # and as it was when training went on
        self._spares: deque[Spare] = deque()

    # ---- at rest ----

    def rest(self, state: TrainState, step: int) -> None:
        """Training stops, if only for a moment: from now on the state must not change."""
        if self._left is None:
            self._left, self._left_step = fingerprint(state), step

    def check(self, state: TrainState, step: int) -> dict[str, str]:
        """The fingerprint of each leaf, to be kept with the state.

        Raises:
            Corrupted: the state changed since training left it.
        """
        self.rest(state, step)
        assert self._left is not None
        self._compare(state, self._left, fingerprint(state))
        return named(state, self._left)

    def _compare(self, state: TrainState, left: Array, found: Array) -> None:
        if not np.array_equal(left, found):
            changed = differing(named(state, left), named(state, found))
            raise Corrupted(f"{changed} changed at rest after step {self._left_step}", "fingerprint")

    # ---- at work ----

    def at_most(self, step: int) -> int:
        """Steps that the next chunk may take: one whose turn it is to be computed again is a chunk of its own."""
        if self._every is None:
            return NEVER
        return (self._every - 1 - step % self._every) or 1

    def enter(self, state: TrainState, progress: Progress) -> None:
        """Training goes on from `state`."""
        # Compared in `leave`: waiting for it here would leave the device idle.
        self._found = None if self._left is None else fingerprint(state)
        if self._every is None:
            return
        age = progress.step - self._spares[-1].step if self._spares else NEVER
        if age >= self._apart or (self._its_turn(progress.step + 1) and age > 0):
            if len(self._spares) == SPARES:
                self._spares.popleft()  # before the copy: there is memory for so many
            prints = fingerprint(state) if self._found is None else self._found
            self._spares.append(Spare(progress.step, progress.sequences, arrays.copied(state), prints))

    def leave(self, state: TrainState, metrics: Metrics, steps: int, progress: Progress) -> Suspicion | None:
        """Judges the chunk of `steps` steps that led to `state`, at `progress.step`.

        Raises:
            Corrupted: it did not begin from the state that training had left.
        """
        if self._left is not None:
            assert self._found is not None
            self._compare(state, self._left, self._found)
        self._left = self._found = None
        if 2 * (progress.step - self._left_step) >= self._config.chunk_steps:
            self.rest(state, progress.step)
        if self._every is None:
            return None
        # As long as a replay usually is. How long this one is depends on when the process was started, and what is
        # charged must not: it moves mission time. What stands out again so soon is the same spike.
        new = progress.spiked_step is None or progress.step - progress.spiked_step >= self._usual
        if (reason := self._standing_out(metrics, steps, progress)) and new:
            return Suspicion(reason, self._usual, True)
        if self._its_turn(progress.step):
            return Suspicion(f"one step in {self._every}", 1, False)
        return None

    def replay(
        self, state: TrainState, progress: Progress, suspicion: Suspicion, spend: Callable[[float], object]
    ) -> Verdict:
        """Computes the last steps again, and where the result is another, a third time: two of three are right.

        Not back to the last sealed step: it may have been sealed after the fault.

        Args:
            spend: takes what each replay is charged for [steps].

        Raises:
            Corrupted: no two results are the same.
        """
        spare = self._spares[0 if suspicion.stands_out else -1]
        self._spares.clear()  # there is memory for two states beside the one that trains
        self.rest(state, progress.step)
        assert self._left is not None
        first = named(state, self._left)
        if changed := differing(named(state, spare.prints), named(state, fingerprint(spare.state))):
            return Verdict(state, f"{changed} changed in the copy of step {spare.step}; not computed again")

        def once_more(start: TrainState) -> tuple[TrainState, dict[str, str]]:
            spend(suspicion.steps)
            progress.replayed_steps += suspicion.steps
            after = self._from(spare._replace(state=start), progress)
            return after, named(after, fingerprint(after))

        again, second = once_more(arrays.copied(spare.state))
        changed = differing(first, second)
        if changed is None:
            if suspicion.stands_out:
                progress.spikes, progress.spiked_step = progress.spikes + 1, progress.step
            return Verdict(state, None)
        what = f"{changed} differs at step {progress.step} when computed again from step {spare.step}"
        what += f" ({suspicion.reason})"
        _, third = once_more(spare.state)
        if third == second:
            self.forget()
            self.rest(again, progress.step)
            return Verdict(again, f"{what}, twice; taken from there")
        if third == first:
            return Verdict(state, f"{what}, and a third time not; kept")
        raise Corrupted(f"{what}, and again a third time", "replay")

    def _from(self, spare: Spare, progress: Progress) -> TrainState:
        """From a spare, which is eaten, to where training stands, with data read again."""
        step, sequences, state, _ = spare
        while step < progress.step:
            steps = min(self._capacity, progress.step - step)
            tokens = self._batches.read(sequences, self._capacity, self._config.batch)
            state, _ = self._train_chunk(state, tokens, steps, progress.cooldown)
            step, sequences = step + steps, sequences + steps * self._config.batch
        return state

    def _its_turn(self, step: int) -> bool:
        """Whether the step that leads to `step` is computed twice."""
        return self._every is not None and step % self._every == 0

    def _standing_out(self, metrics: Metrics, steps: int, progress: Progress) -> str | None:
        """The first loss or gradient norm of the chunk that does, in words; remembers all."""
        found = []
        for name, column, recent, limit in (
            ("loss", metrics.loss, progress.recent_losses, LOSS_LIMIT),
            ("gradient norm", metrics.grad_norm, progress.recent_norms, NORM_LIMIT),
        ):
            before, values = np.array(recent), np.asarray(column)[:steps].astype(float)
            for i in np.flatnonzero(outliers(before, values, limit)):
                step = progress.step - steps + int(i) + 1
                usual = f"{np.median(before[-RECENT:]):.4g}" if len(before) else "not known yet"
                found.append((step, f"{name} {values[i]:.4g} at step {step}, before it {usual}"))
            recent[:] = remember(before, values).tolist()
        return min(found)[1] if found else None


def outlier_steps(capacity: int) -> int:
    """What it is charged to compute again what stood out, in steps, where chunks have room for `capacity`."""
    return SPARES * max(capacity, APART)


def what_differs(restored: Restored) -> str | None:
    """What is not on the device as it was when it was saved; None if all is."""
    found = named(restored.state, fingerprint(restored.state))
    wrong = differing(restored.meta["fingerprint"], found)
    return f"{wrong} differs from what the device held when it was saved" if wrong else None


def named(state: TrainState, prints: Array) -> dict[str, str]:
    """The fingerprint of each leaf in hexadecimal, by the name of the leaf."""
    rows = np.asarray(prints)
    return {name: f"{a:08x}{b:08x}" for name, (a, b) in zip(arrays.named(state), rows, strict=True)}


def differing(some: Mapping[str, str | bytes], others: Mapping[str, str | bytes]) -> str | None:
    """Which leaves differ, in words; None if none does."""
    names = [name for name in some if some[name] != others.get(name)]
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return ", ".join(names[:2]) + more if names else None
