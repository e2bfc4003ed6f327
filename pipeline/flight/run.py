"""Launch: from a configuration to a finished run, or to a stopped one that the same call resumes."""

import gc
import json
import math
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace
from enum import Enum
from errno import EROFS
from functools import cache, partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from pipeline.checkpoint import durable
from pipeline.config import FULL, BadInput, Config, Refused, RunFailed, stopped_by, tree
from pipeline.flight.device import choose_device
from pipeline.flight.directory import changed, differing, open_directory, share, within_reach
from pipeline.flight.display import Display
from pipeline.flight.ledger import Ledger, Recalled, recall
from pipeline.flight.notices import Interrupted, Notices, require_notice
from pipeline.flight.parts import Parts
from pipeline.flight.programs import Programs
from pipeline.flight.progress import Progress
from pipeline.flight.recorded import (
    CHECKPOINTS,
    CONFIG,
    LEDGER,
    TOKENIZER,
    Found,
    begun_with,
    lies,
    look,
    look_at_tokenizer,
    record,
    record_tokenizer,
)
from pipeline.flight.software import other_software, software
from pipeline.flight.start_from import begin, settle, tokenizer
from pipeline.flight.tracker import check, make_tracker

if TYPE_CHECKING:
    from pipeline.checkpoint import Restored
    from pipeline.corpus import Corpus
    from pipeline.flight.loop import Job

# What becomes of checkpoints, and of what a run can do without, that an operator must know at once.
SAID = {
    *("tracker_failed", "programs_failed", "other_software"),
    *("save_failed", "save_skipped", "quarantined", "repaired", "repair_failed"),
    *("mirror_failed", "mirror_shares_device", "scrub_failed", "keeper_failed"),
}


class Outcome(Enum):
    DONE = "done"
    STOPPED = "stopped"


def fly(config: Config, quiet: bool = False) -> tuple[Outcome, dict[str, Any]]:
    """Trains, or resumes: the same call both times. Returns how it ended and the run's totals.

    Raises:
        BadInput: something given is wrong; nothing of an earlier run is lost.
        RunFailed: the work cannot go on; what was sealed stays. Also what is wrong with a configuration that an earlier
            launch has worked with: it is not the input that changed, and another try may find a device, a disk or a
            port as they were. And a disk that a run has been written to and that takes no writes now, whatever is
            given: a file system makes itself read-only where its medium failed.
    """
    try:
        near = within_reach(config)
        before = begun_with(near)
    except OSError as error:
        where = error.filename or config.directory
        raise stopped_by(error, f"{where}: cannot be read", "give another place") from error
    notices, display = Notices(config.checkpoint.notice_s), Display(quiet)
    try:
        return _launch(config, near, notices, display)
    except Refused:
        raise
    except BadInput as error:
        if before and (_read_only(config, error.__cause__) or _same(config, near, before)):
            raise RunFailed(str(error)) from error
        raise
    except OSError as error:
        raise RunFailed(_reason(error)) from error
    finally:
        display.close()
        notices.release()


def _read_only(config: Config, cause: BaseException | None) -> bool:
    """Whether the run's own disk takes no writes."""
    if not isinstance(cause, OSError) or cause.errno != EROFS:
        return False
    return Path(str(cause.filename)).is_relative_to(config.directory)


def _same(config: Config, near: Config, before: Config) -> bool:
    """Whether an earlier launch has worked with this very configuration."""
    kept = ("orbit.start", None)  # not given: the run's own, where newer elements were
    with suppress(BadInput):
        now = settle(near).model_copy(update={"checkpoint": config.checkpoint})
        return all((key, value) == kept for key, (value, _) in differing(now, before).items())
    return False


def _launch(config: Config, near: Config, notices: Notices, display: Display) -> tuple[Outcome, dict[str, Any]]:
    with ExitStack() as stack:
        gc.disable()  # what is imported and traced is no garbage, and to look for some takes a sixth of that time
        try:
            job = assemble(config, notices, display, stack, near)
        except Interrupted as interrupted:
            display.say(f"{interrupted}: stopped before the first step; the same command starts again")
            return Outcome.STOPPED, {}
        finally:
            gc.enable()
        try:
            outcome = Outcome.DONE if job.fly() else Outcome.STOPPED
            return outcome, job.totals()
        except Refused:
            raise
        except BadInput as error:  # nobody gives anything in flight
            raise RunFailed(str(error)) from error


