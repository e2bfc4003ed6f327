"""What a person sees at the end of a drill."""

from typing import Any

from rich.console import Console
from rich.table import Table


def show(answer: dict[str, Any]) -> None:
    """The closing table, and what failed."""
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in rows(answer):
        table.add_row(name, value)
    console = Console()
    console.print(table, highlight=False, markup=False)
    for failure in answer["failures"]:
        console.print(f"FAILED  {failure}", style="red", highlight=False, markup=False, soft_wrap=True)
    verdict = "nothing was lost" if answer["well"] else "the drill failed"
    console.print(verdict, style="bold green" if answer["well"] else "bold red")


def rows(answer: dict[str, Any]) -> list[tuple[str, str]]:
    """Names and values of the closing table."""
    lost, restart, damage = answer["lost_steps"], answer["restart_s"], answer["corruptions"]
    seconds = answer["lost_seconds"]
    made = [
        ("outages", f"{answer['outages']:,}  ({_counts(answer['kinds'])})"),
        ("resumed", f"{answer['resumed']:,}"),
        ("sealed steps lost", f"{answer['sealed_lost']:,}"),
        ("runs to the bit", f"{'all' if answer['bit_identical'] else 'NOT all'} of {answer['runs']}"),
        ("steps done again", _spread(lost, "", "")),
        ("training time lost", _spread(seconds, " s", ".1f")),
        ("restart to first step", _spread(restart, " s", ".1f")),
        ("of it", _counts(answer["restart_parts_s"], " s")),
        ("struck in", _counts(answer["phases"])),
    ]
    if damage["injected"]:
        what = ("detected", "repaired", "harmless")
        made.append(("corruptions", f"{damage['injected']:,}: " + ", ".join(f"{damage[w]:,} {w}" for w in what)))
        made.append(("rightly refused to start", f"{answer['refused']:,}"))
    for row in answer["live"]["table"] if answer["live"] else []:
        made.append((f"{row['target']}, {row['bits']}", f"{row['injected']:,}: " + _counts(_outcomes(row))))
    for arm in answer["control"]["arms"]:
        made.append((f"control, {arm['kind']}", f"{arm['arm']}: lost {arm['lost']} of {arm['faults']}"))
    return made


def _outcomes(row: dict[str, Any]) -> dict[str, int]:
    return {name: row[name] for name in ("detected", "repaired", "harmless", "missed", "crashed") if row[name]}


def _counts(counts: dict[str, Any], unit: str = "") -> str:
    return ", ".join(f"{name} {count:,}{unit}" for name, count in counts.items()) or "-"


def _spread(values: dict[str, float | None], unit: str, form: str) -> str:
    given = [(name, value) for name, value in values.items() if value is not None]
    return "  ".join(f"{name} {value:{form or ',.0f'}}{unit}" for name, value in given) or "-"
