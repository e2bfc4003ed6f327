"""The tables of the page."""

import math
from typing import NamedTuple

import numpy as np

from pipeline.ground.history import History
from pipeline.ground.report import charts
from pipeline.ground.report.charts import DAY_S
from pipeline.ground.report.material import Material, train_wh
from pipeline.ground.report.words import duration, size, utc
from pipeline.ground.tail import number

_MOST_ROWS = 40  # of a table; more are thinned evenly, and the page says so

_FATES = {"present": "here", "quarantined": "damaged, set aside", "deleted": "thinned out", "missing": "not here"}


class Table(NamedTuple):
    title: str
    heads: list[str]
    rows: list[list[str]]


def validations(history: History) -> Table:
    names = ("step", "mission_s", "loss", "standard_error", "bits_per_byte")
    step, mission_s, loss, error, bits = (history.validations[name] for name in names)
    rows = [
        [f"{step[i]:,.0f}", duration(mission_s[i]), _figure(loss[i], 4), _figure(error[i], 4), _figure(bits[i], 4)]
        for i in _thin(len(step))
    ]
    heads = ["Step", "Mission time", "Loss, nats per token", "Standard error", "Bits per byte"]
    return Table(_titled("Every validation", len(step)), heads, rows)


def days(history: History, unit: charts.Time) -> Table:
    """Extremes of charge and temperature by orbit, or by day on a long mission."""
    telemetry = history.telemetry
    time_s = telemetry["mission_s"]
    by_day = unit.seconds == DAY_S
    if by_day:
        group, what = np.floor(time_s / DAY_S) + 1, "Day"
    else:
        group, what = telemetry["orbit"], "Orbit"
    known = np.isfinite(group)
    if not known.any():
        return Table("", [], [])
    group, time_s = group[known], time_s[known]
    columns = [telemetry[name][known] for name in ("charge", "charge_wh", "temperature_c", "sunlit")]
    starts = np.flatnonzero(np.concatenate([[True], np.diff(group) != 0]))
    with np.errstate(invalid="ignore"):
        low, low_wh, hot = (
            np.fmin.reduceat(columns[0], starts),
            np.fmin.reduceat(columns[1], starts),
            np.fmax.reduceat(columns[2], starts),
        )
        sun = np.add.reduceat(np.nan_to_num(columns[3]), starts) / np.diff(np.append(starts, len(group)))
    rows = [
        [
            f"{group[starts[i]]:,.0f}",
            duration(time_s[starts[i]]),
            f"{_figure(100 * low[i], 1)} %",
            _figure(low_wh[i], 0),
            _figure(hot[i], 1),
            f"{100 * sun[i]:.0f} %",
        ]
        for i in _thin(len(starts))
    ]
    heads = [what, "Begins at", "Lowest charge", "Wh", "Hottest plate, °C", "Readings in sunlight"]
    return Table(_titled(f"Charge and temperature by {what.lower()}", len(starts)), heads, rows)


def planned(material: Material) -> Table:
    """Figures of plan.json beside what came of them."""
    history, expected = material.history, material.expected
    totals, steps = history.summary.totals, history.step
    starts = sum(mode.name == "RESTART" for mode in history.modes)
    actual = {
        "steps": float(steps),
        "tokens": float(steps * material.config.tokens_per_step) if material.config else number(totals.get("tokens")),
        "train_wh": train_wh(history),
        "end_s": history.last.mission_s if history.last else math.nan,
        "restarts": float(starts),
        "eclipses": number(totals.get("eclipses")),
    }
    names = {
        "steps": "Steps",
        "tokens": "Tokens",
        "train_wh": "Energy for training, Wh",
        "end_s": "Mission time at the end",
        "restarts": "Starts of the GPU",
        "eclipses": "Eclipses",
    }

    def said(key: str, value: float) -> str:
        return duration(value) if key == "end_s" else _figure(value, 0)

    rows = []
    for key, label in names.items():
        before, after = number(expected.get(key)), actual[key]
        share = f"{100 * after / before:.1f} %" if before and math.isfinite(before) and math.isfinite(after) else "–"
        if math.isfinite(before) or math.isfinite(after):
            rows.append([label, said(key, before), said(key, after), share])
    return Table("Figures", ["", "Planned", "Actual so far", "Share"], rows)


def measured(history: History) -> Table:
    """What satellite and GPU were found to do, as each look ahead took it; what was always as modelled is left out."""
    names = {
        "harvest": "Energy that the array harvests",
        "capacity": "Charge that the battery holds",
        "rejection": "Heat that the plate loses",
        "slowness": "Time of a step",
        "draw": "Power of the GPU, over that commanded",
    }
    rows = []
    for name, label in names.items():
        found = history.plans[name]
        found = found[np.isfinite(found)]
        if (found.round(3) != 1.0).any():  # as it is shown
            rows.append([label, *(_figure(float(share), 3) for share in (found[-1], found.min(), found.max()))])
    return Table("Measured in flight, over what is modelled", ["", "Now", "Lowest", "Highest"], rows)


def checkpoints(material: Material) -> Table:
    history, present = material.history, material.present or []
    names = ("checkpoint", "mission_s", "wall", "bytes", "seconds", "blocking_s")
    step, mission_s, wall, weight, seconds, blocking = (history.seals[name][::-1] for name in names)
    rows = []
    for i in range(min(len(step), _MOST_ROWS // 2)):
        number_ = int(step[i])
        state = _FATES[history.fate(number_, present)]
        bytes_ = size(weight[i]) if math.isfinite(weight[i]) else "–"
        times = [f"{_figure(seconds[i], 2)} s", f"{_figure(1000 * blocking[i], 0)} ms"]
        rows.append([f"{number_:,}", duration(mission_s[i]), state, bytes_, *times, utc(wall[i])])
    title = "Every seal" if len(rows) == len(step) else f"The newest {len(rows)} of {len(step):,} seals"
    return Table(title, ["Step", "Mission time", "Now", "Size", "To seal", "Training held up", "Sealed at"], rows)


def _figure(value: float, digits: int) -> str:
    return f"{value:,.{digits}f}" if math.isfinite(value) else "–"


def _thin(rows: int) -> list[int]:
    """At most _MOST_ROWS row numbers, evenly, the last among them."""
    if rows <= _MOST_ROWS:
        return list(range(rows))
    return np.unique(np.linspace(0, rows - 1, _MOST_ROWS).astype(int)).tolist()


def _titled(title: str, rows: int) -> str:
    return title if rows <= _MOST_ROWS else f"{title}, {_MOST_ROWS} of {rows:,}, evenly"
