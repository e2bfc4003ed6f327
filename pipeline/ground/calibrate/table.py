"""What a calibration says on a terminal."""

from pathlib import Path
from typing import Any


def show(answer: dict[str, Any], out: Path | None) -> None:
    """Prints the loads, then where the curve is."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console()
    idle = answer["idle_w"]
    console.print(
        f"{answer['device']}, measured by {answer['by']}" + (f"; idle {idle['median']:.1f} W" if idle else "")
    )
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("load", "tokens/s", "share", "W", "mJ/token", "spread"):
        table.add_column(heading, justify="right")
    full = answer["points"][0]["tokens_per_s"]["median"]
    loads = [(f"{answer['by']} {point['level']:g}", point) for point in answer["points"]]
    for name, point in [*loads, *answer["swept"].items()]:
        rate = point["tokens_per_s"]
        cells = [name, f"{rate['median']:,.0f}", f"{rate['median'] / full:.3f}", "not counted", "", ""]
        if "watts" in point:
            joules = point["joules_per_token"]
            spread = max(joules["high"] / joules["median"] - 1.0, 1.0 - joules["low"] / joules["median"])
            cells[3:] = [
                f"{point['watts']['median']:.1f}",
                f"{joules['median'] * 1e3:.4g}",
                f"{100 * max(spread, point['counter_error']):.1f} %",
            ]
        table.add_row(*cells)
    console.print(table)
    if out:
        console.print(f"curve: {out}; use it with --gpu {out}")
