"""Dayside beside another trainer on this machine, by turns: speed, loss at equal steps and at equal time.

`train.py bench --peer nanogpt --peer-path DIR [--config FILE --KEY VALUE …]`, DIR a checkout of nanoGPT. Both learn the
same tokens at the same depth, width, context and query heads (how many parameters each has is in the answer), each from
a launch of its own with nothing compiled before, its own loop and its own settings: Dayside's are those of the
configuration; nanoGPT's train.py runs unmodified under its README's line for a CPU (config/train_shakespeare_char.py,
--dropout=0.0, the learning rate falling to the end of the run) or, on a GPU, for a GPU: with that file's dropout, and
looking at its loss every tenth step, for which it waits. They take turns of some steps; whoever waits computes nothing,
and its time does not count. Time is launch, compilation and training, without validation. Both are validated on every
held-out window. Where others compute on the same machine, --cores 1 and the ratios of processor time still tell the
truth: threads that wait for each other do not.
"""

import json
import os
import pickle
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from pipeline.config import BadInput, Config
from pipeline.config.arguments import Parser, within
from pipeline.config.tree import Budget
from pipeline.ground.bench import nanogpt
from pipeline.ground.bench.changed import given
from pipeline.ground.bench.energy import make_meters
from pipeline.ground.bench.machine import Others, describe
from pipeline.ground.bench.peer_table import show
from pipeline.ground.bench.race import OURS, PEERS, pair, race, row, say
from pipeline.ground.bench.worker import SHARED, Worker, ours

SHORT = 7  # muon-short has a budget of so much fewer steps: what the same loss takes where it is all that is wanted
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
    parser.add_argument("--peer-steps", type=within(int, 2), help="of the peer (as many)")
    parser.add_argument(
        "--peer-set", action="append", default=[], metavar="KEY=VALUE", help="a setting of its train.py"
    )
    parser.add_argument("--segment", type=within(int, 1), default=50, help="steps of a turn (50)")
    parser.add_argument("--evaluate_every", type=within(int, 1), default=50, help="steps between validations (50)")
    parser.add_argument("--cores", type=within(int, 1, os.cpu_count() or 1), help="that each may use (all)")
    own, rest = parser.parse_known_args(list(arguments))
    if own.cores:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: own.cores])  # the workers inherit it
    arms = own.arms.split(",")
    if unknown := [arm for arm in arms if arm not in OURS + PEERS]:
        raise BadInput(f"--arms: {unknown[0]}: not known; some of {','.join(OURS + PEERS)}")
    check(own.peer_path)
    config = given(rest, "train.py bench --peer nanogpt")
    steps = own.steps or config.budget.steps or 2000
    if own.segment < config.train.chunk_steps:
        raise BadInput(
            f"--segment: {own.segment}: less than train.chunk_steps {config.train.chunk_steps}; lower that too"
        )
    for arm in arms:
        if (taken := ends(arm, steps, own.peer_steps)) < 2 * own.segment:
            raise BadInput(
                f"--steps: {steps}: {arm} takes {taken}, and a first turn of {own.segment} does not count; "
                "give more, a shorter --segment, or other --arms"
            )
    last = {arm: ends(arm, steps, own.peer_steps) for arm in arms}
    peer = Peer(own.peer_path, own.peer_python, own.peer_set)
    answer = compare(config, peer, last, own.segment, own.evaluate_every)
    if own.json:
        print(json.dumps(answer))
    else:
        show(answer)
    return 0


def check(checkout: Path) -> None:
    """
    Raises:
        BadInput: not a checkout of nanoGPT.
    """
    for name in (*FILES, RECOMMENDED):
        if not (checkout / name).exists():
            raise BadInput(f"--peer-path: {checkout}: has no {name}; give a checkout of nanoGPT")


class Peer(NamedTuple):
    checkout: Path
    python: str
    settings: Sequence[str]  # KEY=VALUE, over those that `settings` gives it


def compare(config: Config, peer: Peer, last: dict[str, int], segment: int, evaluate_every: int) -> dict[str, Any]:
    """The answer, as `--json` prints it; each goes to its `last` step."""
    others = Others()
    with TemporaryDirectory(prefix="bench-") as name, ExitStack() as stack:
        folder = Path(name)
        workers = {}
        for arm, steps in last.items():
            say(f"launching {arm}")
            made = (
                ours(arm, our_settings(config, arm.partition("-")[0], steps), folder, **SHARED)
                if arm in OURS
                else _nanogpt(config, peer, arm, steps, folder)
            )
            workers[arm] = stack.enter_context(made)
        backend = next((w.first["backend"] for w in workers.values() if "backend" in w.first), "cpu")
        meters = make_meters(backend)
        stack.callback(meters.close)
        courses = race(workers, last, segment, evaluate_every, meters)
    share = others.share()  # now that all have ended
    model = config.model
    return {
        "provenance": describe(backend, share),
        "others": share,
        "cores": len(os.sched_getaffinity(0)),
        "shape": {"depth": model.depth, "width": model.width, "context": model.context, "batch": config.train.batch},
        "steps": last,
        "turn": segment,
        "arms": {arm: row(course, config.tokens_per_step) for arm, course in courses.items()},
        "pairs": {
            f"{one} / {other}": pair(one, courses[one], other, courses[other])
            for one in OURS
            for other in PEERS
            if one in courses and other in courses
        },
    }


def ends(arm: str, steps: int, peer_steps: int | None) -> int:
    """Its last step."""
    if arm in PEERS:
        return peer_steps or steps
    return max(1, steps // SHORT) if arm == "muon-short" else steps


def our_settings(config: Config, optimizer: str, steps: int) -> Config:
    """The configuration with another optimizer, counted in steps alone."""
    named = config.optimizer.model_copy(update={"name": optimizer})
    return config.model_copy(update={"optimizer": named, "budget": Budget(steps=steps)})


def _nanogpt(config: Config, peer: Peer, arm: str, steps: int, folder: Path) -> Worker:
    here = folder / arm
    (here / "data" / "corpus").mkdir(parents=True)
    for name in FILES:
        (here / name).symlink_to((peer.checkout / name).absolute())
    write_tokens(config, here / "data" / "corpus")
    given = [f"--{setting}" for setting in peer.settings]
    command = [peer.python, str(Path(nanogpt.__file__).absolute()), *settings(config, arm, steps), *given]
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
    """Arguments of nanoGPT's train.py: its README's line for a CPU or a GPU, in the shape of `config`."""
    model, train = config.model, config.train
    on_gpu = train.device != "cpu"
    rows = (on_gpu and train.microbatch) or train.batch
    looks = 10 if on_gpu else 1  # every so many steps; it answers only then
    values: dict[str, Any] = {
        "dataset": "corpus",
        "device": "cuda" if on_gpu else "cpu",
        "compile": arm == "compiled",
        "eval_interval": 10**9,  # but for the one before its first step, which its train.py always takes
        "eval_iters": 1,
        "log_interval": looks,
        "block_size": model.context,
        "batch_size": rows,
        "gradient_accumulation_steps": train.batch // rows,
        "n_layer": model.depth,
        "n_head": model.query_heads,
        "n_embd": model.width,
        "max_iters": -(-steps // looks) * looks,
        "lr_decay_iters": steps,
    }
    if not on_gpu:
        values["dropout"] = 0.0
    return [RECOMMENDED, *(f"--{key}={value}" for key, value in values.items())]
