"""What a calibration says on a terminal."""

from pathlib import Path
from typing import Any


def show(answer: dict[str, Any], out: Path | None) -> None:
    """Prints the loads, then where the curve is."""
    from pipeline.ground.bench.printing import console, tabulate

    terminal = console()
    idle = answer["idle_w"]
    terminal.print(
        f"{answer['device']}, measured by {answer['by']}" + (f"; idle {idle['median']:.1f} W" if idle else "")
    )
    rows = []
    loads = [(f"{answer['by']} {point['level']:g}", point) for point in answer["points"]]
    for name, point in [*loads, *answer["swept"].items()]:
        if "failed" in point:
            continue
        rate = point["tokens_per_s"]
        cells = [name, f"{rate['median']:,.0f}", f"{point['share']['median']:.3f}", "not counted", "", ""]
        if "watts" in point:
            joules = point["joules_per_token"]
            spread = max(joules["most"] / joules["median"] - 1.0, 1.0 - joules["least"] / joules["median"])
            cells[3:] = [
                f"{point['watts']['median']:.1f}",
                f"{joules['median'] * 1e3:.4g}",
                f"{100 * max(spread, point['counter_error']):.1f} %",
            ]
        rows.append(cells)
    terminal.print(tabulate("", ("", "tokens/s", "share", "W", "mJ/token", "spread"), rows))
    for name, point in answer["swept"].items():
        if "failed" in point:
            terminal.print(f"{name}: {point['failed']}")
    if out:
        terminal.print(f"curve: {out}; use it with --gpu {out}")
