"""How fast text comes: tokens/s through the cache, beside nanoGPT's `generate` on the same shape, and its start-up."""

import contextlib
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipeline.config import BadInput
from pipeline.config.arguments import Parser, within
from pipeline.config.learning import Model
from pipeline.flight.child import ROOT, bound
from pipeline.ground.arguments import set_up_jax

# nanoGPT's two shapes for Tiny Shakespeare and its 65 characters; weights are fresh, which costs as much as trained.
SHAPES = {
    "4 layers, 128 wide, 64 tokens": Model(depth=4, width=128, heads=4, context=64),
    "6 layers, 384 wide, 256 tokens": Model(depth=6, width=384, heads=6, context=256),
}
VOCABULARY = 65
TEMPERATURE, TOP_K = 0.8, 200  # as nanoGPT's sample.py


def main(arguments: Sequence[str]) -> int:
    """`train.py bench sample [--peer-path DIR] [--run RUN]`."""
    parser = Parser("train.py bench sample", description="Tokens per second of sampling, one row at a time.")
    parser.add_argument(
        "--peer-path", type=Path, metavar="DIR", help="a copy of nanoGPT, to be timed in turns with ours"
    )
    parser.add_argument("--run", type=Path, metavar="RUN", help="also time `sample RUN` from launch to its first text")
    parser.add_argument("--tokens", type=within(int, 1), default=256, help="written in each round (default: 256)")
    parser.add_argument("--rounds", type=within(int, 1), default=5, help="(default: 5)")
    parser.add_json()
    given = parser.parse_args(arguments)
    set_up_jax()
    result: dict[str, Any] = {"cores": os.cpu_count(), "load": os.getloadavg()[0], "tokens": given.tokens}
    peer = _peer(given.peer_path) if given.peer_path else None
    result["shapes"] = {name: _speeds(shape, peer, given.tokens, given.rounds) for name, shape in SHAPES.items()}
    if given.run:
        result["start"] = _start(given.run, given.rounds)
    print(json.dumps(result) if given.json else _lines(result))
    return 0


def _speeds(shape: Model, peer: Any, tokens: int, rounds: int) -> dict[str, Any]:
    """Median tokens/s; with a peer, also the median and the least ratio of a round in which each had its turn."""
    timed = {"ours": _ours(shape, tokens)}
    if peer:
        timed["peer"] = _theirs(peer, shape, tokens)
    for once in timed.values():
        once()  # compiles, and fills the caches
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(rounds):
        for name, once in timed.items():
            seconds[name].append(once())
    found: dict[str, Any] = {
        f"{name}_tokens_per_s": round(tokens / statistics.median(each), 1) for name, each in seconds.items()
    }
    if peer:
        ratios = [theirs / ours for ours, theirs in zip(seconds["ours"], seconds["peer"], strict=True)]
        found |= {"ratio": round(statistics.median(ratios), 2), "least_ratio": round(min(ratios), 2)}
    return found


def _ours(shape: Model, tokens: int) -> Callable[[], float]:
    from pipeline.lm.generate import Sampling, generate
    from pipeline.lm.model import init_params

    params = init_params(shape, VOCABULARY, seed=0)

    def once() -> float:
        began = time.perf_counter()
        for _ in generate(shape, params, [[0]], tokens, Sampling(TEMPERATURE, top_k=TOP_K)):
            pass
        return time.perf_counter() - began

    return once


def _theirs(peer: Any, shape: Model, tokens: int) -> Callable[[], float]:
    """nanoGPT's `generate` with one thread and with all, of which the faster counts.

    Small matrices gain little from threads, and on a busy machine they wait for each other.
    """
    import torch

    config = peer.GPTConfig(
        block_size=shape.context,
        vocab_size=VOCABULARY,
        n_layer=shape.depth,
        n_head=shape.query_heads,
        n_embd=shape.width,
        dropout=0.0,
        bias=False,
    )
    with contextlib.redirect_stdout(sys.stderr):  # it tells its size
        model = peer.GPT(config).eval()
    start = torch.zeros((1, 1), dtype=torch.long)

    def once() -> float:
        seconds = []
        for threads in {1, os.cpu_count() or 1}:
            torch.set_num_threads(threads)
            began = time.perf_counter()
            model.generate(start, tokens, temperature=TEMPERATURE, top_k=TOP_K)
            seconds.append(time.perf_counter() - began)
        return min(seconds)

    return once


def _peer(folder: Path) -> Any:
    """nanoGPT's model.py as a module.

    Raises:
        BadInput: it is not there, or there is no torch.
    """
    if importlib.util.find_spec("torch") is None:
        raise BadInput("--peer-path: nanoGPT needs torch, which is not installed; pip install '.[interop]'")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # its threads would spin beside ours while they wait
    found = importlib.util.spec_from_file_location("nanogpt", folder / "model.py")
    if not (folder / "model.py").is_file() or found is None or found.loader is None:
        raise BadInput(f"--peer-path: {folder}: holds no model.py; name a copy of nanoGPT")
    module = importlib.util.module_from_spec(found)
    sys.modules["nanogpt"] = module  # its dataclass looks itself up
    found.loader.exec_module(module)
    return module


def _start(run: Path, rounds: int) -> dict[str, Any]:
    """Seconds of `train.py sample RUN --tokens 1` in a process of its own, programs compiled before: the median of all
    of it and of its parts, and of the processor's time, which another process's work does not lengthen."""
    command = bound([sys.executable, str(ROOT / "train.py"), "sample", str(run), "--tokens", "1", "--json"])
    launches = []
    for _ in range(rounds + 1):
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise BadInput(f"--run: {run}: {done.stderr.strip()}")
        wall_s, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        parts = json.loads(done.stdout)["seconds"]
        cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        launches.append({"total": wall_s, "processor": cpu_s, "exit": wall_s - parts.pop("total")} | parts)
    warm = launches[1:]
    return {part: round(statistics.median(launch[part] for launch in warm), 3) for part in warm[0]}


def _lines(result: dict[str, Any]) -> str:
    lines = [f"{result['cores']} cores, load {result['load']:.1f}; {result['tokens']} tokens a round, one row"]
    for name, found in result["shapes"].items():
        line = f"{name:<32}{found['ours_tokens_per_s']:>8,.0f} tokens/s"
        if "ratio" in found:
            line += (
                f"; nanoGPT {found['peer_tokens_per_s']:,.0f}; {found['ratio']} times (least {found['least_ratio']})"
            )
        lines.append(line)
    if "start" in result:
        parts = dict(result["start"])
        total = f"{parts.pop('total'):.2f} s, {parts.pop('processor'):.2f} s of them of one processor"
        lines.append(
            f"sample: one token, and out, after {total}: " + ", ".join(f"{k} {v:.2f}" for k, v in parts.items())
        )
    return "\n".join(lines)
