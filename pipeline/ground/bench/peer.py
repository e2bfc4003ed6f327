"""Dayside beside another trainer on this machine, by turns: speed, loss at equal steps and at equal time.

`train.py bench --peer nanogpt --peer-path DIR [--config FILE --KEY VALUE …]`, DIR a checkout of nanoGPT. Both learn the same
tokens in the same shape, each from a launch of its own with nothing compiled before, its own loop and its own settings:
Dayside's are those of the configuration; nanoGPT's train.py runs unmodified under its README's line for a CPU
(config/train_shakespeare_char.py, --dropout=0.0, the learning rate falling to the end of the run). They take turns of
some steps; whoever waits computes nothing, and its time does not count. Time is launch, compilation and training, without
validation. Both are validated on every held-out window.
"""

import json
import os
import pickle
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from pipeline.config import BadInput, Config, load, shipped
from pipeline.config.arguments import Parser, within
from pipeline.ground.bench import nanogpt
from pipeline.ground.bench.peer_table import show
from pipeline.ground.bench.spread import spread
from pipeline.ground.bench.worker import Worker, ours

PEERS = ("eager", "compiled")
OURS = ("adamw", "muon")
# Of the shape of configs/shakespeare-cpu.yaml, on 2 CPU cores: tokens per second over nanoGPT's, and the time to its
# final loss over its own.
SPEED_GOALS = {("adamw", "eager"): 1.7, ("adamw", "compiled"): 1.05, ("muon", "eager"): 1.3}
TIME_GOALS = {("muon", "eager"): 0.25}
SPARSER = 5  # the peer's curve is looked at so much less often: only its end is a target
SHARES = (0.1, 0.25, 0.5, 1.0)  # of the peer's time, at which losses are compared
FILES = ("train.py", "model.py", "configurator.py", "config")
RECOMMENDED = "config/train_shakespeare_char.py"


def main(arguments: Sequence[str]) -> int:
    """Measures, and prints a table or JSON.

    Raises:
        BadInput: an argument is wrong, or there is no nanoGPT.
        RunFailed: a training ended before its time.
    """
    parser = Parser("train.py bench --peer nanogpt", description=__doc__)
    parser.add_json()
    parser.add_argument("--peer", choices=["nanogpt"], required=True, help="with whom")
    parser.add_argument("--peer-path", "--peer_path", type=Path, required=True, metavar="DIR", help="its checkout")
    parser.add_argument("--peer-python", default=sys.executable, help="a Python that has torch (this one)")
    parser.add_argument("--arms", default=",".join(OURS + PEERS), help=f"who takes part ({','.join(OURS + PEERS)})")
    parser.add_argument("--steps", type=within(int, 2), help="of each (budget.steps, or 2000)")
    parser.add_argument("--segment", type=within(int, 1), default=50, help="steps of a turn (50)")
    parser.add_argument("--evaluate_every", type=within(int, 1), default=50, help="steps between validations (50)")
    own, rest = parser.parse_known_args(list(arguments))
    arms = own.arms.split(",")
    if unknown := [arm for arm in arms if arm not in OURS + PEERS]:
        raise BadInput(f"--arms: {unknown[0]}: not known; some of {','.join(OURS + PEERS)}")
    check(own.peer_path)
    given = rest if any(word.startswith("--config") for word in rest) else [*_default(), *rest]
    config = load(given, prog="train.py bench --peer nanogpt")
    steps = own.steps or config.budget.steps or 2000
    answer = compare(config, own.peer_path, own.peer_python, arms, steps, own.segment, own.evaluate_every)
    if own.json:
        print(json.dumps(answer))
    else:
        show(answer)
    return 0


def _default() -> list[str]:
    return ["--config", str(shipped.CONFIGS / "shakespeare-cpu.yaml")]


def check(checkout: Path) -> None:
    """
    Raises:
        BadInput: not a checkout of nanoGPT.
    """
    for name in (*FILES, RECOMMENDED):
        if not (checkout / name).exists():
            raise BadInput(f"--peer-path: {checkout}: has no {name}; give a checkout of nanoGPT")


