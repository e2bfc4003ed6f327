"""What the page says, in figures and words; how it looks is the template's affair."""

import math
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from pipeline.config import BadInput, Config
from pipeline.ground.history import History
from pipeline.ground.report import charts, tables, words
from pipeline.ground.report.charts import DAY_S, HOUR_S
from pipeline.ground.report.material import Material, finite, keeps, modelled
from pipeline.ground.report.tiles import tiles
from pipeline.ground.report.words import count, duration, utc


class Chart(NamedTuple):
    words: str  # what is to be seen, for who cannot see it and who wants to know at once
    legend: list[tuple[str, str, str]]  # kind of mark, colour, name
    unit: str = ""


def gather(material: Material) -> dict[str, Any]:
    """Everything that the template asks for."""
    history, config = material.history, material.config
    unit = charts.time_unit(history.length_s)
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
        axes.append(("wh", "energy for training, Wh (modelled)" if modelled(config) else "energy for training, Wh"))
    spans = [(DAY_S / unit.seconds, "Last day", DAY_S), (3 * HOUR_S / unit.seconds, "Last 3 hours", 3 * HOUR_S)]
    return {
        "name": config.directory.name if config else material.directory.resolve().name,
        "standing": words.standing(history, material.now_wall),
        "subtitle": _subtitle(material),
        "sections": sections,
        "tiles": tiles(material),
        "unit": unit,
        "unigram_loss": finite(history.summary.unigram_loss),
        "charts": made,
        "axes": axes,
        # A month at once is a block of colour: it begins with its last day, and the rest is one button away.
        "first_span": DAY_S / unit.seconds if unit.seconds == DAY_S else None,
        "stretches": [(span, label) for span, label, seconds in spans if seconds < history.length_s],
        "validations": tables.validations(history),
        "days": tables.days(history, unit),
        "planned": tables.planned(material),
        "measured": tables.measured(history),
        "checkpoints_words": _checkpoints_words(material),
        "checkpoints": tables.checkpoints(material),
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


def _subtitle(material: Material) -> str:
    history, config, parts = material.history, material.config, []
    if config:
        clock = {"simulated": "simulated time", "real": "real time"}[config.mission.clock]
        parts.append(f"{config.satellite.name} with {config.gpu.name} on {config.orbit.name}, {clock}")
    if history.last:
        parts.append(f"last word {utc(history.last.wall)}")
    if material.begin_s:
        parts.append(f"mission time is counted from the first launch, {_beginning(material)}")
    return "; ".join(parts)


def _beginning(material: Material) -> str:
    """The moment from which the page counts, as mission time and, where the orbit is known, in UTC."""
    second = f"mission second {material.begin_s:,.0f}"
    if material.config is None:
        return second
    from pipeline.orbit import track  # where it is needed, which on a simulated clock is seldom

    with suppress(BadInput):  # elements that this version cannot read
        return f"{utc(track(material.config.orbit).utc(0.0).timestamp() + material.begin_s)} ({second})"
    return second


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
    if finite(history.summary.unigram_loss) is not None:
        legend.append(("dashed", charts.GREY, "unigram model"))
    if history.cooldown is not None:
        legend.append(("dotted", charts.GREY, "cooldown begins"))
        said.append(f"The learning rate falls from step {history.cooldown:,} on.")
    if history.outages:
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
    outages = len(history.outages)
    sentence += f"{count(len(history.seals), 'save')} and {count(outages, 'outage')} are marked."
    legend = [("solid", charts.BLUE, "charge"), ("solid", charts.ORANGE, "plate")]
    if any(np.isfinite(level).any() for level in keeps(history, config).values()):
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
    history = material.history
    legend = [("solid", charts.GREEN, "steps done")]
    planned = finite(material.expected.get("steps"))
    said = f"{count(history.step, 'step')} done in {duration(history.length_s)}"
    if planned:
        legend.insert(0, ("dashed", charts.GREY, "planned before launch (straight from beginning to end)"))
        planned_s = material.expected.get("end_s", math.nan) - history.begin_s
        said += f"; {planned:,.0f} in {duration(planned_s)} were planned before launch"
    if charts.planned_again(history):
        legend.append(("solid", charts.ORANGE, "planned, as corrected in flight"))
    return Chart(f"{said}.", legend, unit.name)


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


def _notes(material: Material) -> list[str]:
    lines = f"Made {utc(material.now_wall)} from {count(material.lines, 'line')} of ledger.jsonl"
    if material.damaged:
        lines += f"; {count(material.damaged, 'line')} damaged and passed over"
    notes = [f"{lines}. What an outage took back and was computed again is shown once, as it was in the end."]
    if material.config is None:
        notes.append("config.yaml is missing or not whole: what only it says is left out.")
    elif modelled(material.config):
        notes.append(
            "Time is real; charge, temperature and energy are modelled beside it."
            if material.config.mission.clock == "real"
            else "Charge, temperature and energy are modelled, not measured: the clock is simulated."
        )
    return notes


def _first(values: np.ndarray) -> float:
    return float(values[np.isfinite(values)][0])
