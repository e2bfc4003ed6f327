"""What each part of the recipe is worth: the same training with one part changed, three seeds each.

`train.py bench recipe [--out FILE.jsonl] [--config FILE --KEY VALUE …]`. Every training is Dayside's own loop in a
process of its own, and is judged by all held-out text. What is done already and stands in --out is not done again.
RoPE, RMSNorm, QK-norm, SwiGLU, tied embeddings and zero-initialised output projections are the shape itself: no key
changes them.
"""

import json
import math
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pipeline.config import BadInput, Config, dump_yaml
from pipeline.config.arguments import Parser, within
from pipeline.config.learning import Model
from pipeline.config.tree import Budget
from pipeline.ground.arguments import usable_path
from pipeline.ground.bench.changed import changed, given
from pipeline.ground.bench.machine import Others, describe
from pipeline.ground.bench.printing import console, tabulate
from pipeline.ground.bench.worker import ours
from pipeline.lm.flops import matrix_parameters

STEPS = 500
WHOLE = "recipe"  # the name of the row that the others are held against


def main(arguments: Sequence[str]) -> int:
    """Trains, and prints a table or JSON.

    Raises:
        BadInput: an argument or a key is wrong.
        RunFailed: a training ended before its time.
    """
    parser = Parser("train.py bench recipe", description=__doc__)
    parser.add_json()
    parser.add_argument("--steps", type=within(int, 1), default=STEPS, help=f"of each training ({STEPS})")
    parser.add_argument("--seeds", type=within(int, 1), default=3, help="trainings of each row (3)")
    parser.add_argument("--only", help="rows, by name, with commas between (all)")
    parser.add_argument("--out", type=usable_path, help="JSONL file to which each result is added as it comes")
    own, rest = parser.parse_known_args(list(arguments))
    config = given(rest, "train.py bench recipe")
    rows = variants(config)
    names = own.only.split(",") if own.only else list(rows)
    if unknown := [name for name in names if name not in rows]:
        raise BadInput(f"--only: {unknown[0]}: not known; some of {','.join(rows)}")
    answer = ablate(config, {name: rows[name] for name in names}, own.steps, own.seeds, own.out)
    if own.json:
        print(json.dumps(answer))
    else:
        _show(answer)
    return 0