class Course(NamedTuple):
    """What one of them did. Seconds are its own, from its launch on."""

    parameters: int
    launch_s: float
    turns: list[tuple[int, float]]  # steps and seconds of each, the first and its warming up left out
    curve: list[tuple[int, float, float]]  # step, seconds, validation loss
    peak_bytes: int | None


def compare(
    config: Config, checkout: Path, python: str, arms: Sequence[str], steps: int, segment: int, evaluate_every: int
) -> dict[str, Any]:
    """The answer, as `--json` prints it."""
    with TemporaryDirectory(prefix="bench-") as name, ExitStack() as stack:
        folder = Path(name)
        workers = {}
        for arm in arms:
            _say(f"launching {arm}")
            made = (
                ours(arm, our_settings(config, arm, steps), folder)
                if arm in OURS
                else _nanogpt(config, checkout, python, arm, steps, folder)
            )
            workers[arm] = stack.enter_context(made)
        courses = race(workers, steps, segment, evaluate_every)
        backend = next((w.first["backend"] for w in workers.values() if "backend" in w.first), "cpu")
    model = config.model
    return {
        "provenance": f"measured on {os.cpu_count()} cores, JAX on {backend}, by turns of {segment} steps",
        "shape": {"depth": model.depth, "width": model.width, "context": model.context, "batch": config.train.batch},
        "steps": steps,
        "arms": {arm: _row(course, config.tokens_per_step) for arm, course in courses.items()},
        "pairs": {
            f"{one} / {other}": _pair(one, courses[one], other, courses[other])
            for one in OURS
            for other in PEERS
            if one in courses and other in courses
        },
    }


def our_settings(config: Config, optimizer: str, steps: int) -> Config:
    """The configuration with another optimizer, counted in steps alone."""
    changed = {
        "optimizer": config.optimizer.model_copy(update={"name": optimizer}),
        "budget": config.budget.model_copy(
            update={"steps": steps, "tokens": None, "orbits": None, "wh": None, "until": None}
        ),
    }
    return config.model_copy(update=changed)


def _nanogpt(config: Config, checkout: Path, python: str, arm: str, steps: int, folder: Path) -> Worker:
    here = folder / arm
    (here / "data" / "corpus").mkdir(parents=True)
    for name in FILES:
        (here / name).symlink_to((checkout / name).absolute())
    write_tokens(config, here / "data" / "corpus")
    command = [python, str(Path(nanogpt.__file__).absolute()), *settings(config, arm, steps)]
    # Its programs are compiled anew, as ours are.
    return Worker(arm, command, folder / f"{arm}.log", here, TORCHINDUCTOR_CACHE_DIR=str(folder / f"{arm}-cache"))


