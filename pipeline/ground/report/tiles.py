"""The run at a glance: one figure a tile."""

import math
from typing import NamedTuple

import numpy as np

from pipeline.ground.history import History
from pipeline.ground.report.material import Column, Material, finite, keeps, modelled, train_wh
from pipeline.ground.report.words import count, duration
from pipeline.ground.tail import number


class Tile(NamedTuple):
    name: str
    value: str
    lines: list[str]
    weight: str = ""  # good, warning or bad


def tiles(material: Material) -> list[Tile]:
    history = material.history
    made = [_loss(history), _steps(material), _energy(material), _time(history), _lost(history), _use(history)]
    return [tile for tile in (*made, _checkpoints(history), *_margins(material)) if tile]


def _loss(history: History) -> Tile | None:
    if len(history.validations):
        loss, error = history.validations["loss"][-1], history.validations["standard_error"][-1]
        lines = [f"nats per token at step {int(history.validations['step'][-1]):,}"]
        if math.isfinite(bits := history.validations["bits_per_byte"][-1]):
            lines.append(f"{bits:.3f} bits per byte")
        if (unigram := finite(history.summary.unigram_loss)) is not None:
            lines.append(f"unigram model: {unigram:.3f}")
        spread = f" ± {error:.3f}" if math.isfinite(error) else ""
        learned = unigram is None or not math.isfinite(loss) or loss < unigram
        return Tile("Validation loss", f"{loss:.3f}{spread}", lines, "" if learned else "bad")
    if len(history.steps):
        return Tile("Training loss", f"{history.steps['loss'][-1]:.3f}", ["nats per token; not validated yet"])
    return None


def _steps(material: Material) -> Tile:
    steps, totals = material.history.summary.steps, material.history.summary.totals
    planned = finite(material.expected.get("steps"))
    share = f"{100 * steps / planned:.1f} % of the {planned:,.0f} planned" if planned else ""
    tokens = steps * material.config.tokens_per_step if material.config else finite(totals.get("tokens"))
    lines = [line for line in (share, f"{tokens:,.0f} tokens" if tokens else "") if line]
    return Tile("Steps", f"{steps:,}", lines)


def _energy(material: Material) -> Tile | None:
    spent_wh = train_wh(material.history)
    if not spent_wh > 0.0:
        return None
    source = " (modelled)" if modelled(material.config) else ""
    lines = [f"Wh for training{source}", f"{material.history.summary.steps / spent_wh:.2f} steps per Wh"]
    return Tile("Energy", f"{spent_wh:,.0f}", lines)


def _time(history: History) -> Tile:
    summary, lines = history.summary, []
    if (orbits := finite(summary.totals.get("orbits"))) is not None:
        lines.append(f"{orbits:.1f} orbits, {count(int(finite(summary.totals.get('eclipses')) or 0), 'eclipse')}")
    lines.append(f"{duration(summary.wall_s)} of this computer's time")
    return Tile("Mission time", duration(history.length_s), lines)


def _lost(history: History) -> Tile:
    outages = len(history.outages)
    stops = len(history.gaps) - outages
    lost = history.lost_steps
    lines = [f"in {count(outages, 'outage')} without notice" if outages else "no outage without notice"]
    if stops:
        lines.append(f"{count(stops, 'stop')} on notice or after a failure")
    if corruptions := int(np.nan_to_num(number(history.summary.totals.get("corruptions")))):
        lines.append(f"{count(corruptions, 'silent corruption')} found")
    if lost:
        lines.append(f"{_share(lost / (history.step + lost))} of all steps computed")
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


def _checkpoints(history: History) -> Tile:
    sealed, quarantined = len(history.summary.sealed), history.summary.quarantined
    failed = sum(note.event["event"] == "save_failed" for note in history.notes)
    said = (quarantined, f"{quarantined} damaged, set aside"), (failed, f"{failed} saves failed")
    lines = [text for many, text in said if many]
    seconds = history.seals["seconds"]
    if len(seconds) and np.isfinite(seconds).any():
        lines.append(f"{np.nanmedian(seconds):.2f} s to seal, longest {np.nanmax(seconds):.2f} s")
    return Tile("Checkpoints sealed", f"{sealed:,}", lines, "bad" if quarantined or failed else "")


def _margins(material: Material) -> list[Tile]:
    """How near the battery came to its floor and the plate to its limit."""
    telemetry, made = material.history.telemetry, []
    kept = keeps(material.history, material.config)
    charge, charge_wh, plate_c = (telemetry[name] for name in ("charge", "charge_wh", "temperature_c"))
    if np.isfinite(charge).any():
        floor = 100.0 * kept["floor_wh"] / kept["capacity_wh"]
        line, weight = _kept("floor", "%", floor, 100.0 * charge, charge_wh - kept["floor_wh"])
        made.append(Tile("Lowest charge", f"{100 * np.nanmin(charge):.1f} %", line, weight))
    if np.isfinite(plate_c).any():
        line, weight = _kept("limit", "°C", kept["limit_c"], plate_c, kept["limit_c"] - plate_c)
        made.append(Tile("Hottest plate", f"{np.nanmax(plate_c):.1f} °C", line, weight))
    return made


def _kept(name: str, unit: str, bound: Column, reading: Column, margin: Column) -> tuple[list[str], str]:
    """The line about a bound, which may be another in each launch, and the weight of a tile; `margin` is below 0 where
    the reading has passed the bound of its own launch."""
    if not np.isfinite(margin).any():
        return [], ""
    worst, lowest, highest = int(np.nanargmin(margin)), np.nanmin(bound), np.nanmax(bound)
    passed = margin[worst] < 0.0
    if f"{lowest:.0f}" == f"{highest:.0f}":
        return [f"{name} {highest:.0f} {unit}{', passed' if passed else ''}"], "bad" if passed else ""
    lines = [f"{name} {lowest:.0f} to {highest:.0f} {unit}, by launch"]
    if passed:
        lines.append(f"passed: {reading[worst]:.1f} {unit} where it was {bound[worst]:.0f} {unit}")
    return lines, "bad" if passed else ""


def _share(part: float) -> str:
    return f"{100 * part:.0f} %" if part >= 0.1 or not part else f"{100 * part:.1f} %"
