"""Whether time and memory grow with the model as the formulas say, from 1 M to 100 M parameters, on this machine.

`train.py bench scaling [--out FILE.png] [--config FILE --KEY VALUE …]`. The training step alone, on random bytes, a few
steps of each size. Its time is set against the fastest matrix product of the same minute: what else the machine does
then changes both. AdamW by default: what Muon adds to a step does not grow with the tokens, and the formula leaves it
out.
"""

import json
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.config import BadInput, Config, load
from pipeline.config.arguments import Parser, within
from pipeline.ground import plan_picture
from pipeline.ground.arguments import usable_path
from pipeline.ground.bench import memory, program, scaling_picture
from pipeline.ground.bench.changed import changed
from pipeline.ground.bench.machine import Others, describe
from pipeline.ground.bench.printing import console, spanning, tabulate, verdict
from pipeline.ground.bench.spread import spread
from pipeline.lm.flops import token_flops

SIZES = ((4, 128), (6, 256), (8, 384), (10, 512), (14, 768))  # layers and width: 0.8 M to 99 M parameters
HEAD_DIM = 64
VOCABULARY = 256  # bytes
DEFAULT = ("--optimizer.name", "adamw", "--train.precision", "fp32", "--train.batch", "8", "--model.context", "256")


def main(arguments: Sequence[str]) -> int:
    """Measures, and prints a table or JSON.

    Raises:
        BadInput: an argument or a key is wrong.
        RunFailed: a size did not fit into memory.
    """
    parser = Parser("train.py bench scaling", description=__doc__)
    parser.add_json()
    parser.add_argument("--repeats", type=within(int, 1), default=3, help="steps of each size that count (3)")
    parser.add_argument("--sizes", help="LAYERSxWIDTH, with commas between (4x128 to 14x768)")
    parser.add_argument("--out", type=usable_path, help="a PNG to draw")
    own, rest = parser.parse_known_args(list(arguments))
    if own.out:
        plan_picture.check(own.out)
    config = load([*DEFAULT, *rest], prog="train.py bench scaling")
    others = Others()
    rows = [_row(shaped(config, *size), own.repeats) for size in _sizes(own.sizes)]
    answer = {
        "provenance": describe(rows[0].pop("backend"), others.share()),
        "tokens_per_step": config.tokens_per_step,
        "optimizer": config.optimizer.name,
        "rows": rows,
        "exponent": exponent(rows),
        "memory_holds": all(row["over_formula"] <= memory.GOAL for row in rows if row["over_formula"] is not None),
    }
    if own.out:
        scaling_picture.draw(answer, own.out)
    if own.json:
        print(json.dumps(answer))
    else:
        _show(answer)
    return 0


def _sizes(text: str | None) -> list[tuple[int, int]]:
    if text is None:
        return list(SIZES)
    try:
        found = [(int(depth), int(width)) for depth, width in (one.split("x") for one in text.split(","))]
    except ValueError:
        raise BadInput(f"--sizes: {text!r}: not a list of sizes; give for instance 4x128,8x384") from None
    return found


def shaped(config: Config, depth: int, width: int) -> Config:
    """`config` with another size; the rest of the shape follows from depth and width."""
    shape = {"depth": depth, "width": width, "head_dim": min(HEAD_DIM, width)}
    follows = dict.fromkeys(("heads", "kv_heads", "hidden"))
    return changed(config, {f"model.{name}": value for name, value in {**shape, **follows}.items()})


def _row(config: Config, repeats: int) -> dict[str, Any]:
    found = program.apart(config, VOCABULARY, 1, repeats)
    flops, tokens = token_flops(config.model, VOCABULARY), config.tokens_per_step
    by_part = memory.parts_bytes(config, VOCABULARY, found["backend"])
    peak = float(np.median(found["peak_flops_per_s"]))
    measured, formula = found["peak_bytes"], sum(by_part.values())
    print(
        f"{found['parameters'] / 1e6:.1f} M parameters: {found['step_s'][-1]:.2f} s a step", file=sys.stderr, flush=True
    )
    return {
        "backend": found["backend"],
        "depth": config.model.depth,
        "width": config.model.width,
        "parameters": found["parameters"],
        "flops_per_token": flops,
        "token_s": spread([seconds / tokens for seconds in found["step_s"]]),
        "peak_flops_per_s": peak,
        "share_of_peak": spread([flops * tokens / seconds / peak for seconds in found["step_s"]]),
        "peak_mb": measured / 1e6 if measured is not None else None,
        "xla_planned_mb": found["xla_bytes"] / 1e6 if found["xla_bytes"] is not None else None,
        "formula_mb": formula / 1e6,
        "over_formula": measured / formula if measured is not None else None,
    }


def exponent(rows: Sequence[dict[str, Any]]) -> float | None:
    """b of cost a token ~ (FLOPs of the formula)^b, cost in products of the fastest matrix multiplication; 1: as it
    says."""
    if len(rows) < 2:
        return None
    cost = [row["token_s"]["median"] * row["peak_flops_per_s"] for row in rows]
    return float(np.polyfit(np.log([row["flops_per_token"] for row in rows]), np.log(cost), 1)[0])


def _show(answer: dict[str, Any]) -> None:
    terminal = console()
    terminal.print(
        f"{answer['provenance']}; {answer['optimizer']}, {answer['tokens_per_step']:,} tokens a step. Medians.",
        style="bold",
    )
    heads = (
        "parameters",
        "shape",
        "MFLOP a token",
        "µs a token",
        "of the matmul peak",
        "peak memory",
        "formula",
        "times",
    )
    body = [
        (
            f"{row['parameters'] / 1e6:.1f} M",
            f"{row['depth']} x {row['width']}",
            f"{row['flops_per_token'] / 1e6:,.1f}",
            f"{1e6 * row['token_s']['median']:,.1f}",
            spanning(row["share_of_peak"], "{:.0%}".format),
            f"{row['peak_mb']:,.0f} MB" if row["peak_mb"] is not None else "not measurable here",
            f"{row['formula_mb']:,.0f} MB",
            f"{row['over_formula']:.2f}" if row["over_formula"] is not None else "-",
        )
        for row in answer["rows"]
    ]
    terminal.print(tabulate("", heads, body))
    if answer["exponent"] is not None:
        terminal.print(
            f"cost a token grows as FLOPs^{answer['exponent']:.2f}, over the matmul peak (1: as the formula says)"
        )
    terminal.print(f"peak memory at most {memory.GOAL:g} times the formula: {verdict(answer['memory_holds'])}")
