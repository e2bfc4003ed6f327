"""Trainers on one machine by turns, and how two of them compare: speed, loss at equal steps and at equal time."""

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from pipeline.ground.bench import energy
from pipeline.ground.bench.energy import Meters
from pipeline.ground.bench.spread import spread
from pipeline.ground.bench.worker import Worker

PEERS = ("eager", "compiled")
OURS = ("adamw", "muon", "muon-short")
# Of the shape of configs/shakespeare-cpu.yaml, on 2 CPU cores: tokens per second over nanoGPT's, and the time to its
# final loss over its own.
SPEED_GOALS = {("adamw", "eager"): 1.7, ("adamw", "compiled"): 1.05, ("muon", "eager"): 1.3}
TIME_GOALS = {("muon", "eager"): 0.25, ("muon-short", "eager"): 0.25}
SPARSER = 5  # the peer's curve is looked at so much less often: only its end is a target
SHARES = (0.1, 0.25, 0.5, 1.0)  # of the peer's time, at which losses are compared


class Turn(NamedTuple):
    steps: int
    seconds: float
    processor_s: float
    joules: Mapping[str, float] = {}  # of the GPU, of the processor: of what counts here, whoever draws it


class Point(NamedTuple):
    """Of a validation curve. Times are of launch and training alone, up to here."""

    step: int
    seconds: float
    processor_s: float
    loss: float


class Course(NamedTuple):
    """What one of them did."""

    parameters: int
    launch_s: float
    turns: dict[int, Turn]  # by number, without the first, in which it still warms up
    curve: list[Point]
    peak_bytes: int | None


def race(
    workers: dict[str, Worker], last: dict[str, int], segment: int, evaluate_every: int, meters: Meters
) -> dict[str, Course]:
    """Each to its `last` step, by turns, whose order goes round."""
    names = list(workers)
    at = {name: Turn(one.first["step"], one.launch_s, one.first["processor_s"]) for name, one in workers.items()}
    counted = {name: one.first["processor_s"] for name, one in workers.items()}  # up to its last answer
    courses = {name: Course(one.first["parameters"], one.launch_s, {}, [], None) for name, one in workers.items()}
    for turn, until in enumerate(_targets(max(last.values()), segment)):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            worker, course, before, goal = workers[name], courses[name], at[name], min(until, last[name])
            if course.curve and course.curve[-1].step >= last[name]:
                continue
            if before.steps < goal:
                found = worker.ask(meters, train=goal)
                used_s, counted[name] = found["processor_s"] - counted[name], found["processor_s"]
                at[name] = Turn(found["step"], before.seconds + found["seconds"], before.processor_s + used_s)
                if turn:
                    steps = found["step"] - before.steps
                    course.turns[turn] = Turn(steps, found["seconds"], used_s, found["joules"])
                courses[name] = course._replace(peak_bytes=found["peak_bytes"])
            every = evaluate_every * (SPARSER if name in PEERS else 1)
            if goal == last[name] or at[name].steps // every > before.steps // every:
                found = worker.ask(evaluate=True)
                counted[name] = found["processor_s"]
                course.curve.append(Point(*at[name][:3], found["loss"]))
                say(f"{name:<10} step {at[name].steps:>6,}  {at[name].seconds:7.1f} s  loss {found['loss']:.4f}")
    return courses


def _targets(steps: int, segment: int) -> Iterator[int]:
    yield from range(segment, steps, segment)
    yield steps


def row(course: Course, tokens_per_step: int) -> dict[str, Any]:
    """One trainer's speed, draw and losses, as `--json` prints them."""
    end, turns = course.curve[-1], [*course.turns.values()]
    tokens = [turn.steps * tokens_per_step for turn in turns]
    return {
        "parameters": course.parameters,
        "launch_s": course.launch_s,
        "tokens_per_s": spread([count / turn.seconds for count, turn in zip(tokens, turns, strict=True)]),
        "step_s": spread([turn.seconds / turn.steps for turn in turns]),
        "step_processor_s": spread([turn.processor_s / turn.steps for turn in turns]),
        "joules_per_token": energy.per_token([turn.joules for turn in turns], tokens),
        "peak_mb": course.peak_bytes / 1e6 if course.peak_bytes else None,
        "curve": [point._asdict() for point in course.curve],
        "final_loss": end.loss,
        "total_s": end.seconds,
        "total_processor_s": end.processor_s,
    }


def pair(one: str, mine: Course, other: str, theirs: Course) -> dict[str, Any]:
    """Ratios; each of the speed is of one turn of both, one soon after the other."""
    turns = [(mine.turns[number], theirs.turns[number]) for number in mine.turns.keys() & theirs.turns.keys()]
    end = theirs.curve[-1]
    clocks = {
        "seconds": ([point.seconds for point in mine.curve], [point.seconds for point in theirs.curve]),
        "processor_s": ([point.processor_s for point in mine.curve], [point.processor_s for point in theirs.curve]),
    }
    losses, their_losses = [point.loss for point in mine.curve], [point.loss for point in theirs.curve]
    steps = [point.step for point in mine.curve]
    reached = {clock: first_below(at, losses, end.loss) for clock, (at, _) in clocks.items()}
    return {
        "speed": spread([(a.steps / a.seconds) / (b.steps / b.seconds) for a, b in turns]),
        "speed_by_processor": spread([(a.steps / a.processor_s) / (b.steps / b.processor_s) for a, b in turns]),
        "speed_goal": SPEED_GOALS.get((one, other)),
        "loss_at_equal_steps": {
            point.step: [value_at(steps, losses, point.step), point.loss]
            for point in theirs.curve
            if point.step <= steps[-1] + 1  # on a GPU nanoGPT answers one step later than it is asked
        },
        "loss_at_equal_time": {
            clock: {
                f"{share:g}": [value_at(at, losses, share * its[-1]), value_at(its, their_losses, share * its[-1])]
                for share in SHARES
            }
            for clock, (at, its) in clocks.items()
        },
        "time_to_its_final_loss": reached,
        "share_of_its_time": {
            clock: None if (came := reached[clock]) is None else came / its[-1] for clock, (_, its) in clocks.items()
        },
        "time_goal": TIME_GOALS.get((one, other)),
    }


def first_below(at: Sequence[float], losses: Sequence[float], target: float) -> float | None:
    """Where a validation curve first comes down to `target`, in a straight line between two validations; None:
    never."""
    for index, loss in enumerate(losses):
        if loss <= target:
            if index == 0 or not math.isfinite(losses[index - 1]):
                return at[index]
            part = (losses[index - 1] - target) / (losses[index - 1] - loss)
            return at[index - 1] + (at[index] - at[index - 1]) * part
    return None


def value_at(at: Sequence[float], losses: Sequence[float], where: float) -> float | None:
    """Validation loss there; None before the first validation, the last one after the end."""
    return None if where < at[0] else float(np.interp(where, at, losses))


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
