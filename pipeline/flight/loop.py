"""The train loop: ask the governor, do a piece of work, write down what happened, save what must not be lost."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from pipeline.checkpoint import Store, Tag
from pipeline.config import Config, RunFailed
from pipeline.corpus import Corpus
from pipeline.flight.actuator import Actuator
from pipeline.flight.budget import Budget
from pipeline.flight.corruption import Corrupted, Guard, Suspicion, what_differs
from pipeline.flight.display import Display, View
from pipeline.flight.governor import Directive, Governor
from pipeline.flight.gpu_health import GpuHealth
from pipeline.flight.ledger import Ledger
from pipeline.flight.meter import Meter
from pipeline.flight.notices import SAFE, Interrupted, Notice, Notices, require_notice
from pipeline.flight.outlook import Outlook
from pipeline.flight.parts import Parts
from pipeline.flight.programs import Programs
from pipeline.flight.progress import Progress
from pipeline.flight.risk import Risk
from pipeline.flight.save_timer import SaveTimer
from pipeline.flight.software import software
from pipeline.flight.spacecraft import Spacecraft
from pipeline.flight.validation import Validation
from pipeline.lm.schedule import NEVER
from pipeline.lm.step import TrainChunk, TrainState
from pipeline.plan import Mode
from pipeline.plan.payload import ROUNDING
from pipeline.plan.stops import NOTICE_S

TELEMETRY_EVERY_S = 60.0  # of mission time
BARK_EVERY_S = 60.0  # of the wall's: a sensor that is now right and now wrong must not flood the journal
UNSURE_S = 600.0  # so long after the clock was set by more, or a launch past the end, nothing is decided for good
PAST_END = "past the end by a clock that may yet be set right"
ROLLBACKS = 3  # in a row to the same sealed step: then the fault will not go away


@dataclass
class Job:
    """Everything that the loop works with. What must survive is in `state`, `progress` and `spacecraft` alone."""

    config: Config
    corpus: Corpus
    tokenizer_hash: str | None
    state: TrainState
    first_state: Callable[[], TrainState]  # before step 0
    progress: Progress
    spacecraft: Spacecraft
    governor: Governor
    outlook: Outlook
    actuator: Actuator
    meter: Meter
    gpu_health: GpuHealth | None
    budget: Budget
    train_chunk: TrainChunk
    guard: Guard
    validation: Validation
    store: Store
    ledger: Ledger
    notices: Notices
    display: Display
    parts: Parts
    programs: Programs
    overslept: bool  # the end passed before this launch, by this machine's clock

    def __post_init__(self) -> None:
        self.mode = Mode.OFF
        self.safe: bool | None = None  # as last written down; nothing was
        self.waiting_for = ""  # while the GPU is off
        self.barked_s = -np.inf  # by the wall's clock, when last said aloud
        self.loss: float | None = None
        self.tokens_per_s = 0.0
        self.said_s = -np.inf
        self.unsure_until_s = -np.inf
        if self.overslept:
            self.unsure_until_s = self.spacecraft.clock.now() + UNSURE_S
            self.display.say(f"{PAST_END}: waiting for {UNSURE_S / 60.0:.0f} minutes")
        risk = Risk(self.spacecraft.scenario.timeline)
        self.timer = SaveTimer(self.config.checkpoint, self.store, risk, self.spacecraft.clock)
        self.mended = 0  # batches
        self.found_by: str | None = None  # what found the last corruption
        self.rollbacks = (-1, 0)  # sealed step, and how often in a row

    # ================= the loop =================

    def fly(self) -> bool:
        """Works until the budget is spent (True) or a notice comes (False); either way the last state is sealed."""
        while True:
            try:
                return self.work()
            except Corrupted as found:
                self.roll_back(found)

    def work(self) -> bool:
        """`fly`, as long as nothing is corrupted."""
        if self.store.newest_sealed is None and self.save(urgent=True):
            # Before any power is spent on work: that the disk takes a checkpoint, and how long that takes.
            require_notice(self.config, self.store.time_to_seal_s)
        while not (spent := self.spent()) or self.validation_due():
            if self.notices.pending:
                self.stop()
                return False
            with suppress(Interrupted):
                self.turn()
        if not self.save(urgent=True):
            raise RunFailed(
                f"step {self.progress.step} is the last and could not be sealed (see save_failed in ledger.jsonl); "
                "free some space, and the same command finishes the run"
            )
        self.ledger.append("done", spent=spent, **self.totals())
        return True

    def turn(self) -> None:
        """One decision, and the piece of work that follows from it."""
        self.store.poll()
        was_over = self.budget.over()
        if set_s := self.spacecraft.follow_clock():
            self.clock_set(set_s, was_over)
        waits = self.unsure and self.budget.over()
        if not waits and (why := self.outlook.due()):
            self.plan(why)
        if waits:
            self.spacecraft.catch_up()
            self.follow(self.governor.hold(PAST_END, Notice("PAST_END", NOTICE_S)))
        elif self.spacecraft.granted + ROUNDING < self.next_work():
            self.follow(self.governor.poll())
        elif self.validation_due():
            self.validate()
        else:
            self.train()
        next_save_s = self.next_save_s()
        self.look_around(next_save_s)
        if self.save_due(next_save_s):
            self.save()

    def follow(self, directive: Directive) -> None:
        """Writes down a change of mode, seals before power is given up, and lets the satellite do as it is told."""
        if directive.notice:
            self.seal(directive.notice)
        if safe := directive.reason.startswith(SAFE):
            self.outlook.interrupted()
        if directive.mode != Mode.TRAIN:
            self.guard.rest(self.state, self.progress.step)
        self.waiting_for = directive.reason if directive.mode == Mode.OFF else ""
        if (directive.mode, safe) != (self.mode, self.safe):
            if safe and not self.safe and time.monotonic() - self.barked_s >= BARK_EVERY_S:
                self.barked_s = time.monotonic()
                self.display.say(f"GPU off: {directive.reason}")
            self.mode, self.safe = directive.mode, safe
            self.ledger.append("mode", mode=directive.mode.name, reason=directive.reason, **self.telemetry())
        self.spacecraft.obey(directive.mode, directive.cap_w, directive.deadline_s, directive.chunk_steps)

    def clock_set(self, seconds: float, was_over: bool) -> None:
        """This machine's clock was set: orbit and light are others, and what was measured by them says nothing."""
        self.ledger.append("clock_set", seconds=round(seconds, 3))
        self.display.say(f"the clock was set by {seconds:+,.0f} s")
        self.timer.shift(seconds)
        self.said_s = -np.inf
        # Two clocks that take turns, some seconds apart, must not put off for ever what is to be decided.
        if abs(seconds) > UNSURE_S and not (was_over and self.budget.over()):
            self.unsure_until_s = self.spacecraft.clock.now() + UNSURE_S
        self.outlook.forget()
        self.progress.replan_s = self.progress.recount_s = -np.inf
        self.plan("the clock was set")

    def plan(self, why: str) -> None:
        """Looks ahead anew, and writes down what is expected.

        Raises:
            Interrupted: a notice came first; nothing is changed.
        """
        before = replace(self.progress)
        try:
            self.outlook.look()
            if self.budget.due(self.progress):
                self.budget.replan(self.progress)
        except Interrupted:
            vars(self.progress).update(vars(before))
            raise
        stop = self.outlook.next_stop()
        self.ledger.append(
            "plan",
            why=why,
            planned_steps=self.progress.foreseen_steps,
            **{name: round(value, 4) for name, value in self.progress.measured._asdict().items()},
            next_stop_s=stop.time_s if stop else None,
            next_stop=stop.kind.name if stop else None,
        )

    # ================= work =================

    def next_work(self) -> float:
        """What the next piece of work costs, in training steps."""
        return self.validation.piece_steps if self.validation_due() else 1.0

    def train(self) -> None:
        """Up to a chunk of steps: never across a validation, the start of the cooldown or the end of the budget."""
        progress, config, cap_w = self.progress, self.config, self.spacecraft.cap_w
        self.decide_cooldown()
        self.timer.work_begins()
        granted, most = int(self.spacecraft.granted + ROUNDING), self.guard.at_most(progress.step)
        steps = min(granted, self.governor.capacity, self.next_boundary() - progress.step, most)
        self.parts.done("plan")
        tokens = self.corpus.batches.chunk(progress.sequences, self.governor.capacity, config.train.batch)
        if (mended := self.corpus.batches.mended) > self.mended:
            self.mended = mended
            self.report_corruption("a batch changed in host memory; read again", "checksum")
        self.parts.done("data")
        self.actuator.apply(cap_w)
        self.meter.joules()  # what was drawn before is not this chunk's
        began = time.perf_counter()
        self.guard.enter(self.state, progress)
        self.state, metrics = self.train_chunk(self.state, tokens, steps, progress.cooldown)
        self.parts.done("compile")
        losses = np.asarray(metrics.loss)[:steps]  # waits for the device
        seconds, joules = time.perf_counter() - began, self.meter.joules()
        if first := not self.parts.started:
            self.parts.done("first_step")
            self.ledger.append("first_step", seconds=self.parts.seconds)
            self.programs.seal()
        rested = self.spend(steps, joules / seconds if joules is not None else None)
        if not first:  # which has the time of compilation in it
            self.governor.report(steps, seconds, cap_w, joules, rested * seconds)
            progress.slowness, progress.draw = self.governor.slowness, self.governor.draw
        progress.step += steps
        progress.sequences += steps * config.train.batch
        self.loss, self.tokens_per_s = float(losses[-1]), steps * config.tokens_per_step / seconds
        suspicion = self.guard.leave(self.state, metrics, steps, progress)
        if suspicion and not self.confirmed(suspicion):
            return  # metrics of steps that were computed wrongly say nothing
        self.record(steps, metrics)
        self.require_finite(int(np.asarray(metrics.skipped)[:steps].sum()))

    def confirmed(self, suspicion: Suspicion) -> bool:
        """Whether the last steps give the same result once more; if not, goes on from the right one."""
        verdict = self.guard.replay(self.state, self.progress, suspicion, self.spend)
        if verdict.found:
            self.state = verdict.state
            self.report_corruption(verdict.found, "replay")
            self.save(urgent=True)  # what was sealed in between may be wrong
        elif suspicion.stands_out:
            self.ledger.append("spike", reason=suspicion.reason)
        return verdict.found is None

    def spend(self, steps: float, drawn_w: float | None = None) -> float:
        """Mission time and energy of a piece of work, given in training steps; returns the pause after it by the work.

        `drawn_w`: by the GPU, where that was measured; null: what is asked of it, as it has drawn so far.
        """
        craft = self.spacecraft
        expected_w = self.governor.draw * self.actuator.working_w(craft.cap_w)
        seconds = craft.worked(steps, expected_w if drawn_w is None else drawn_w)
        worked_s = craft.now_s
        until_s = worked_s + self.actuator.pause_s(seconds, craft.cap_w)
        while craft.now_s < until_s and not self.notices.pending:
            craft.pause(min(until_s - craft.now_s, 1.0))
        return (craft.now_s - worked_s) / seconds if seconds else 0.0

    def validate(self) -> None:
        """One piece of held-out text; the result when the last is done."""
        self.guard.rest(self.state, self.progress.step)
        result = self.validation.advance(self.state.params, self.progress.validated_pieces)
        self.spend(self.validation.piece_steps)
        self.progress.validated_pieces += 1
        if result is None:
            return
        self.guard.check(self.state, self.progress.step)  # it is of this state, or of none
        self.progress.validated_step, self.progress.validated_pieces = self.progress.step, 0
        self.progress.validated_loss = result["loss"]
        self.ledger.append("validation", **result)
        error = "" if result["standard_error"] is None else f" ± {result['standard_error']:.4f}"
        bits = f", {result['bits_per_byte']:.3f} bits/byte" if result["bits_per_byte"] else ""
        self.display.say(
            f"step {self.progress.step:,}  validation loss {result['loss']:.4f}{error}{bits}"
            f"  (unigram {result['unigram_loss']:.3f})"
        )

    # ================= decisions =================

    @property
    def unsure(self) -> bool:
        """Whether the clock may be wrong."""
        clock = self.spacecraft.clock
        return clock.unsettled or clock.now() < self.unsure_until_s

    def spent(self) -> str | None:
        """Which limit of the budget is reached, if one is."""
        spent = self.budget.spent(self.progress)
        return None if spent == "time" and self.unsure else spent

    def decide_cooldown(self) -> None:
        """Where the forecast says that the cooldown begins, it does; that is written down before it is acted on."""
        progress, budget = self.progress, self.budget
        if progress.cooldown.start != NEVER or progress.step < budget.cooldown_start(progress.planned_steps):
            return
        if budget.over() or self.unsure:
            return  # a clock that is wrong may pass, this decision does not
        budget.replan(progress)
        if progress.step < budget.cooldown_start(progress.planned_steps):
            return  # the forecast has moved away
        progress.cooldown = budget.decide(progress)
        # Flat: what a power cut leaves of a line must not end in a brace.
        under = {f"budget.{key}": value for key, value in self.config.budget.model_dump(mode="json").items()}
        self.ledger.append("cooldown", **progress.cooldown._asdict(), **under)

    def next_boundary(self) -> int:
        """The next step at which something other than training happens."""
        step, every, planned = self.progress.step, self.config.train.eval_every, self.progress.planned_steps
        boundaries = [step + every - step % every, self.budget.cooldown_start(planned), planned]
        return min((b for b in boundaries if b > step), default=step + 1)

    def validation_due(self) -> bool:
        """At multiples of `eval_every`, and once more when the budget is spent."""
        progress = self.progress
        if progress.step in (0, progress.validated_step):
            return False
        if self.budget.over():
            return False  # the last one does not wait in the dark for charge that comes after the date
        return progress.step % self.config.train.eval_every == 0 or self.budget.spent(progress) is not None

    def require_finite(self, skipped: int) -> None:
        if skipped:
            self.ledger.append("skipped", steps=skipped)
            self.display.say(f"step {self.progress.step:,}  {skipped} updates skipped: loss or gradient not finite")
        if int(self.state.skipped_in_a_row) >= self.config.train.max_skipped:
            raise RunFailed(
                f"train.max_skipped: {self.config.train.max_skipped} updates in a row were not finite at step "
                f"{self.progress.step}; start another --run_dir with a lower optimizer.lr and optimizer.muon_lr, or "
                "--train.precision fp32"
            )

    # ================= saving =================

    def save_due(self, next_save_s: float) -> bool:
        """Whether a periodic save pays now, and the day's bytes have room for it."""
        if next_save_s > 0.0 or self.validation_due():
            return False
        return self.store.affords(self.spacecraft.clock.now())

    def next_save_s(self) -> float:
        """How long until the next periodic save [mission s]."""
        stop = self.outlook.next_stop()
        return self.timer.wait_s(stop.time_s if stop else None)

    def save(self, urgent: bool = False) -> bool:
        """Starts a save; an urgent one returns when it is sealed, or has failed.

        Raises:
            Corrupted: the state is not what training left; nothing is saved.
        """
        meta = {
            "fingerprint": self.guard.check(self.state, self.progress.step),
            "corpus": self.corpus.content_hash,
            "tokenizer": self.tokenizer_hash,
            "config": self.config.model_dump(mode="json"),
            "software": software(),
            "progress": self.progress.as_json(),
            "spacecraft": self.spacecraft.as_json(),
        }
        seen = self.spacecraft.telemetry()
        tag = Tag(seen.orbit, seen.mission_s, self.progress.validated_loss)
        started = self.store.save(self.progress.step, self.state, meta, urgent, tag)
        self.programs.seal()
        self.timer.tried(started)
        return started and (not urgent or self.store.wait(None))

    def seal(self, notice: Notice) -> bool:
        """Seals because power or process will end, and writes down whether that was in time."""
        began = time.perf_counter()
        sealed, took_s = self.save(urgent=True), round(time.perf_counter() - began, 3)
        left_s = round(notice.seconds_left, 3)
        self.ledger.append("notice", kind=notice.kind, seconds_left=left_s, sealed=sealed, seconds=took_s)
        return sealed

    def stop(self) -> None:
        """A notice came: seal and go."""
        notice = self.notices.pending
        assert notice is not None
        self.display.say(f"{notice.kind}: sealing step {self.progress.step:,}")
        if not self.seal(notice):
            newest = self.store.newest_sealed
            raise RunFailed(
                f"step {self.progress.step} could not be sealed before stopping; the newest sealed step is {newest}; "
                "free some space, and the same command goes on from there"
            )
        self.ledger.append("stopped", notice=notice.kind, **self.totals())

    # ================= corruption =================

    def roll_back(self, found: Corrupted) -> None:
        """From the last sealed step on once more. The satellite's time goes on.

        Raises:
            RunFailed: that has been done too often, or nothing that was sealed can be restored.
        """
        restored = self.store.restore(jax.eval_shape(lambda: self.state), what_differs)
        saved = Progress.from_json(restored.meta["progress"]) if restored else Progress()
        lost = self.progress.step - saved.step
        self.progress.back_to(saved)
        self.state = restored.state if restored else self.first_state()
        self.guard.forget()
        self.guard.rest(self.state, saved.step)
        self.validation.forget()
        self.timer.tried(True)
        self.report_corruption(f"{found}; back to step {saved.step}, {lost} steps lost", found.found_by)
        before, times = self.rollbacks
        self.rollbacks = saved.step, times + 1 if before == saved.step else 1
        if self.rollbacks[1] > ROLLBACKS:
            raise RunFailed(
                f"step {saved.step}: {ROLLBACKS} rollbacks to it, and again {found}: this device computes or keeps "
                "wrongly, or not twice the same; switch it off and on, and the same command goes on from there"
            )

    def report_corruption(self, reason: str, found_by: str) -> None:
        self.progress.corruptions += 1
        self.found_by = found_by
        counts = {"corruptions": self.progress.corruptions, "lost_steps": self.progress.lost_steps}
        self.ledger.append("corruption", reason=reason, found_by=found_by, **counts)
        self.display.say(f"corruption: {reason}")

    # ================= telling =================

    def record(self, steps: int, metrics: Any) -> None:
        """Metrics of every `log_every`-th step, whatever the chunks were."""
        columns = {name: np.asarray(getattr(metrics, name)) for name in ("loss", "grad_norm", "rate")}
        first = self.progress.step - steps
        for i in range(steps):
            if (first + i + 1) % self.config.train.log_every == 0:
                values = {name: float(column[i]) for name, column in columns.items()}
                self.ledger.append("step", at=first + i + 1, tokens_per_s=round(self.tokens_per_s, 1), **values)

    def look_around(self, next_save_s: float) -> None:
        """Telemetry for the ledger and the person who watches."""
        seen = self.spacecraft.telemetry()
        if seen.mission_s - self.said_s >= TELEMETRY_EVERY_S:
            self.said_s = seen.mission_s
            self.ledger.append("telemetry", mode=self.mode.name, **self.telemetry())
        if self.gpu_health and (news := self.gpu_health.news()):
            self.ledger.append("gpu_health", **news)
        steps_per_s = self.tokens_per_s / self.config.tokens_per_step
        planned = self.progress.foreseen_steps
        left_s = (planned - self.progress.step) / steps_per_s if planned and steps_per_s else None
        self.display.show(
            View(
                step=self.progress.step,
                steps=planned,
                loss=self.loss,
                tokens_per_s=self.tokens_per_s,
                orbit=seen.orbit,
                sunlit=seen.sunlit,
                charge=seen.charge if self.spacecraft.told else None,
                mode=f"{self.mode.name} ({self.waiting_for})" if self.waiting_for else self.mode.name,
                next_save_s=next_save_s,
                eta_s=None if self.safe else left_s,
            )
        )

    def telemetry(self) -> dict[str, Any]:
        seen = self.spacecraft.telemetry()
        return {
            "charge_wh": round(seen.charge_wh, 3),
            "charge": round(seen.charge, 5),
            "temperature_c": round(seen.plate_c, 2),
            "sunlit": round(seen.sunlit, 3),
            "orbit": seen.orbit,
            "train_wh": round(self.spacecraft.train_wh, 3),
        }

    def totals(self) -> dict[str, Any]:
        return {
            "tokens": self.progress.sequences * self.config.model.context,
            "orbits": round(self.spacecraft.orbits, 3),
            "eclipses": self.spacecraft.eclipses,
            "train_wh": round(self.spacecraft.train_wh, 3),
            "train_s": round(self.spacecraft.train_s, 3),
            "lost_steps": self.progress.lost_steps,
            "corruptions": self.progress.corruptions,
            "replayed_steps": self.progress.replayed_steps,
            "skipped": int(self.state.skipped),
        }