def assemble(config: Config, notices: Notices, display: Display, stack: ExitStack, near: Config | None = None) -> "Job":
    """Everything that a run works with, opened on `stack`.

    Args:
        near: `config` as `within_reach` has it, if that is known. The thread that copies asks a second device that
            hangs again.

    Raises:
        Interrupted: a notice came before there was a state to save.
    """
    parts = Parts()
    near = open_directory(settle(near or within_reach(config)))
    config = near.model_copy(update={"checkpoint": config.checkpoint})
    directory = config.directory
    check(config)
    xla = directory / "cache" / "xla"
    device = choose_device(config.train.device, config.model.attention, xla, config.train.precision)
    import jax
    import numpy as np

    from pipeline.checkpoint import Store
    from pipeline.corpus import open_corpus
    from pipeline.flight.actuator import make_actuator
    from pipeline.flight.ahead import Ahead
    from pipeline.flight.budget import Budget
    from pipeline.flight.carry_over import carry_over
    from pipeline.flight.corruption import Guard, what_differs
    from pipeline.flight.governor import Governor, capacity
    from pipeline.flight.gpu_health import gpu_health
    from pipeline.flight.loop import Job
    from pipeline.flight.meter import make_meter
    from pipeline.flight.mission import mission
    from pipeline.flight.outlook import Outlook
    from pipeline.flight.spacecraft import Spacecraft
    from pipeline.flight.validation import Validation
    from pipeline.lm.schedule import Cooldown
    from pipeline.lm.step import init_state, make_train_chunk

    parts.done("import")
    corpus = open_corpus(config.corpus, config.model.context, config.seed, notices.check, tokenizer(near))
    parts.done("corpus")

    ledger_path = directory / LEDGER
    known = recall(ledger_path, "cooldown", "launch", "resume", "sealed", "corruption", "done")
    last = known.last
    store = Store(
        directory / CHECKPOINTS,
        directory / "quarantine",
        config.checkpoint,
        lambda event, fields: _tell(event, fields, ledger, display),
        partial(share, config),
        mirror_hangs=near.mirror != config.mirror,
    )
    ledger = Ledger(ledger_path)
    ledger.position = lambda: (last["mission_s"], last["step"]) if last else (0.0, 0)
    stack.callback(ledger.close)
    stack.push(partial(_why_it_failed, ledger, directory / CONFIG))
    stack.enter_context(store)
    programs = Programs(xla)
    if programs.unusable:
        jax.config.update("jax_compilation_cache_dir", None)
        _tell("programs_failed", {"reason": programs.unusable}, ledger, display)

    make = jax.jit(partial(init_state, config, corpus.vocab_size))
    shapes, scenario = jax.eval_shape(make), replace(mission(config, corpus.vocab_size), check=notices.check)
    chunk = capacity(config, scenario), config.train.batch, config.model.context + 1
    tokens = jax.ShapeDtypeStruct(chunk, np.int32)
    train_chunk = Ahead(make_train_chunk(config), shapes, tokens, 1, Cooldown())
    stack.callback(train_chunk.close)
    programs.compiling = lambda: train_chunk.under_way
    restored = store.restore(shapes, what_differs)
    require_notice(config, known.found["sealed"]["seconds"] if "sealed" in known.found else None, store.time_to_seal_s)
    progress = _progress(config, corpus, restored, known)
    if restored:
        carry_over(progress, restored.meta, config, scenario, corpus.vocab_size)
    state, config = (restored.state, config) if restored else begin(config, make)
    read = {"verify": restored.verify_s, "read": restored.load_s} if restored else {}
    guard = Guard(config.train, corpus.batches, train_chunk, chunk[0])
    guard.rest(state, progress.step)  # compiled here, while the train step is: later, nothing would be beside it
    parts.done("restore", **read)

    saved = restored.meta["spacecraft"] if restored else {}
    spacecraft = Spacecraft(config, scenario, saved, partial(_wait, notices, cache(display.say)))
    spacecraft.listen()  # before the directory is this run's, as all that may be refused
    ledger.position = lambda: (spacecraft.clock.now(), progress.step)
    stack.callback(spacecraft.close)
    governor = Governor(config, spacecraft)
    progress.measured = governor.correct(progress.measured)
    if spacecraft.set_back_s:
        ledger.append("clock_set", seconds=-round(spacecraft.set_back_s, 3))
        progress.recount_s = -math.inf
    if spacecraft.was_dark_since_saved:  # an orbit spent dark says nothing of the array
        progress.planned_from, progress.replan_s = {}, -math.inf
    outlook = Outlook(spacecraft, governor, progress)
    actuator = make_actuator(config.gpu)
    stack.callback(actuator.close)
    meter = make_meter(jax.default_backend())
    stack.callback(meter.close)
    health = gpu_health(jax.default_backend())
    if health:
        stack.callback(health.close)
    validation = Validation(config, corpus)
    budget = Budget(config, spacecraft, governor, validation.steps)
    if not (directory / "plan.json").exists():
        durable.write(directory / "plan.json", json.dumps(budget.expectation(progress), indent=1).encode())
    found = look(directory)
    record(config)
    if restored and found in (Found.DAMAGED, Found.LOST):
        display.say(f"{directory / CONFIG} was {found.value}: made anew")
    tokenizer_found = look_at_tokenizer(directory)
    tokenizer_hash = record_tokenizer(config, corpus.tokenizer)
    if tokenizer_found in (Found.DAMAGED, Found.LOST):
        mended = lies(directory / TOKENIZER, tokenizer_hash) is Found.WHOLE
        became = "made anew" if mended else "and whole nowhere else; put a good copy there"
        display.say(f"{directory / TOKENIZER} was {tokenizer_found.value}: {became}")
    with suppress(BadInput):  # the store has said so
        if near.mirror:
            share(config)
    parts.done("mission")

    tracker = make_tracker(
        config, progress.step, lambda reason: _tell("tracker_failed", {"reason": reason}, ledger, display)
    )
    stack.callback(tracker.close)
    ledger.listener = tracker.hear

    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    # Copies to the second device are made, and written down, after it too.
    done = [event for event in known.found if event in ("launch", "resume", "done")][-1:] == ["done"]
    launch = {"parameters": parameters, "vocab_size": corpus.vocab_size, "corpus": corpus.content_hash}
    launch["code"] = software()["code"]
    launch |= config.satellite.keeps
    about = {"device": device, "jax": jax.__version__, "unigram_loss": corpus.unigram_loss}
    about |= {"programs_kept": programs.kept, "programs_damaged": programs.damaged, "config_found": found.value}
    about |= {"tokenizer_found": tokenizer_found.value}
    if restored:
        about |= changed(config, restored.meta.get("config", {}))
    ledger.append("resume" if restored else "launch", lost_steps=progress.lost_steps, **launch, **about)
    if restored and (reason := other_software(restored.meta.get("software"))):
        _tell("other_software", {"reason": reason}, ledger, display)
    display.say(_greeting(config, device, parameters, len(corpus.train), restored, progress))

    return Job(
        config=config,
        corpus=corpus,
        tokenizer_hash=tokenizer_hash,
        state=state,
        first_state=lambda: begin(config, make)[0],
        progress=progress,
        spacecraft=spacecraft,
        governor=governor,
        outlook=outlook,
        actuator=actuator,
        meter=meter,
        gpu_health=health,
        budget=budget,
        train_chunk=train_chunk,
        guard=guard,
        validation=validation,
        store=store,
        ledger=ledger,
        notices=notices,
        display=display,
        parts=parts,
        programs=programs,
        overslept=not spacecraft.simulated and budget.over() and not done,
    )


