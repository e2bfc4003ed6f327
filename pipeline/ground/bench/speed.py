"""What a run of this configuration costs on this machine: speed, share of the machine's peak, start, saves, energy,
memory.

`train.py bench [speed] --config FILE [--KEY VALUE …] [--parts loop,program,start,saves]`.

loop: the whole training loop in a process of its own, by turns with the fastest matrix product that this machine does.
program: the training step alone, and the memory that it takes. start: real launches of `train.py run`.
saves: how long the loop stands still for one.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pipeline.config import BadInput, Config, load
from pipeline.config.arguments import Parser, within
from pipeline.config.tree import Budget
from pipeline.ground.bench import energy, memory, program, speed_table, starts
from pipeline.ground.bench.machine import Others, describe
from pipeline.ground.bench.spread import spread
from pipeline.ground.bench.worker import Worker, ours
from pipeline.ground.tail import Tail
from pipeline.lm.flops import token_flops

PARTS = ("loop", "program", "start", "saves")
ENDLESS = 10**6  # steps: more than are measured, and few enough to be forecast in a second


def main(arguments: Sequence[str]) -> int:
    """Measures, and prints tables or JSON.

    Raises:
        BadInput: an argument or a key is wrong.
    """
    parser = Parser("train.py bench speed", description=__doc__)
    parser.add_json()
    parser.add_argument("--parts", default=",".join(PARTS), help=f"what is measured ({','.join(PARTS)})")
    parser.add_argument("--repeats", type=within(int, 1), default=7, help="turns of the loop, and of the step (7)")
    parser.add_argument("--turn_s", type=within(float, 0, above=True), default=4.0, help="length of a turn (4)")
    parser.add_argument("--starts", type=within(int, 1), default=3, help="launches of each kind (3)")
    parser.add_argument("--pairs", type=within(int, 1), default=2, help="of turns with a save and without (2)")
    own, rest = parser.parse_known_args(list(arguments))
    parts = own.parts.split(",")
    if unknown := [part for part in parts if part not in PARTS]:
        raise BadInput(f"--parts: {unknown[0]}: not known; some of {','.join(PARTS)}")
    config = load(rest, prog="train.py bench speed")
    vocab_size = _vocab_size(config)
    with TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        others, answer = Others(), dict[str, Any]()
        if {"loop", "saves"} & set(parts):
            repeats, pairs = own.repeats if "loop" in parts else 0, own.pairs if "saves" in parts else 0
            answer |= in_the_loop(config, vocab_size, folder, repeats, pairs, own.turn_s)
        if "program" in parts:
            answer["program"] = alone(config, vocab_size, own.repeats)
        if "start" in parts:
            answer["start"] = starts.measure(config, folder, own.starts)
    backend = next((answer[part]["backend"] for part in ("loop", "program") if part in answer), config.train.device)
    answer = {"provenance": describe(backend, others.share()), "name": config.name} | answer
    if {"loop", "program"} <= answer.keys():
        answer["loop"]["over_the_step"] = (
            answer["program"]["mfu"]["median"] / answer["loop"]["mfu"]["median"]
            - 1.0  # whatever the machine gave to each
        )
    if own.json:
        print(json.dumps(answer))
    else:
        speed_table.show(answer)
    return 0


def _vocab_size(config: Config) -> int:
    from pipeline.corpus import open_corpus

    return open_corpus(config.corpus, config.model.context, config.seed).vocab_size


def in_the_loop(
    config: Config, vocab_size: int, folder: Path, repeats: int, pairs: int, turn_s: float
) -> dict[str, Any]:
    """Of one and the same training, for which there are `repeats` and `pairs`: how fast it is, what a save costs."""
    endless = config.model_copy(update={"budget": Budget(steps=ENDLESS)})
    with ours("loop", endless, folder) as worker:
        chunk = worker.first["step"]
        steps = max(1, round(turn_s * chunk / worker.ask(train=2 * chunk)["seconds"]))
        found = {"loop": loop(worker, config, vocab_size, steps, repeats)} if repeats else {}
        return found | ({"saves": saves(worker, folder / "loop", steps, pairs)} if pairs else {})


def loop(worker: Worker, config: Config, vocab_size: int, steps: int, repeats: int) -> dict[str, Any]:
    """Tokens per second of the whole loop, and its arithmetic by formula over the fastest matrix product just after."""
    per_step, turns, rates, shares, peaks = config.tokens_per_step, [], [], [], []
    now, meters = worker.ask(train=0), energy.make_meters(worker.first["backend"])
    for _ in range(repeats):
        before = now["step"]
        now = worker.ask(meters, train=before + steps)
        turns.append(now | {"tokens": (now["step"] - before) * per_step})
        rates.append(turns[-1]["tokens"] / now["seconds"])
        peaks.append(worker.ask(peak=True)["flops_per_s"])
        shares.append(rates[-1] * token_flops(config.model, vocab_size) / peaks[-1])
    meters.close()
    return {
        "backend": worker.first["backend"],
        "parameters": worker.first["parameters"],
        "tokens_per_s": spread(rates),
        "step_s": spread([per_step / rate for rate in rates]),
        "flops_per_token": token_flops(config.model, vocab_size),
        "peak_flops_per_s": spread(peaks),
        "mfu": spread(shares),
        "joules_per_token": energy.per_token([turn["joules"] for turn in turns], [turn["tokens"] for turn in turns]),
    }


def saves(worker: Worker, run_dir: Path, steps: int, pairs: int) -> dict[str, Any]:
    """How long the loop stands still for a save of its state, and how much longer the steps beside it take, by turns
    with as many and no save; `train.py bench checkpoint` looks closer."""
    stalls, longer, now = [], [], worker.ask(train=0)
    for pair in range(pairs):
        seconds = {}
        for saving in (True, False) if pair % 2 else (False, True):
            before = now["step"]
            now = worker.ask(train=before + steps, save=saving)
            seconds[saving] = now["seconds"] / (now["step"] - before)
            stalls += [now["stall_s"]] if saving else []
        longer.append(seconds[True] / seconds[False] - 1.0)
    worker.ask(train=0, save=False)  # until the last is sealed
    sealed = [line for line in Tail(run_dir / "ledger.jsonl").read() if line["event"] == "sealed"][-pairs:]
    return {
        "state_mb": sealed[-1]["bytes"] / 1e6,
        "stall_s": spread(stalls),
        "copy_s": spread([entry["blocking_s"] for entry in sealed]),
        "longer_steps": spread(longer),
        "time_to_seal_s": spread([entry["seconds"] for entry in sealed]),
    }


def alone(config: Config, vocab_size: int, repeats: int) -> dict[str, Any]:
    """The step without its loop, and its memory beside the formula's."""
    found = program.apart(config, vocab_size, steps=min(config.train.chunk_steps, 10), repeats=repeats)
    by_part = memory.parts_bytes(config, vocab_size, found["backend"])
    flops = token_flops(config.model, vocab_size) * config.tokens_per_step
    formula, measured = sum(by_part.values()), found["peak_bytes"]
    return {
        "backend": found["backend"],
        "parameters": found["parameters"],
        "compile_s": found["compile_s"],
        "tokens_per_s": spread([config.tokens_per_step / seconds for seconds in found["step_s"]]),
        "step_s": spread(found["step_s"]),
        "mfu": spread(
            [flops / (seconds * peak) for seconds, peak in zip(found["step_s"], found["peak_flops_per_s"], strict=True)]
        ),
        "memory": {
            "measured_mb": measured / 1e6 if measured is not None else None,
            "xla_planned_mb": found["xla_bytes"] / 1e6 if found["xla_bytes"] is not None else None,
            "formula_mb": formula / 1e6,
            "by_part_mb": {part: size / 1e6 for part, size in by_part.items()},
            "over_formula": measured / formula if measured is not None else None,
        },
    }
