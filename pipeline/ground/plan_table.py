"""The plan as tables in a terminal."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from pipeline.config import Config
from pipeline.ground.plan_budget import LONGEST_DAYS

NAMES = {
    "dp": "optimal plan",
    "full_power": "full power",
    "efficient_point": "efficient",
    "sunlight_only": "sunlight only",
    "constant": "constant",
}

WHY = {"UMBRA": "for the umbra", "LOW_CHARGE": "at low charge", "HOT": "at the plate's limit"}
LATER = f"after {LONGEST_DAYS:.0f} days"


def show(config: Config, answer: Mapping[str, Any]) -> None:
    """Prints the answer of `train.py plan`."""
    orbit, drawn, limits = answer["orbit"], answer["forecast"], config.satellite.battery
    console = Console(highlight=False)
    days, where = (
        answer["duration_s"] / 86400.0,
        f"{config.satellite.name} with {config.gpu.name} on {config.orbit.name}",
    )
    console.print(f"[bold]{config.name}[/]: {where}, {days:.2f} days")
    console.print(
        f"orbit {orbit['period_min']:.1f} min, {100 * orbit['sunlit_fraction']:.1f} % sunlit, eclipse "
        f"{orbit['eclipse_min_mean']:.1f} min an orbit (longest {orbit['eclipse_min_max']:.1f})"
    )
    console.print(_forecast(drawn))
    console.print(_policies(answer["policies"]))
    console.print(_planned_stops(answer["notices"]))
    floor_wh = limits.capacity_wh * (1.0 - limits.depth_of_discharge)
    warmest_c = max(row["max_battery_c"] for row in answer["policies"].values())
    console.print(
        f"no policy can make more than {answer['bound']['upper_steps']:,.0f} steps (certified); floor of the battery "
        f"{floor_wh:.0f} Wh, limit of the plate {config.satellite.radiator.limit_c:.0f} °C\n"
        f"the battery grows as warm as {warmest_c:.0f} °C, and takes no charge above {limits.charge_max_c:.0f}\n"
        "every figure is modelled; the spread is of assumed errors of harvest, array and outages",
        style="dim",
    )
    if unfinished := answer["samples"]["unfinished"]:
        console.print(
            f"{unfinished} of {answer['samples']['drawn']} flights under errors do not spend the budget within "
            f"{LONGEST_DAYS:.0f} days"
        )
    if config.mission.policy != "optimal":
        console.print(
            f"the run will fly mission.policy {config.mission.policy}; the forecast is of the optimal plan", style="dim"
        )


def _planned_stops(notices: Sequence[Mapping[str, Any]]) -> str:
    """How often the optimal plan gives up power, why, and when first."""
    if not notices:
        return "the optimal plan never gives up power: no planned stop, saves by interval alone"
    kinds = Counter(WHY[notice["kind"]] for notice in notices)
    first = notices[0]
    return (
        f"planned stops of the optimal plan: {', '.join(f'{count:,} {kind}' for kind, count in kinds.most_common())}; "
        f"the first at mission second {first['time_s']:,.0f}, sealed within {first['seconds_left']:.0f} s"
    )


def _forecast(drawn: Mapping[str, Mapping[str, Any]]) -> Table:
    made = Table(box=box.SIMPLE_HEAD, title="optimal plan under errors", title_justify="left", title_style="bold")
    for heading in ("", "5 %", "median", "95 %"):
        made.add_column(heading, justify="right" if heading else "left")
    units = {"steps": "steps", "tokens": "tokens", "train_wh": "training [Wh]", "harvest_wh": "harvest [Wh]"}
    for name, label in units.items():
        made.add_row(label, *(f"{drawn[name][percent]:,.0f}" for percent in ("p5", "p50", "p95")))
    dates = (drawn["finish"][percent] for percent in ("p5", "p50", "p95"))
    made.add_row("budget spent [UTC]", *(date[:16].replace("T", " ") if date else LATER for date in dates))
    return made


def _policies(rows: Mapping[str, Mapping[str, float]]) -> Table:
    made = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        title="policies, without errors",
        title_justify="left",
        title_style="bold",
    )
    headings = ("", "steps", "% bound", "starts", "min Wh", "max °C", "cycled Wh", "safe")
    for heading in headings:
        made.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for name, row in rows.items():
        broken = row["floor_violations"] + row["temperature_violations"]
        made.add_row(
            NAMES[name],
            f"{row['steps']:,.0f}",
            f"{row['percent_of_bound']:.2f}",
            f"{row['restarts']:.0f}",
            f"{row['min_charge_wh']:.0f}",
            f"{row['max_temperature_c']:.1f}",
            f"{row['discharge_wh']:,.0f}",
            f"{broken:.0f} over" if broken else "yes",
            style="bold" if name == "dp" else None,
        )
    return made