def _why_it_failed(
    ledger: Ledger, begun: Path, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
) -> None:
    """Writes down what ends a launch, once the run has begun."""
    with suppress(OSError):  # the disk itself may be what failed
        if isinstance(error, Exception) and not isinstance(error, Interrupted) and begun.exists():
            ledger.append("failed", reason=_reason(error) if isinstance(error, OSError) else str(error))


def _reason(error: OSError) -> str:
    """Of what a file or a device does not give."""
    what = f"{error.filename or type(error).__name__}: {error.strerror or error}"
    room = "free some space, and " if error.errno in FULL else ""
    return f"{what}; {room}the same command goes on from the newest sealed step, if there is one"


def _wait(notices: Notices, say: Callable[[str], None], why: str) -> None:
    notices.check()
    say(why)
    time.sleep(1.0)


def _tell(event: str, fields: dict[str, Any], ledger: Ledger, display: Display) -> None:
    """Writes down what happened to a checkpoint, or to what a run can do without; what an operator must know is said
    aloud too."""
    named = {"checkpoint" if name == "step" else name: value for name, value in fields.items()}
    ledger.append(event, **named)
    if event in SAID:
        which = f"checkpoint {fields['step']} " if "step" in fields else ""
        where = " on the second device" if "place" in fields else ""
        reason = f": {fields['reason']}" if "reason" in fields else ""
        display.say(f"{which}{event.replace('_', ' ')}{where}{reason}")


