"""The charts of the page: learning, mission and plan. Bokeh draws them, and carries its own script.

Text, axes and grids take their colours from the page (Bokeh reads `--bk-...` around it), so that they follow light and
dark; the colours of data are of middling lightness and stand out on both.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from bokeh.layouts import column
from bokeh.models import (
    BoxZoomTool,
    ColumnDataSource,
    FactorRange,
    HoverTool,
    NumeralTickFormatter,
    Range1d,
)
from bokeh.models.annotations import Span
from bokeh.plotting import figure
from jaxtyping import Float

from pipeline.config import Config
from pipeline.corpus.uncertainty import WIDE
from pipeline.ground.history import History
from pipeline.ground.report.decimate import extremes, means
from pipeline.ground.report.material import Column, keeps

BLUE, ORANGE, GREEN, RED, YELLOW, PURPLE, GREY = (
    "#3b82d6",
    "#d9730d",
    "#2f9a5d",
    "#d64545",
    "#d9a514",
    "#8d63c9",
    "#868e99",
)
MODES = {"TRAIN": GREEN, "RESTART": PURPLE, "OFF": GREY, "DOWN": RED}
POINTS = 1500  # stretches of the loss whose lowest and highest values are drawn
SMOOTH = 150  # stretches, at most, whose mean is the line through them; each of five values at least
READINGS = 12_000  # stretches of telemetry; a month of one reading a minute is kept whole
DAY_S, HOUR_S = 86400.0, 3600.0
LEFT = 62  # pixels, so that charts stand above each other


class Time(NamedTuple):
    """The unit in which the page counts mission time."""

    seconds: float
    name: str


def time_unit(length_s: float) -> Time:
    return Time(HOUR_S, "hours") if length_s <= 3 * DAY_S else Time(DAY_S, "days")


def learning(history: History, unit: Time, unigram_loss: float | None) -> Any:
    """Loss against step, mission time or energy: every source has `step`, `time` and `wh`, and one of them as `x`."""

    def source(step: Column, mission_s: Column, **columns: Column) -> ColumnDataSource:
        axes = {"step": step, "time": mission_s / unit.seconds, "wh": history.train_wh(mission_s)}
        return _source(x=step, **axes, **columns)

    plot = _figure(340, "loss, nats per token", "step", name="learning")
    at, mission_s, loss = (history.steps[name] for name in ("at", "mission_s", "loss"))
    if len(at):
        kept = extremes(loss, buckets=POINTS)
        raw = source(at[kept], mission_s[kept], loss=loss[kept])
        plot.line("x", "loss", source=raw, line_color=BLUE, line_alpha=0.4)
        smooth_at, smooth_s, smooth = means(at, mission_s, loss, buckets=min(SMOOTH, -(-len(at) // 5)))
        plot.line("x", "loss", source=source(smooth_at, smooth_s, loss=smooth), line_color=BLUE, line_width=2)
    gone = [gap.after for gap in history.outages]
    if gone:
        lost = source(np.array([m.step for m in gone], float), np.array([m.mission_s for m in gone]))
        plot.vspan("x", source=lost, line_color=RED, line_dash="dashed")
    if history.cooldown is not None and len(at):
        start = np.array([float(history.cooldown)])
        begins = source(start, np.interp(start, at, mission_s))
        plot.vspan("x", source=begins, line_color=GREY, line_dash="dotted", line_width=2)
    if unigram_loss is not None:
        plot.add_layout(Span(location=unigram_loss, dimension="width", line_color=GREY, line_dash="dashed"))
    step, validated_s, held_out, error = (
        history.validations[name] for name in ("step", "mission_s", "loss", "standard_error")
    )
    spread = WIDE * np.nan_to_num(error)
    points = source(step, validated_s, loss=held_out, error=error, low=held_out - spread, high=held_out + spread)
    plot.segment("x", "low", "x", "high", source=points, line_color=ORANGE, line_width=2)
    plot.line("x", "loss", source=points, line_color=ORANGE, line_width=1.5)
    dots = plot.scatter("x", "loss", source=points, color=ORANGE, size=7 if len(step) <= 40 else 4)
    values = np.concatenate([loss, held_out])
    values = values[np.isfinite(values)]
    if len(values):
        high = ceiling(loss) if len(at) else float(values.max())
        room = 0.05 * max(high - float(values.min()), 1e-3)
        plot.y_range = Range1d(start=float(values.min()) - room, end=high + room)
    tips = [("step", "@step{0,0}"), ("validation loss", "@loss{0.0000}"), ("standard error", "@error{0.0000}")]
    plot.add_tools(HoverTool(renderers=[dots], tooltips=tips))
    return plot


def ceiling(loss: Column) -> float:
    """The highest loss that the chart shows: all, or on a long run all but what the first steps begin with."""
    rest = loss[len(loss) // 20 :] if len(loss) > 400 else loss
    return float(np.nanmax(rest)) if np.isfinite(rest).any() else math.nan


def mission(history: History, unit: Time, config: Config | None) -> Any:
    """Charge, plate temperature and a strip of sunlight, mode, saves and outages, above each other over one time."""
    begin_s, end_s = history.begin_s, history.end_s
    span = max(end_s - begin_s, 60.0) / unit.seconds
    begin = begin_s / unit.seconds
    across = Range1d(start=begin, end=begin + span, bounds=(begin - 0.02 * span, begin + 1.02 * span), name="mission")
    telemetry = history.telemetry
    names = ("mission_s", "charge_wh", "charge", "temperature_c", "sunlit")
    time_s, charge_wh, charge, plate_c, sunlit = (telemetry[name] for name in names)
    kept = extremes(charge_wh, plate_c, buckets=READINGS) if len(time_s) else np.array([], int)
    off_s = np.array([start_s for start_s, _, mode in history.spans() if mode.name == "DOWN"])
    drawn_s, *drawn = _cut(off_s, *(values[kept] for values in (time_s, charge_wh, 100.0 * charge, plate_c)))
    readings = _source(
        time=drawn_s / unit.seconds, **dict(zip(("charge_wh", "percent", "plate_c"), drawn, strict=True))
    )
    seen_s, light = _cut(off_s, time_s, sunlit)
    shadows, sun = (_stretches(seen_s, seen, end_s) for seen in (light < 0.5, light >= 0.5))
    dark = _source(start=shadows[:, 0] / unit.seconds, end=shadows[:, 1] / unit.seconds)
    outages = _source(time=np.array([gap.after.mission_s for gap in history.outages]) / unit.seconds)

    battery = _figure(190, "charge, Wh", None, x_range=across, name="charge")
    plate = _figure(190, "plate, °C", None, x_range=across, name="temperature")
    for plot, name, color in ((battery, "charge_wh", BLUE), (plate, "plate_c", ORANGE)):
        plot.vstrip("start", "end", source=dark, fill_color=GREY, fill_alpha=0.22, line_color=None)
        if history.outages:
            plot.vspan("time", source=outages, line_color=RED, line_dash="dashed")
        curve = plot.line("time", name, source=readings, line_color=color, line_width=1.5)
        tips = [
            (unit.name, "@time{0,0.000}"),
            ("charge", "@charge_wh{0,0} Wh, @percent{0.0} %"),
            ("plate", "@plate_c{0.0} °C"),
        ]
        plot.add_tools(HoverTool(renderers=[curve], tooltips=tips, mode="vline"))
    kept_to = keeps(history, config)
    for plot, values, level in ((battery, charge_wh, kept_to["floor_wh"]), (plate, plate_c, kept_to["limit_c"])):
        if (known := np.isfinite(level)).any():
            changes = np.flatnonzero(known & (np.diff(level, prepend=math.nan) != 0.0))
            bound = _source(
                time=np.append(time_s[changes] / unit.seconds, begin + span), level=np.append(level[changes], level[-1])
            )
            plot.step("time", "level", source=bound, line_color=RED, line_dash="dotted", line_width=2, mode="after")
            # The floor and the limit are what the curve is to be judged by, and stay in sight.
            _show(plot, np.concatenate([values, level]))
    return column(battery, plate, _strip(history, unit, across, sun), sizing_mode="stretch_width")


def _strip(history: History, unit: Time, across: Range1d, sun: np.ndarray) -> Any:
    """Four rows of coloured bars and marks."""
    rows = ["outages", "saves", "mode", "sunlight"]
    plot = _figure(
        170, None, f"mission time, {unit.name}", x_range=across, y_range=FactorRange(factors=rows), name="strip"
    )
    bars = [(start, end, "sunlight", YELLOW, "in sunlight", "") for start, end in sun.tolist()]
    bars += [
        (start, end, "mode", MODES.get(mode.name, GREY), mode.name, mode.reason) for start, end, mode in history.spans()
    ]
    columns: dict[str, Any] = {
        name: [bar[i] for bar in bars] for i, name in enumerate(("start", "end", "row", "color", "what", "why"))
    }
    for name in ("start", "end"):
        columns[name] = np.array(columns[name], float) / unit.seconds
    source = _source(minutes=(columns["end"] - columns["start"]) * unit.seconds / 60.0, **columns)
    drawn = plot.hbar(
        y="row", left="start", right="end", height=0.62, source=source, fill_color="color", line_color=None
    )
    tips = [("", "@what @why"), ("minutes", "@minutes{0,0.0}"), (f"from, {unit.name}", "@start{0,0.000}")]
    plot.add_tools(HoverTool(renderers=[drawn], tooltips=tips))
    saves = history.seals["mission_s"] / unit.seconds
    lost = np.array([gap.after.mission_s for gap in history.outages]) / unit.seconds
    stops = np.array([gap.after.mission_s for gap in history.gaps if gap.ending is not None]) / unit.seconds
    for row, marks, color, width in (("saves", saves, BLUE, 1), ("outages", stops, GREY, 3), ("outages", lost, RED, 3)):
        ends = {"low": [(row, -0.31)] * len(marks), "high": [(row, 0.31)] * len(marks)}
        plot.segment(
            "time", "low", "time", "high", source=_source(time=marks, **ends), line_color=color, line_width=width
        )
    plot.ygrid.grid_line_color = None
    return plot


def plan(history: History, unit: Time, expected: dict[str, float]) -> Any:
    """Steps against mission time, and what was expected of them before launch."""
    begin_s, end_s = history.begin_s, history.end_s
    plot = _figure(240, "steps", f"mission time, {unit.name}", name="plan")
    if {"steps", "end_s"} <= expected.keys():
        line = np.array([begin_s, expected["end_s"]]) / unit.seconds, np.array([0.0, expected["steps"]])
        plot.line(*line, line_color=GREY, line_dash="dashed", line_width=2)
    if planned_again(history):
        looks = _source(time=history.plans["mission_s"] / unit.seconds, steps=history.plans["planned_steps"])
        plot.step("time", "steps", source=looks, line_color=ORANGE, mode="after")
    steps, time_s = history.steps["at"], history.steps["mission_s"]
    kept = extremes(time_s, buckets=POINTS) if len(steps) else np.array([], int)
    done = _source(
        time=np.concatenate([[begin_s], time_s[kept], [end_s]]) / unit.seconds,
        steps=np.concatenate([[0.0], steps[kept], [history.step]]),
    )
    drawn = plot.line("time", "steps", source=done, line_color=GREEN, line_width=2)
    plot.add_tools(HoverTool(renderers=[drawn], tooltips=[("steps", "@steps{0,0}"), (unit.name, "@time{0,0.00}")]))
    plot.yaxis.formatter = NumeralTickFormatter(format="0,0")
    return plot


def planned_again(history: History) -> bool:
    """Whether more than one look ahead said how many steps there would be: one alone makes no line."""
    return int(np.isfinite(history.plans["planned_steps"]).sum()) > 1


def _figure(height: int, y_label: str | None, x_label: str | None, **options: Any) -> Any:
    # The page has its own buttons: a toolbar would be the only part of it that no keyboard reaches.
    made = figure(
        height=height,
        sizing_mode="stretch_width",
        toolbar_location=None,
        tools=[BoxZoomTool(dimensions="width", name="zoom")],
        background_fill_color=None,
        border_fill_color=None,
        outline_line_color=None,
        min_border_left=LEFT,
        min_border_right=12,
        **options,
    )
    made.toolbar.active_drag = None  # a finger that scrolls the page must not zoom; the page turns it on for a mouse
    made.xaxis.axis_label, made.yaxis.axis_label = x_label, y_label
    made.xaxis.formatter = NumeralTickFormatter(format="0,0.[0000]")
    if x_label is None:
        made.xaxis.major_label_text_font_size = "0px"
        made.xaxis.major_tick_line_color = made.xaxis.minor_tick_line_color = None
    for axis in (made.xaxis, made.yaxis):
        axis.axis_label_text_font_style = "normal"
    made.xgrid.grid_line_color = None if "x_range" in options else made.xgrid[0].grid_line_color
    return made


def _show(plot: Any, values: Column) -> None:
    known = values[np.isfinite(values)]
    room = 0.08 * max(float(np.ptp(known)), 1e-3 * float(np.abs(known).max()), 1e-3)
    plot.y_range = Range1d(start=float(known.min()) - room, end=float(known.max()) + room)


def _cut(off_s: Column, time_s: Column, *columns: Column) -> list[Column]:
    """With a row of NaN at each moment of `off_s`: nobody saw anything until the next."""
    where = np.searchsorted(time_s, off_s, side="right")
    return [np.insert(time_s, where, off_s), *(np.insert(values, where, math.nan) for values in columns)]


def _stretches(time_s: Column, inside: np.ndarray, end_s: float) -> Float[np.ndarray, "stretches 2"]:
    """(start, end) of each stretch [s] over which `inside` holds, from one reading to the one that ends it."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], inside, [False]]).astype(int)))
    return np.append(time_s, end_s)[edges].reshape(-1, 2)


def _source(**columns: Any) -> ColumnDataSource:
    """Numbers as 32-bit floats, which the page carries in four bytes each; steps and hours need no more."""
    floats = {
        name: np.asarray(values, np.float32) for name, values in columns.items() if isinstance(values, np.ndarray)
    }
    return ColumnDataSource({**columns, **floats})
