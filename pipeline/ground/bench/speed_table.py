"""What a run costs, for a terminal."""

from collections.abc import Iterator
from typing import Any

from pipeline.ground.bench import memory
from pipeline.ground.bench.energy import NOT_MEASURABLE
from pipeline.ground.bench.printing import console, spanning, tabulate, verdict
from pipeline.ground.bench.starts import KINDS

ENDS = ("total", "processor")


def show(answer: dict[str, Any]) -> None:
    terminal = console()
    terminal.print(f"{answer['name']}: {answer['provenance']}. Medians; in brackets least and most.", style="bold")
    rows = [row for part, make in MAKERS.items() if part in answer for row in make(answer[part])]
    if rows:
        terminal.print(tabulate("", ("", "measured", "note"), rows))
    if "start" in answer:
        start = answer["start"]
        named = dict.fromkeys(part for kind in ("warm", *start) for part in start[kind])  # only that one restores
        parts = [*(part for part in named if part not in ENDS), *ENDS]
        body = [
            (
                "processor time" if part == "processor" else part,
                *(f"{kind[part]['median']:.2f}" if part in kind else "-" for kind in start.values()),
            )
            for part in parts
        ]
        heads = ("from launch to the first step [s]", *start)
        terminal.print(tabulate("", heads, body))
        terminal.print("; ".join(f"{kind}: {about}" for kind, about in KINDS.items()), style="dim")


def _loop(found: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    yield "tokens per second", spanning(found["tokens_per_s"], "{:,.0f}".format), "the whole loop"
    yield (
        "step",
        spanning(found["step_s"], lambda s: f"{1e3 * s:.1f} ms"),
        f"{found['parameters'] / 1e6:.2f} M parameters",
    )
    if "over_the_step" in found:
        yield "loop beside the step", f"{100 * found['over_the_step']:.1f} %", "guard, ledger, saves, batches"
    yield "matmul peak", spanning(found["peak_flops_per_s"], lambda f: f"{f / 1e9:,.0f} GFLOP/s"), "measured by turns"
    yield (
        "MFU",
        spanning(found["mfu"], "{:.1%}".format),
        f"{found['flops_per_token'] / 1e6:.2f} MFLOP a token, by formula",
    )
    joules = found["joules_per_token"]
    if joules == NOT_MEASURABLE:
        yield "joules per token", NOT_MEASURABLE, "neither NVML nor RAPL counts"
    else:
        yield from (("joules per token", spanning(each, "{:.3g}".format), name) for name, each in joules.items())


def _program(found: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    held = found["memory"]
    yield (
        "step alone",
        spanning(found["step_s"], lambda s: f"{1e3 * s:.1f} ms"),
        f"compiled in {found['compile_s']:.1f} s",
    )
    measured = f"{held['measured_mb']:,.0f} MB" if held["measured_mb"] is not None else NOT_MEASURABLE
    over = held["over_formula"]
    times = f"{over:.2f} times; at most {memory.GOAL:g}: {verdict(over <= memory.GOAL)}" if over is not None else ""
    yield "peak memory", measured, f"formula {held['formula_mb']:,.0f} MB {times}"


def _saves(found: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    yield "stall of a save", spanning(found["stall_s"], lambda s: f"{1e3 * s:.1f} ms"), f"{found['state_mb']:,.0f} MB"
    yield "of it, for the copy", spanning(found["copy_s"], lambda s: f"{1e3 * s:.1f} ms"), ""
    yield "steps beside a save", spanning(found["longer_steps"], "{:+.1%}".format), "longer than without"
    yield "sealed after", spanning(found["time_to_seal_s"], lambda s: f"{s:.2f} s"), ""


MAKERS = {"loop": _loop, "program": _program, "saves": _saves}