def _progress(
    config: Config,
    corpus: "Corpus",
    restored: "Restored | None",
    known: Recalled,
) -> Progress:
    """Where the checkpoint left off, and the cooldown if it was decided after that checkpoint."""
    from pipeline.lm.schedule import NEVER, Cooldown

    progress = Progress.from_json(restored.meta["progress"]) if restored else Progress()
    if restored and restored.meta["corpus"] != corpus.content_hash:
        raise Refused(
            f"corpus: {config.corpus.source}: the text or its tokens changed since this run began; give the old text, "
            "or another --run_dir"
        )
    decided = known.found.get("cooldown")
    if "cooldown" in known.damaged and not decided and progress.cooldown.start == NEVER:
        raise RunFailed(
            f"{config.directory / LEDGER}: line {known.damaged['cooldown']} (cooldown) is damaged, and that decision "
            "must not be taken a second time; mend it, or restore a copy of the ledger"
        )
    if decided and progress.cooldown.start == NEVER:
        progress.cooldown = Cooldown(decided["start"], decided["end"])
        progress.planned_steps = progress.cooldown.end
    elif restored and (other := _other_budget(config.budget, restored.meta.get("config", restored.meta)["budget"])):
        if progress.cooldown.start != NEVER and not decided:  # whoever has the ledger was asked before
            raise Refused(
                f"run_dir: {config.directory}: its cooldown has begun under another budget: {other}; give that one, or "
                "another --run_dir"
            )
        progress.planned_steps = 0  # to be forecast anew
    # A launch that died before its first save had lost steps too, which only the ledger knows.
    found = known.found
    lost_before = max((found[event]["lost_steps"] for event in ("resume", "corruption") if event in found), default=0)
    reached = known.last["step"] if known.last else 0
    progress.corruptions = max(progress.corruptions, found["corruption"]["corruptions"] if "corruption" in found else 0)
    progress.lost_steps = max(progress.lost_steps, lost_before) + max(0, reached - progress.step)
    return progress


def _other_budget(now: tree.Budget, saved: dict[str, Any]) -> str:
    """What of a budget is not as it was saved, by this version or another."""
    was = tree.Budget(**{key: value for key, value in saved.items() if key in tree.Budget.model_fields})
    given, before = now.model_dump(mode="json"), was.model_dump(mode="json")
    other = [key for key in given if getattr(now, key) != getattr(was, key)]
    return ", ".join(f"budget.{key} {json.dumps(given[key])} (was {json.dumps(before[key])})" for key in other)


def _greeting(
    config: Config, device: str, parameters: int, tokens: int, restored: "Restored | None", progress: Progress
) -> str:
    lost = f", {progress.lost_steps} steps lost so far" if progress.lost_steps else ""
    where = f"resumes at step {progress.step:,}{lost}" if restored else "starts"
    return (
        f"{config.directory} {where}: {parameters / 1e6:.2f} M parameters, {tokens / 1e6:.2f} M training tokens, "
        f"{config.train.precision} on {device}; {config.orbit.name} with {config.gpu.name}, {config.mission.clock} time"
    )
