"""The figures of `train.py bench planner` as tables in a terminal."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from pipeline.ground.bench.printing import console, tabulate


def show(part: str, found: Any) -> None:
    """Prints one part as soon as it is measured."""
    made = {
        "orbit": _orbit,
        "percent_of_bound": _percent_of_bound,
        "solar_error": _solar_error,
        "random_satellites": _random_satellites,
        "fine_grid": _fine_grid,
        "scheduler": _scheduler,
        "noise": _noise,
    }[part](found)
    title, made.title = made.title, None
    caption, made.caption = made.caption, None
    terminal = console()
    terminal.print(title, style="bold")
    terminal.print(made)
    if caption:
        terminal.print(caption, style="dim")


def _orbit(found: Mapping[str, float]) -> Table:
    rows = [
        ("a day at 10 s", f"{1e3 * found['day_at_10_s_s']:.1f} ms"),
        ("a year at 30 s", f"{found['year_at_30_s_s']:.2f} s"),
    ]
    return tabulate("eclipses, passes and hazard (median)", ("", "took"), rows)


def _percent_of_bound(found: Mapping[str, Any]) -> Table:
    names = list(next(iter(found.values()))["policies"])
    rows = []
    for scenario, each in found.items():
        cells = [f"{each['policies'][name]['percent']:.2f}" for name in names]
        broken = sum(row["floor_violations"] + row["temperature_violations"] for row in each["policies"].values())
        goal = f"{each['goal']:.1f}" if each["goal"] else ""
        rows.append((scenario, *cells, goal, str(each["policies"]["dp"]["restarts"]), str(broken)))
    headings = ("", *names, "goal", "dp starts", "violations")
    return tabulate("a day, percent of the certified bound", headings, rows)


def _solar_error(found: Mapping[str, Any]) -> Table:
    errors = list(next(iter(found.values()))["percent"])
    rows = [
        (scenario, *(f"{each['percent'][error]:.2f}" for error in errors), f"{each['points_lost']:.2f}")
        for scenario, each in found.items()
    ]
    return tabulate(
        "dp where the Sun gives other than planned, percent of that bound", ("", *errors, "points lost"), rows
    )


def _random_satellites(found: Mapping[str, Any]) -> Table:
    names = list(next(iter(found.values()))["steps"])
    rows = []
    for seed, each in found.items():
        lead = "" if each["lead_percent"] is None else f"{each['lead_percent']:+.2f} %"
        rows.append((f"seed {seed}", *(f"{each['steps'][name]:,.0f}" for name in names), lead, str(each["violations"])))
    title = "random satellites, steps of a day, and the lead of dp over the best of the others"
    return tabulate(title, ("", *names, "lead", "violations"), rows)


def _fine_grid(found: Mapping[str, float]) -> Table:
    rows = [(name, f"{percent:.2f} %") for name, percent in found.items()]
    return tabulate("steps over those of the fine-grid programme, where heat binds", ("", "dp"), rows)


def _scheduler(found: Mapping[str, Any]) -> Table:
    rows = [(f"plan a day, {name}", f"{took:.2f} s", "") for name, took in found["plan_a_day_warm_s"].items()]
    rows.append(("look ahead after an orbit", f"{found['look_ahead_s']:.2f} s", ""))
    for label, key in (("poll of the planner", "poll_s"), ("poll of the governor", "governor_poll_s")):
        rows.append((label, f"{1e6 * found[key]['median']:.1f} µs", f"{1e6 * found[key]['p99']:.1f} µs"))
    rows.append(("share of the loop's time", f"{found['share_percent']:.4f} %", ""))
    made = tabulate("scheduler", ("", "median", "p99"), rows)
    made.caption = f"share: {found['share_of']}"
    return made


def _noise(found: Mapping[str, Any]) -> Table:
    rows = [
        (
            name,
            *(str(row[key]) for key in ("floor_violations", "temperature_violations", "brown_outs")),
            f"{row['least_above_floor_wh']:.2f}",
            f"{row['most_over_limit_k']:.3f}",
            f"{row['unserved_wh']:.3f}",
            f"{row['steps']:,.0f}",
        )
        for name, row in found.items()
    ]
    headings = ("", "floor", "heat", "brown-outs", "above floor [Wh]", "over limit [K]", "unserved [Wh]", "steps")
    samples = next(iter(found.values()))["samples"]
    return tabulate(
        f"harvest within ±10 % of the planned: of {samples} skies each, how many break a limit", headings, rows
    )
