"""The plan as a picture: sunlight, charge, temperature, power and steps over time."""

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import BadInput
from pipeline.orbit import eclipses
from pipeline.plan import Forecast, Mode, Scenario

INK, SUN, CHARGE, HEAT, WORK, LIMIT = "#333333", "#e8a200", "#1f6fb4", "#c8452e", "#2e8b57", "#999999"
MOST_SLOTS = 6000  # more are thinner than the picture's pixels


def check(path: Path) -> None:
    """Whether a picture can be drawn there, before anything is computed.

    Raises:
        BadInput: the name is not that of a PNG, its folder is missing, or matplotlib is not installed.
    """
    if path.suffix.lower() != ".png":
        raise BadInput(f"--out: {path}: the picture is a PNG; give a name that ends in .png")
    if not path.parent.is_dir():
        raise BadInput(f"--out: {path}: there is no folder {path.parent}; create it")
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise BadInput(
            "--out: matplotlib is not installed; `pip install '.[notebooks]'`, or leave --out away"
        ) from error


def draw(made: Scenario, flight: Forecast, title: str, path: Path) -> None:
    """Writes the picture of a flight that began at mission second 0."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    every = max(1, len(flight.time_s) // MOST_SLOTS)
    hours, trace = flight.time_s[::every] / 3600.0, flight.trace
    columns = {name: np.asarray(values)[::every] for name, values in trace._asdict().items()}
    sky = made.timeline.span(0.0, flight.end_s)
    plant = made.plant
    unit, scale = ("h", 1.0) if hours[-1] <= 72.0 else ("days", 24.0)
    at = hours / scale

    figure = Figure(figsize=(12.0, 9.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(6, 1, sharex=True, height_ratios=[0.4, 1.2, 1.2, 1.2, 0.3, 1.0])
    figure.suptitle(f"{title}, optimal plan, modelled", x=0.01, ha="left", fontsize=13, color=INK)
    for axis in axes:
        for start_s, end_s in eclipses(sky):
            axis.axvspan(start_s / 3600.0 / scale, end_s / 3600.0 / scale, color="#dfe3ea", lw=0)
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0)
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    sunlight, charge, plate, power, mode, steps = axes

    sunlight.fill_between(sky.time_s / 3600.0 / scale, sky.illumination, color=SUN, alpha=0.8, lw=0)
    sunlight.set(ylabel="sunlight", ylim=(0, 1.05), yticks=[0, 1])
    sunlight.set_title("shaded: eclipse", loc="right", fontsize=9, color=INK, pad=2)

    charge.plot(at, columns["charge_wh"], color=CHARGE, lw=1.2)
    for level_wh, label in ((plant.capacity_wh, "capacity"), (plant.floor_wh, "floor")):
        _limit(charge, level_wh, label)
    room_wh = plant.capacity_wh - plant.floor_wh
    charge.set(ylabel="charge [Wh]", ylim=(plant.floor_wh - 0.12 * room_wh, plant.capacity_wh + 0.12 * room_wh))

    plate.plot(at, columns["plate_c"], color=HEAT, lw=1.2)
    _limit(plate, plant.limit_c, "limit")
    plate.set(ylabel="plate [°C]")
    plate.margins(y=0.15)

    training = columns["mode"] == Mode.TRAIN
    power.fill_between(at, np.where(training, columns["cap_w"], 0.0), color=WORK, alpha=0.6, lw=0, step="pre")
    _limit(power, made.curve.full_w, "full power")
    power.set(ylabel="GPU [W]", ylim=(0, 1.15 * made.curve.full_w))

    # A restart is too short to be seen at its own width.
    mode.fill_between(at, training, color=WORK, alpha=0.9, lw=0, step="pre")
    on = np.concatenate([[False], np.asarray(trace.mode) != Mode.OFF])
    starts_s = flight.time_s[np.flatnonzero(on[1:] & ~on[:-1])]
    mode.vlines(starts_s / 3600.0 / scale, 0.0, 1.0, color=HEAT, lw=2.0, clip_on=False)
    mode.set(ylabel="mode", ylim=(0, 1), yticks=[])
    mode.set_title(_words(len(starts_s)), loc="right", fontsize=9, color=INK, pad=2)

    steps.plot(at, columns["steps"], color=INK, lw=1.5)
    begins = made.timeline.track.utc(0.0)
    steps.set(ylabel="steps", ylim=(0, None), xlabel=f"mission time [{unit}] from {begins:%Y-%m-%d %H:%M} UTC")
    steps.set_title(f"{flight.steps:,.0f} steps", loc="right", fontsize=9, color=INK, pad=2)
    steps.xaxis.set_major_locator(MaxNLocator(12, steps=[1, 2, 3, 6, 10] if at[-1] > 12.0 else [1, 2, 5, 10]))
    figure.align_ylabels(axes)
    figure.savefig(path, dpi=120)


def _words(starts: int) -> str:
    return f"green: training; red: {starts} start{'s' * (starts != 1)}; blank: off"


def _limit(axis: Any, level: float, label: str) -> None:
    """A dashed line across the axis, named at its right end."""
    axis.axhline(level, color=LIMIT, lw=0.8, ls="--")
    axis.annotate(
        label,
        (1.0, level),
        xycoords=("axes fraction", "data"),
        xytext=(-4, 2),
        color=LIMIT,
        textcoords="offset points",
        ha="right",
        va="bottom",
        fontsize=8,
        zorder=1.5,  # under the curves
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5},
    )