def write_tokens(config: Config, folder: Path) -> None:
    """The run's own tokens, as nanoGPT's prepare.py writes them.

    Raises:
        BadInput: more tokens in the vocabulary than its uint16 holds.
    """
    from pipeline.corpus import open_corpus

    corpus = open_corpus(config.corpus, config.model.context, config.seed)
    if corpus.train.dtype != np.uint16:
        raise BadInput(f"corpus.vocab_size: {corpus.vocab_size}: nanoGPT reads uint16 tokens; at most 65,536")
    corpus.train.tofile(folder / "train.bin")
    corpus.held_out.tofile(folder / "val.bin")
    (folder / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": corpus.vocab_size}))


def settings(config: Config, arm: str, steps: int) -> list[str]:
    """Arguments of nanoGPT's train.py: its README's line for a CPU, in the shape of `config`."""
    model = config.model
    values = {
        "dataset": "corpus",
        "device": "cpu" if config.train.device == "cpu" else "cuda",
        "compile": arm == "compiled",
        "eval_interval": 10**9,  # but for the one before its first step, which its train.py always takes
        "eval_iters": 1,
        "log_interval": 1,
        "block_size": model.context,
        "batch_size": config.train.batch,
        "n_layer": model.depth,
        "n_head": model.query_heads,
        "n_embd": model.width,
        "max_iters": steps,
        "lr_decay_iters": steps,
        "dropout": 0.0,
    }
    return [RECOMMENDED, *(f"--{key}={value}" for key, value in values.items())]


def race(workers: dict[str, Worker], steps: int, segment: int, evaluate_every: int) -> dict[str, Course]:
    """All of them to `steps`, by turns, whose order goes round."""
    names = list(workers)
    seconds = {name: worker.launch_s for name, worker in workers.items()}
    reached = {name: worker.first["step"] for name, worker in workers.items()}
    courses = {
        name: Course(worker.first["parameters"], worker.launch_s, [], [], None) for name, worker in workers.items()
    }
    for turn, until in enumerate(_targets(steps, segment)):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            worker, course = workers[name], courses[name]
            if reached[name] < until:
                found = worker.ask(train=until)
                seconds[name] += found["seconds"]
                if turn:
                    course.turns.append((found["step"] - reached[name], found["seconds"]))
                reached[name] = found["step"]
                courses[name] = course = course._replace(peak_bytes=found["peak_bytes"])
            every = evaluate_every * (SPARSER if name in PEERS else 1)
            if until == steps or reached[name] // every > (until - segment) // every:
                loss = worker.ask(evaluate=True)["loss"]
                course.curve.append((reached[name], seconds[name], loss))
                _say(f"{name:<9} step {reached[name]:>6,}  {seconds[name]:7.1f} s  validation loss {loss:.4f}")
    return courses


def _targets(steps: int, segment: int) -> Iterator[int]:
    yield from range(segment, steps, segment)
    yield steps


def _row(course: Course, tokens_per_step: int) -> dict[str, Any]:
    return {
        "parameters": course.parameters,
        "launch_s": course.launch_s,
        "tokens_per_s": spread([steps * tokens_per_step / seconds for steps, seconds in course.turns]),
        "step_s": spread([seconds / steps for steps, seconds in course.turns]),
        "peak_mb": course.peak_bytes / 1e6 if course.peak_bytes else None,
        "curve": course.curve,
        "final_loss": course.curve[-1][2],
        "total_s": course.curve[-1][1],
    }


def _pair(one: str, mine: Course, other: str, theirs: Course) -> dict[str, Any]:
    """Ratios; each of the speed is of one turn of both, minutes apart at most."""
    rates = [(a[0] / a[1]) / (b[0] / b[1]) for a, b in zip(mine.turns, theirs.turns, strict=True)]
    _, total_s, final = theirs.curve[-1]
    reached_s = time_to(mine.curve, final)
    share = reached_s / total_s if reached_s is not None else None
    speed_goal, time_goal = SPEED_GOALS.get((one, other)), TIME_GOALS.get((one, other))
    return {
        "speed": spread(rates),
        "speed_goal": speed_goal,
        "loss_at_equal_steps": {step: [at_step(mine.curve, step), loss] for step, _, loss in theirs.curve},
        "loss_at_equal_time": {
            f"{share_:g}": [at_time(mine.curve, share_ * total_s), at_time(theirs.curve, share_ * total_s)]
            for share_ in SHARES
        },
        "time_to_its_final_loss": {"seconds": reached_s, "its_seconds": total_s, "share": share},
        "time_goal": time_goal,
    }


def time_to(curve: Sequence[tuple[int, float, float]], loss: float) -> float | None:
    """When a validation curve first comes down to `loss` [s], between two validations in a straight line; None: never."""
    before: tuple[float, float] | None = None
    for _, seconds, now in curve:
        if now <= loss:
            if before is None:
                return seconds
            return before[0] + (seconds - before[0]) * (before[1] - loss) / (before[1] - now)
        before = seconds, now
    return None


def at_time(curve: Sequence[tuple[int, float, float]], seconds: float) -> float | None:
    """Validation loss at a time; None before the first validation, the last one after the end."""
    if seconds < curve[0][1]:
        return None
    return float(np.interp(seconds, [point[1] for point in curve], [point[2] for point in curve]))


def at_step(curve: Sequence[tuple[int, float, float]], step: int) -> float | None:
    """The same by steps."""
    if step < curve[0][0]:
        return None
    return float(np.interp(step, [point[0] for point in curve], [point[2] for point in curve]))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
