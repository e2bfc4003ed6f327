"""How two trainers compare, for a terminal."""

from typing import Any

from rich.console import Console
from rich.table import Table


def show(answer: dict[str, Any]) -> None:
    console = Console()
    shape = answer["shape"]
    console.print(
        f"{answer['provenance']}; {shape['depth']} layers x {shape['width']}, context {shape['context']}, batch "
        f"{shape['batch']}, {answer['steps']:,} steps. Medians; in brackets least and most.",
        highlight=False,
    )
    arms = Table(box=None)
    for name in ("", "parameters", "launch", "tokens/s", "step", "peak memory", "total", "final loss"):
        arms.add_column(name, justify="right" if name else "left")
    for name, row in answer["arms"].items():
        rate, step = row["tokens_per_s"], row["step_s"]
        arms.add_row(
            name if name in ("adamw", "muon") else f"nanoGPT {name}",
            f"{row['parameters']:,}",
            f"{row['launch_s']:.1f} s",
            f"{rate['median']:,.0f} ({rate['least']:,.0f} to {rate['most']:,.0f})",
            f"{1e3 * step['median']:.1f} ms",
            f"{row['peak_mb']:,.0f} MB" if row["peak_mb"] else "-",
            f"{row['total_s']:.1f} s",
            f"{row['final_loss']:.4f}",
        )
    console.print(arms)
    pairs = Table(box=None)
    for name in ("ours / nanoGPT's", "speed", "goal", "time to its final loss", "of its time", "goal"):
        pairs.add_column(name)
    for name, pair in answer["pairs"].items():
        speed, reached = pair["speed"], pair["time_to_its_final_loss"]
        came = reached["share"] is not None
        pairs.add_row(
            name,
            f"{speed['median']:.2f} ({speed['least']:.2f} to {speed['most']:.2f})",
            _goal(speed["median"], pair["speed_goal"], 1),
            f"{reached['seconds']:.1f} s" if came else "not reached",
            f"{reached['share']:.2f}" if came else "-",
            _goal(reached["share"], pair["time_goal"], -1),
        )
    console.print(pairs)
    for name, pair in answer["pairs"].items():
        steps = [f"{step}: {_losses(two)}" for step, two in pair["loss_at_equal_steps"].items()]
        times = [f"{100 * float(share):g} %: {_losses(two)}" for share, two in pair["loss_at_equal_time"].items()]
        console.print(f"{name}, loss at step  " + "  ".join(steps), highlight=False)
        console.print(f"{name}, loss at a share of its time  " + "  ".join(times), highlight=False)


def _goal(value: float | None, goal: float | None, sense: int) -> str:
    """`sense`: 1 if more is better."""
    if goal is None:
        return ""
    holds = value is not None and sense * value >= sense * goal
    return f"{'at least' if sense > 0 else 'at most'} {goal:g}: {'holds' if holds else 'DOES NOT HOLD'}"


def _losses(two: list[float | None]) -> str:
    return " / ".join("-" if loss is None else f"{loss:.3f}" for loss in two)