def variants(config: Config) -> dict[str, dict[str, Any]]:
    """For each row the keys that differ from `config`, and their values; all have about as many parameters."""
    optimizer, model = config.optimizer, config.model
    rows: dict[str, dict[str, Any]] = {
        WHOLE: {},
        "adamw": {"optimizer.name": "adamw"},
        "adamw-lr-1e-3": {"optimizer.name": "adamw", "optimizer.lr": 1e-3},  # nanoGPT's
        "no-cooldown": {"optimizer.cooldown": 0.0},
        "cooldown-only": {"optimizer.cooldown": 1.0},
        "no-warmup": {"optimizer.warmup_steps": 0},
        "no-weight-decay": {"optimizer.weight_decay": 0.0},
        "half-the-rates": {"optimizer.lr": optimizer.lr / 2, "optimizer.muon_lr": optimizer.muon_lr / 2},
        "twice-the-rates": {"optimizer.lr": optimizer.lr * 2, "optimizer.muon_lr": optimizer.muon_lr * 2},
    }
    pitch = 8 * model.query_heads  # whole heads, of as many channels as cuDNN takes
    for name, depth in (("half-as-deep", model.depth // 2), ("twice-as-deep", model.depth * 2)):
        width = round(model.width * math.sqrt(model.depth / depth) / pitch) * pitch if depth else 0
        if width:
            rows[name] = _as_large(model, depth=depth, width=width, head_dim=width // model.query_heads)
    if model.key_heads > 1:
        rows["one-key-head"] = _as_large(model, kv_heads=1)
    elif model.query_heads > 1:
        rows["a-key-head-each"] = _as_large(model, kv_heads=model.query_heads)
    return rows


def _as_large(model: Model, **shape: int) -> dict[str, int]:
    """The keys of another shape, and the hidden width with which it has as many parameters in its layers."""
    other = model.model_copy(update={**shape, "hidden": 8})
    missing = matrix_parameters(model, 0) - matrix_parameters(other, 0)
    hidden = 8 + max(0, round(missing / (3 * other.width * other.depth) / 8)) * 8
    return {f"model.{key}": value for key, value in {**shape, "hidden": hidden}.items()}


def ablate(config: Config, rows: dict[str, dict[str, Any]], steps: int, seeds: int, out: Path | None) -> dict[str, Any]:
    """The answer, as `--json` prints it. Seeds go round before rows do, so that an early end leaves whole columns."""
    others, done = Others(), _done(out)
    budget = Budget(steps=steps).model_dump()
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in rows}
    for seed in range(config.seed, config.seed + seeds):
        for name, keys in rows.items():
            here = changed(config, {**keys, "seed": seed, "run_dir": None, "budget": budget})
            key = dump_yaml(here)
            if key not in done:
                done[key] = _train(here, steps) | {"name": name, "seed": seed, "steps": steps, "config": key}
                if out:
                    with out.open("a") as file:
                        file.write(json.dumps(done[key]) + "\n")
            found[name].append(done[key])
            print(f"{name:<20} seed {seed}  loss {done[key]['loss']:.4f}", file=sys.stderr, flush=True)
    whole = {one["seed"]: one["loss"] for one in found.get(WHOLE, [])}
    return {
        "provenance": describe("cpu" if config.train.device == "cpu" else "its device", others.share()),
        "name": config.name,
        "steps": steps,
        "rows": {name: _row(rows[name], ends, whole) for name, ends in found.items()},
    }


def _done(out: Path | None) -> dict[str, dict[str, Any]]:
    """By configuration what `out` holds; a line that was cut off counts as not there."""
    found = {}
    for line in out.read_text().splitlines() if out and out.exists() else []:
        try:
            one = json.loads(line)
            found[one["config"]] = one
        except (ValueError, KeyError, TypeError):
            continue
    return found


def _train(config: Config, steps: int) -> dict[str, Any]:
    with TemporaryDirectory(prefix="bench-") as folder, ours("run", config, Path(folder)) as worker:
        begun = worker.first
        end = worker.ask(train=steps) if begun["step"] < steps else begun | {"seconds": 0.0}
        seconds_a_step = end["seconds"] / max(1, end["step"] - begun["step"])
        loss = worker.ask(evaluate=True)["loss"]
    return {"loss": loss, "parameters": begun["parameters"], "step_s": seconds_a_step, "launch_s": worker.launch_s}


def _row(keys: dict[str, Any], ends: list[dict[str, Any]], whole: dict[int, float]) -> dict[str, Any]:
    losses = [one["loss"] for one in ends]
    worse = [one["loss"] - whole[one["seed"]] for one in ends if one["seed"] in whole]
    return {
        "changed": keys,
        "parameters": ends[0]["parameters"],
        "losses": losses,
        "loss": statistics.mean(losses),
        "loss_error": _error(losses),
        "worse_by": statistics.mean(worse) if worse else None,
        "worse_by_error": _error(worse),
        "step_s": statistics.median(one["step_s"] for one in ends),
    }


def _error(values: list[float]) -> float | None:
    """Standard error of the mean."""
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None


def _show(answer: dict[str, Any]) -> None:
    terminal, body = console(), []
    for name, row in answer["rows"].items():
        held_against = name != WHOLE and row["worse_by"] is not None
        body.append(
            (
                name,
                ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in row["changed"].items()),
                f"{row['parameters']:,}",
                _with_error(row["loss"], row["loss_error"]),
                _with_error(row["worse_by"], row["worse_by_error"], "+") if held_against else "",
                f"{1e3 * row['step_s']:.1f} ms",
            )
        )
    terminal.print(f"{answer['name']}, {answer['steps']:,} steps, {answer['provenance']}", style="bold")
    heads = ("", "changed", "parameters", "loss [nats per token]", "worse by", "step")
    terminal.print(tabulate("", heads, body))
    terminal.print("± standard error of the mean over seeds; `worse by` is of the same seed", style="dim")


def _with_error(value: float, error: float | None, sign: str = "") -> str:
    return f"{value:{sign}.4f}" + (f" ± {error:.4f}" if error is not None else "")
