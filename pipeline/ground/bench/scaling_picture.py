"""Time and memory of a training step against the formulas, drawn."""

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.ground.bench.memory import GOAL
from pipeline.ground.plan_picture import INK, LIMIT, WORK


def draw(answer: dict[str, Any], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = answer["rows"]
    flops = np.array([row["flops_per_token"] for row in rows])
    figure = Figure(figsize=(11.0, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    time, memory = figure.subplots(1, 2)
    figure.suptitle(
        f"A training step, {answer['optimizer']}, {answer['tokens_per_step']:,} tokens; {answer['provenance']}",
        x=0.01,
        ha="left",
        fontsize=9,
        color=INK,
    )
    middle, low, high = (np.array([1e6 * row["token_s"][name] for row in rows]) for name in ("median", "least", "most"))
    time.errorbar(flops, middle, (middle - low, high - middle), fmt="o-", color=WORK, capsize=3, label="measured")
    peaks = np.array([row["peak_flops_per_s"] for row in rows])
    time.plot(flops, 1e6 * flops / peaks, color=LIMIT, ls="--", label="formula at the measured matmul peak")
    time.set(xlabel="FLOPs a token, by formula", ylabel="time a token [µs]", xscale="log", yscale="log")
    if answer["exponent"] is not None:
        time.set_title(f"cost ~ FLOPs^{answer['exponent']:.2f}", loc="right", fontsize=10, color=INK)
    for row, x, y in zip(rows, flops, middle, strict=True):
        words = f"{row['parameters'] / 1e6:.3g} M"
        time.annotate(words, (x, y), xytext=(7, -10), textcoords="offset points", fontsize=8, color=INK)

    known = [row for row in rows if row["peak_mb"] is not None]
    sizes = [row["parameters"] for row in known]
    memory.plot(sizes, [row["peak_mb"] for row in known], "o-", color=WORK, label="measured")
    formula = np.array([row["formula_mb"] for row in known])
    memory.plot(sizes, formula, color=LIMIT, ls="--", label="formula")
    memory.fill_between(sizes, formula, GOAL * formula, color=LIMIT, alpha=0.3, lw=0, label=f"up to {GOAL:g} times")
    memory.set(xlabel="parameters", ylabel="peak memory [MB]", xscale="log", yscale="log")
    for axis in (time, memory):
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.2)
        axis.legend(frameon=False, loc="upper left")
    figure.savefig(path, dpi=120)
