"""What the page says, in figures, words and tables; how it looks is the template's affair."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline.config import Config
from pipeline.ground.history import History
from pipeline.ground.report import charts, words
from pipeline.ground.report.charts import DAY_S, HOUR_S
from pipeline.ground.report.words import count, duration, size, utc
from pipeline.ground.tail import number

_MOST_ROWS = 40  # of a table; more are thinned evenly, and the page says so


@dataclass
class Material:
    """What there is to report on."""

    directory: Path
    history: History
    lines: int  # of the ledger
    damaged: int  # of them
    config: Config | None = None  # null: config.yaml did not come down, or is not whole
    expected: dict[str, float] = field(default_factory=dict)  # the figures of plan.json
    present: list[int] | None = None  # sealed steps in the directory; null: there is none
    samples: list[dict[str, str]] = field(default_factory=list)  # step, prompt, text
    samples_words: str = ""  # why there are none
    now_wall: float = 0.0  # when the report is made [s since 1970]


class Tile(NamedTuple):
    name: str
    value: str
    lines: list[str]
    weight: str = ""  # good, warning or bad


class Table(NamedTuple):
    title: str
    heads: list[str]
    rows: list[list[str]]


class Chart(NamedTuple):
    words: str  # what is to be seen, for who cannot see it and who wants to know at once
    legend: list[tuple[str, str, str]]  # kind of mark, colour, name
    unit: str = ""


def gather(material: Material) -> dict[str, Any]:
    """Everything that the template asks for."""
    history, config = material.history, material.config
    end_s = history.last.mission_s if history.last else 0.0
    unit = charts.time_unit(end_s)
    told, more = words.incidents(history)
    made = {
        "learning": _learning(history) if len(history.steps) or len(history.validations) else None,
        "mission": _mission(history, config, unit) if len(history.telemetry) else None,
        "plan": _plan_chart(material, unit) if len(history.steps) else None,
    }
    sections = [
        ("glance", "At a glance"),
        ("learning", "Learning"),
        ("mission", "Mission"),
        ("plan", "Plan"),
        ("checkpoints", "Checkpoints"),
        ("incidents", "What happened"),
    ]
    if material.samples or material.samples_words:
        sections.append(("samples", "Samples"))
    axes = [("step", "step"), ("time", f"mission time, {unit.name}")]
    if np.isfinite(history.telemetry["train_wh"]).any():
        axes.append(("wh", "energy for training, Wh (modelled)" if _modelled(config) else "energy for training, Wh"))
    spans = [(DAY_S / unit.seconds, "Last day", DAY_S), (3 * HOUR_S / unit.seconds, "Last 3 hours", 3 * HOUR_S)]
    return {
        "name": config.directory.name if config else material.directory.resolve().name,
        "standing": words.standing(history, material.now_wall),
        "subtitle": _subtitle(history, config),
        "sections": sections,
        "tiles": _tiles(material),
        "unit": unit,
        "unigram_loss": _finite(history.summary.unigram_loss),
        "charts": made,
        "axes": axes,
        # A month at once is a block of colour: it begins with its last day, and the rest is one button away.
        "first_span": DAY_S / unit.seconds if unit.seconds == DAY_S else None,
        "stretches": [(span, label) for span, label, seconds in spans if seconds < end_s],
        "validations": _validations(history),
        "days": _days(history, unit),
        "planned": _planned(material),
        "checkpoints_words": _checkpoints_words(material),
        "checkpoints": _checkpoints(material),
        "incidents": [
            {
                "when": duration(row.mission_s),
                "utc": utc(row.wall),
                "step": f"{row.step:,}",
                "weight": row.weight,
                "label": {"good": "done", "info": "note", "warning": "warning", "bad": "fault"}[row.weight],
                "text": row.text,
            }
            for row in told
        ],
        "incidents_more": "Not shown one by one: "
        + words.listed([f"{many:,} more of “{kind}”" for kind, many in more.items()])
        if more
        else "",
        "samples": material.samples,
        "samples_words": material.samples_words,
        "notes": _notes(material),
    }


# ================= at a glance =================


def _subtitle(history: History, config: Config | None) -> str:
    parts = []
    if config:
        clock = {"simulated": "simulated time", "real": "real time"}[config.mission.clock]
        parts.append(f"{config.satellite.name} with {config.gpu.name} on {config.orbit.name}, {clock}")
    if history.last:
        parts.append(f"last word {utc(history.last.wall)}")
    return "; ".join(parts)


def _tiles(material: Material) -> list[Tile]:
    history, summary = material.history, material.history.summary
    totals, modelled = summary.totals, " (modelled)" if _modelled(material.config) else ""
    tiles = []
    if len(history.validations):
        loss, error = history.validations["loss"][-1], history.validations["standard_error"][-1]
        lines = [f"nats per token at step {int(history.validations['step'][-1]):,}"]
        if math.isfinite(bits := history.validations["bits_per_byte"][-1]):
            lines.append(f"{bits:.3f} bits per byte")
        unigram = _finite(summary.unigram_loss)
        if unigram is not None:
            lines.append(f"unigram model: {unigram:.3f}")
        spread = f" ± {error:.3f}" if math.isfinite(error) else ""
        learned = unigram is None or not math.isfinite(loss) or loss < unigram
        tiles.append(Tile("Validation loss", f"{loss:.3f}{spread}", lines, "" if learned else "bad"))
    elif len(history.steps):
        value = history.steps["loss"][-1]
        tiles.append(Tile("Training loss", f"{value:.3f}", ["nats per token; not validated yet"]))
    planned = _finite(material.expected.get("steps"))
    share = f"{100 * summary.steps / planned:.1f} % of the {planned:,.0f} planned" if planned else ""
    tokens = summary.steps * material.config.tokens_per_step if material.config else _finite(totals.get("tokens"))
    lines = [line for line in (share, f"{tokens:,.0f} tokens" if tokens else "") if line]
    tiles.append(Tile("Steps", f"{summary.steps:,}", lines))
    spent = history.telemetry["train_wh"]
    train_wh = _finite(totals.get("train_wh")) or _finite(spent[-1] if len(spent) else None)
    if train_wh:
        lines = [f"Wh for training{modelled}", f"{summary.steps / train_wh:.2f} steps per Wh"]
        tiles.append(Tile("Energy", f"{train_wh:,.0f}", lines))
    lines = []
    if (orbits := _finite(totals.get("orbits"))) is not None:
        lines.append(f"{orbits:.1f} orbits, {count(int(number(totals.get('eclipses', 0))), 'eclipse')}")
    lines.append(f"{duration(summary.wall_s)} of this computer's time")
    tiles.append(Tile("Mission time", duration(_length_s(history)), lines))
    tiles.append(_lost(history))
    tiles.append(_use(history))
    sealed, quarantined = len(summary.sealed), summary.quarantined
    failed = sum(note.event["event"] == "save_failed" for note in history.notes)
    lines = [
        text
        for many, text in ((quarantined, f"{quarantined} damaged, set aside"), (failed, f"{failed} saves failed"))
        if many
    ]
    seconds = history.seals["seconds"]
    if len(seconds) and np.isfinite(seconds).any():
        lines.append(f"{np.nanmedian(seconds):.2f} s to seal, longest {np.nanmax(seconds):.2f} s")
    tiles.append(Tile("Checkpoints sealed", f"{sealed:,}", lines, "bad" if quarantined or failed else ""))
    tiles += _margins(material)
    return tiles


def _lost(history: History) -> Tile:
    outages = [gap for gap in history.gaps if gap.ending is None]
    stops = len(history.gaps) - len(outages)
    lost = history.lost_steps
    done = (history.last.step if history.last else 0) + lost
    lines = [f"in {count(len(outages), 'outage')} without notice" if outages else "no outage without notice"]
    if stops:
        lines.append(f"{count(stops, 'stop')} on notice or after a failure")
    if corruptions := int(np.nan_to_num(number(history.summary.totals.get("corruptions")))):
        lines.append(f"{count(corruptions, 'silent corruption')} found")
    if lost:
        lines.append(f"{_share(lost / done)} of all steps computed")
    return Tile("Steps lost, computed again", f"{lost:,}", lines, "warning" if lost else "")


def _use(history: History) -> Tile:
    spent: dict[str, float] = {}
    for start, end, mode in history.spans():
        spent[mode.name] = spent.get(mode.name, 0.0) + end - start
    total = sum(spent.values())
    if not total:
        return Tile("Time spent training", "unknown", [])
    said = {"RESTART": "starting", "OFF": "off, recharging or cooling", "DOWN": "not running"}
    lines = [f"{_share(seconds / total)} {said.get(name, name)}" for name, seconds in spent.items() if name != "TRAIN"]
    return Tile("Time spent training", _share(spent.get("TRAIN", 0.0) / total), lines)


def _margins(material: Material) -> list[Tile]:
    """How near the battery came to its floor and the plate to its limit."""
    telemetry, config, tiles = material.history.telemetry, material.config, []
    charge, charge_wh, plate_c = (telemetry[name] for name in ("charge", "charge_wh", "temperature_c"))
    if np.isfinite(charge).any():
        lowest, weight, lines = float(np.nanmin(charge)), "", []
        if config:
            cells = config.satellite.battery
            floor = 1.0 - cells.depth_of_discharge
            below = float(np.nanmin(charge_wh)) < cells.capacity_wh * floor
            weight, lines = ("bad" if below else ""), [f"floor {100 * floor:.0f} %" + (", passed" if below else "")]
        tiles.append(Tile("Lowest charge", f"{100 * lowest:.1f} %", lines, weight))
    if np.isfinite(plate_c).any():
        hottest, weight, lines = float(np.nanmax(plate_c)), "", []
        if config:
            limit_c = config.satellite.radiator.limit_c
            above = hottest > limit_c
            weight, lines = ("bad" if above else ""), [f"limit {limit_c:.0f} °C" + (", passed" if above else "")]
        tiles.append(Tile("Hottest plate", f"{hottest:.1f} °C", lines, weight))
    return tiles


# ================= charts =================


def _learning(history: History) -> Chart:
    validated, losses = history.validations, history.steps["loss"]
    legend = [
        ("faint", charts.BLUE, "training loss, lowest and highest"),
        ("solid", charts.BLUE, "training loss, mean"),
    ]
    said = []
    if len(losses):
        last = losses[-max(1, len(losses) // 20) :]
        if np.isfinite(losses).any() and np.isfinite(last).any():
            said.append(
                f"Training loss fell from {_first(losses):.2f} to {np.nanmean(last):.2f} (mean of its last 5 %)."
            )
    if len(validated):
        legend.append(("dot", charts.ORANGE, "validation loss, 95 %"))
        ends = [f"{validated['loss'][i]:.3f} at step {int(validated['step'][i]):,}" for i in (0, -1)]
        said.append(f"Validation loss: {ends[0]}" + (f", {ends[1]}." if len(validated) > 1 else "."))
    if _finite(history.summary.unigram_loss) is not None:
        legend.append(("dashed", charts.GREY, "unigram model"))
    if history.cooldown is not None:
        legend.append(("dotted", charts.GREY, "cooldown begins"))
        said.append(f"The learning rate falls from step {history.cooldown:,} on.")
    if any(gap.ending is None for gap in history.gaps):
        legend.append(("dashed", charts.RED, "outage"))
    return Chart(" ".join(said), legend)


def _mission(history: History, config: Config | None, unit: charts.Time) -> Chart:
    telemetry = history.telemetry
    said = []
    for name, label, form in (
        ("charge_wh", "Charge lay between", "{:.0f} and {:.0f} Wh"),
        ("temperature_c", "the plate between", "{:.1f} and {:.1f} °C"),
    ):
        values = telemetry[name]
        if np.isfinite(values).any():
            said.append(f"{label} {form.format(np.nanmin(values), np.nanmax(values))}")
    sentence = f"{', '.join(said)}. " if said else ""
    outages = sum(gap.ending is None for gap in history.gaps)
    sentence += f"{count(len(history.seals), 'save')} and {count(outages, 'outage')} are marked."
    legend = [("solid", charts.BLUE, "charge"), ("solid", charts.ORANGE, "plate")]
    if config:
        legend.append(("dotted", charts.RED, "floor and limit"))
    legend += [
        ("shade", charts.GREY, "eclipse"),
        ("box", charts.YELLOW, "sunlight"),
        ("box", charts.GREEN, "training"),
        ("box", charts.PURPLE, "starting"),
        ("box", charts.GREY, "off"),
        ("solid", charts.BLUE, "save"),
    ]
    if any(mode.name == "DOWN" for mode in history.modes):
        legend.append(("box", charts.RED, "not running"))
    if outages:
        legend.append(("dashed", charts.RED, "outage"))
    return Chart(sentence, legend, unit.name)


def _plan_chart(material: Material, unit: charts.Time) -> Chart:
    steps = material.history.last.step if material.history.last else 0
    legend = [("solid", charts.GREEN, "steps done")]
    planned = _finite(material.expected.get("steps"))
    said = f"{count(steps, 'step')} done in {duration(_length_s(material.history))}"
    if planned:
        legend.insert(0, ("dashed", charts.GREY, "planned before launch (straight from beginning to end)"))
        said += f"; {planned:,.0f} in {duration(material.expected.get('end_s', math.nan))} were planned before launch"
    if len(material.history.plans):
        legend.append(("solid", charts.ORANGE, "planned, as corrected in flight"))
    return Chart(f"{said}.", legend, unit.name)


# ================= tables =================


def _validations(history: History) -> Table:
    names = ("step", "mission_s", "loss", "standard_error", "bits_per_byte")
    step, mission_s, loss, error, bits = (history.validations[name] for name in names)
    rows = [
        [f"{step[i]:,.0f}", duration(mission_s[i]), _figure(loss[i], 4), _figure(error[i], 4), _figure(bits[i], 4)]
        for i in _thin(len(step))
    ]
    heads = ["Step", "Mission time", "Loss, nats per token", "Standard error", "Bits per byte"]
    return Table(_titled("Every validation", len(step)), heads, rows)


def _days(history: History, unit: charts.Time) -> Table:
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


def _planned(material: Material) -> Table:
    """Figures of plan.json beside what came of them."""
    history, expected = material.history, material.expected
    totals, steps = history.summary.totals, history.last.step if history.last else 0
    spent = history.telemetry["train_wh"]
    starts = sum(mode.name == "RESTART" for mode in history.modes)
    actual = {
        "steps": float(steps),
        "tokens": float(steps * material.config.tokens_per_step) if material.config else number(totals.get("tokens")),
        "train_wh": number(totals.get("train_wh", spent[-1] if len(spent) else math.nan)),
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


def _checkpoints_words(material: Material) -> str:
    sealed, present = len(material.history.summary.sealed), material.present
    here = "their directory is not here" if present is None else f"{count(len(present), 'checkpoint')} still here"
    said = f"{count(sealed, 'checkpoint')} sealed, {here}. Whether each is whole is for train.py verify to say."
    if sealed and np.isfinite(seconds := material.history.seals["seconds"]).any():
        blocked_s, sealing_s = np.nansum(material.history.seals["blocking_s"]), np.nansum(seconds)
        said += (
            f" Saves held training up for {duration(float(blocked_s))} in all; {duration(float(sealing_s))} of sealing"
        )
        said += " went on beside it."
    return said


def _checkpoints(material: Material) -> Table:
    history, present = material.history, material.present or []
    names = ("checkpoint", "mission_s", "wall", "bytes", "seconds", "blocking_s")
    step, mission_s, wall, weight, seconds, blocking = (history.seals[name][::-1] for name in names)
    rows = []
    for i in range(min(len(step), _MOST_ROWS // 2)):
        number_ = int(step[i])
        if number_ in present:
            state = "here"
        elif number_ in history.quarantined:
            state = "damaged, set aside"
        else:
            state = "thinned out" if number_ in history.deleted else "not here"
        bytes_ = size(weight[i]) if math.isfinite(weight[i]) else "–"
        times = [f"{_figure(seconds[i], 2)} s", f"{_figure(1000 * blocking[i], 0)} ms"]
        rows.append([f"{number_:,}", duration(mission_s[i]), state, bytes_, *times, utc(wall[i])])
    title = "Every seal" if len(rows) == len(step) else f"The newest {len(rows)} of {len(step):,} seals"
    return Table(title, ["Step", "Mission time", "Now", "Size", "To seal", "Training held up", "Sealed at"], rows)


def _notes(material: Material) -> list[str]:
    lines = f"Made {utc(material.now_wall)} from {count(material.lines, 'line')} of ledger.jsonl"
    if material.damaged:
        lines += f"; {count(material.damaged, 'line')} damaged and passed over"
    notes = [f"{lines}. What an outage took back and was computed again is shown once, as it was in the end."]
    if material.config is None:
        notes.append("config.yaml is missing or not whole: limits and tokens are left out.")
    elif _modelled(material.config):
        notes.append("Charge, temperature and energy are modelled, not measured: the clock is simulated.")
    elif material.config.telemetry.source == "simulated":
        notes.append("Time is real; charge, temperature and energy are modelled beside it.")
    return notes


# ================= small things =================


def _modelled(config: Config | None) -> bool:
    """Whether energy is a model's figure: it is, but where charge is measured."""
    return config is None or config.telemetry.source == "simulated"


def _length_s(history: History) -> float:
    return history.last.mission_s - history.modes[0].start_s if history.last and history.modes else 0.0


def _finite(value: Any) -> float | None:
    found = number(value)
    return found if math.isfinite(found) else None


def _first(values: np.ndarray) -> float:
    return float(values[np.isfinite(values)][0])


def _share(part: float) -> str:
    return f"{100 * part:.0f} %" if part >= 0.1 or not part else f"{100 * part:.1f} %"


def _figure(value: float, digits: int) -> str:
    return f"{value:,.{digits}f}" if math.isfinite(value) else "–"


def _thin(rows: int) -> list[int]:
    """At most _MOST_ROWS row numbers, evenly, the last among them."""
    if rows <= _MOST_ROWS:
        return list(range(rows))
    return np.unique(np.linspace(0, rows - 1, _MOST_ROWS).astype(int)).tolist()


def _titled(title: str, rows: int) -> str:
    return title if rows <= _MOST_ROWS else f"{title}, {_MOST_ROWS} of {rows:,}, evenly"
