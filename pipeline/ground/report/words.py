"""A run in words: how it stands, and what happened to it that an operator should know."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np

from pipeline.flight.notices import SAFE
from pipeline.ground.history import Gap, History, Note
from pipeline.ground.tail import number

FRESH_S = 300.0  # a run that wrote within this time is taken to be under way
_LONGEST = 300  # characters of what a ledger says
_SHOWN = 20  # of one kind of event
_KEYS = 8  # of a configuration that was changed
# What goes on all the time, and is no news one by one.
_ROUTINE = {"scrubbed", "mirrored", "mirror_opened"}
# What is serious although its name does not say that something failed.
_SERIOUS = {"corruption", "mirror_shares_device"}


class Incident(NamedTuple):
    """One line of the log. `weight`: good, info, warning or bad."""

    mission_s: float
    wall: float
    step: int
    weight: str
    text: str


class Standing(NamedTuple):
    """How the run stands. `weight` as of an incident."""

    name: str
    weight: str
    text: str


def standing(history: History, now_wall: float) -> Standing:
    """How the run stands, at `now_wall` [s since 1970]."""
    last = history.last
    if last is None:
        return Standing("No launch", "warning", "The ledger has no launch that can be read.")
    ending = history.summary.ending
    if ending == "done":
        return Standing("Done", "good", _account(history))
    if ending == "failed":
        reason = next(
            (note.event.get("reason") for note in reversed(history.notes) if note.event["event"] == "failed"), ""
        )
        return Standing("Failed", "bad", f"Failed at step {last.step:,}: {clip(reason)}")
    if ending == "stopped":
        return Standing(
            "Stopped", "info", f"Stopped on notice at step {last.step:,}, sealed; the same command resumes it."
        )
    ahead_s = last.wall - now_wall
    if ahead_s > FRESH_S:
        return Standing(
            "Clocks disagree",
            "warning",
            f"The ledger ends at step {last.step:,}, {duration(ahead_s)} ahead of this computer's clock: one of the "
            "two clocks is wrong, and whether the run is under way cannot be told.",
        )
    if ahead_s > -FRESH_S:
        return Standing("Under way", "info", f"Under way, at step {last.step:,}.")
    return Standing(
        "Cut short",
        "warning",
        f"The ledger ends at step {last.step:,} without a word: the power went, or a newer part of it has not come "
        "down. The same command resumes the run from its last sealed checkpoint.",
    )


def _account(history: History) -> str:
    """What was done, what it cost and what was lost, in two sentences; a third where the cooldown was cut short."""
    totals = history.summary.totals
    orbits, wh = number(totals.get("orbits")), number(totals.get("train_wh"))
    where = f" in {orbits:.1f} orbits" if math.isfinite(orbits) else ""
    cost = f" for {wh:,.0f} Wh of training" if math.isfinite(wh) else ""
    said = f"All that was budgeted is done: {count(history.summary.steps, 'step')}{where}{cost}. "
    hindered = [
        count(many, what)
        for many, what in ((len(history.gaps), "interruption"), (_corruptions(history), "corruption"))
        if many
    ]
    short = _short(history)
    if not hindered:
        return f"{said}Nothing came in between.{short}"
    lost = f"cost {count(history.lost_steps, 'step')}, computed again" if history.lost_steps else "cost no step"
    return f"{said}{listed(hindered)} {lost}" + (f".{short}" if short else "; nothing is missing.")


def _short(history: History) -> str:
    """The sentence about a budget that ended before the learning rate was zero; none where it was."""
    missing = (history.cooldown_end or 0) - history.step
    if missing <= 0:
        return ""
    rate = history.steps["rate"][-1] if len(history.steps) else math.nan
    fallen = f", which had fallen to {100.0 * rate:.3g} % of its peak" if math.isfinite(rate) else ""
    return f" The budget ended {count(missing, 'step')} short of a learning rate of zero{fallen}."


def _corruptions(history: History) -> int:
    return sum(note.event["event"] == "corruption" for note in history.notes)


def incidents(history: History) -> tuple[list[Incident], dict[str, int]]:
    """What happened, in order; and how many more of each kind of event are only counted."""
    told = [(note.event["event"], told) for note in history.notes if (told := _tell(note))]
    totals, seen = Counter(kind for kind, _ in told), Counter[str]()
    shown, more = [], Counter[str]()
    for kind, incident in told:
        seen[kind] += 1
        # The first and the last ones: how it began, and what it is now.
        if kind in _ALWAYS or seen[kind] <= _SHOWN // 2 or seen[kind] > totals[kind] - _SHOWN // 2:
            shown.append(incident)
        else:
            more[kind] += 1
    if history.notes_left_out:
        more["event"] += history.notes_left_out
    return shown, {spaced(kind): many for kind, many in more.items()}


_ALWAYS = {"done", "failed", "cooldown"}


def _tell(note: Note) -> Incident | None:
    kind = note.event["event"]
    known = _WORDS.get(kind)
    told = known(note.event, note.gap) if known else _unknown(note.event)
    return Incident(*note.at, *told) if told else None


_Told = tuple[str, str] | None


def _launch(event: dict[str, Any], gap: Gap | None) -> _Told:
    millions, device = number(event.get("parameters")) / 1e6, clip(event.get("device", "an unknown device"))
    about = f"{millions:.2f} M parameters on {device}" if math.isfinite(millions) else device
    return ("info", f"Launched: {about}") if gap is None else _resume(event, gap)


def _resume(event: dict[str, Any], gap: Gap | None) -> _Told:
    weight, text = _went_on(event["step"], gap)
    if (found := event.get("config_found")) in ("damaged", "lost"):
        weight, text = "warning", f"{text}; config.yaml was {found}, and made anew"
    if (found := event.get("tokenizer_found")) in ("damaged", "lost"):
        weight, text = "warning", f"{text}; tokenizer.json was {found}"
    if isinstance(changed := event.get("changed"), dict) and changed:
        keys = [clip(key) for key in changed][:_KEYS]
        more = len(changed) - len(keys) + int(np.nan_to_num(number(event.get("changed_more"))))
        text = f"{text}; with other {listed([*keys, f'{more:,} more'] if more else keys)}"
    return weight, text


def _went_on(step: int, gap: Gap | None) -> tuple[str, str]:
    if gap is None:
        return "info", f"Went on from step {step:,}; what came before is not in this ledger"
    again = f"{count(gap.lost_steps, 'step')} computed again" if gap.lost_steps else "nothing lost"
    # On a simulated clock a satellite is dark for hours while this computer takes seconds.
    away = duration(max(gap.after.wall - gap.before.wall, gap.after.mission_s - gap.before.mission_s))
    if gap.ending == "stopped":
        return "info", f"Resumed at step {step:,} after a stop of {away}; {again}"
    if gap.ending == "done":
        return "info", f"Launched again at step {step:,}, though it was done"
    if gap.ending == "failed":
        return "warning", f"Resumed at step {step:,}, {away} after a failure; {again}"
    lost = f"Outage without notice at step {gap.before.step:,}"
    return "warning", f"{lost}: resumed from step {step:,} after {away}; {again}"


def _mode(event: dict[str, Any], _: Gap | None) -> _Told:
    reason = clip(str(event.get("reason", "")).removeprefix(SAFE).lstrip(": "))
    return "bad", f"Watchdog switched the GPU off: {reason}"


def _cooldown(event: dict[str, Any], _: Gap | None) -> _Told:
    return "info", f"The learning rate begins to fall; it is to reach zero at step {int(event['end']):,}"


def _failed(what: str, weight: str) -> Callable[[dict[str, Any], Gap | None], _Told]:
    def tell(event: dict[str, Any], _: Gap | None) -> _Told:
        where = " on the second device" if event.get("place") == "mirror" else ""
        about = what.format(f"{clip(event.get('checkpoint', '?'))}{where}")
        return weight, f"{about}: {clip(event.get('reason', 'no reason given'))}"

    return tell


def _skipped(event: dict[str, Any], _: Gap | None) -> _Told:
    return "warning", f"Updates skipped, because loss or gradient was not finite: {clip(event.get('steps', '?'))}"


def _corruption(event: dict[str, Any], _: Gap | None) -> _Told:
    found_by, reason = clip(event.get("found_by", "unknown")), clip(event.get("reason", "no reason given"))
    return "warning", f"Silent corruption, found by {found_by}: {reason}"


def _repaired(event: dict[str, Any], _: Gap | None) -> _Told:
    return "good", f"Checkpoint {clip(event.get('checkpoint', '?'))} made whole again from the copy on the other device"


def _notice(event: dict[str, Any], _: Gap | None) -> _Told:
    """One comes before every planned pause. Only that it was not heeded is news."""
    if event.get("sealed") is not False:
        return None
    kind, seconds = clip(event.get("kind", "unknown")), number(event.get("seconds_left"))
    return "bad", f"Notice {kind}, {seconds:.0f} s left: the state could not be sealed in time"


def _stopped(event: dict[str, Any], _: Gap | None) -> _Told:
    return "info", f"Stopped on notice ({clip(event.get('notice', 'unknown'))}), the state sealed"


def _done(event: dict[str, Any], _: Gap | None) -> _Told:
    return "good", f"Done: the budget is spent ({clip(event.get('spent', 'unknown'))})"


def _unknown(event: dict[str, Any]) -> _Told:
    """An event of a part that this report does not know by name."""
    if event["event"] in _ROUTINE:
        return None
    fields = {key: value for key, value in event.items() if key not in ("event", "mission_s", "step", "wall")}
    said = ", ".join(f"{spaced(key)} {value}" for key, value in fields.items())
    serious = event["event"] in _SERIOUS or "fail" in event["event"]
    return "warning" if serious else "info", clip(f"{spaced(event['event']).capitalize()}{': ' if said else ''}{said}")


def _clock_set(event: dict[str, Any], _: Gap | None) -> _Told:
    seconds = number(event.get("seconds"))
    way = "forward" if seconds > 0.0 else "back"
    return (
        "warning",
        f"The clock was set {way} by {duration(abs(seconds))}; mission times before it are by the new clock",
    )


_WORDS: dict[str, Callable[[dict[str, Any], Gap | None], _Told]] = {
    "launch": _launch,
    "resume": _resume,
    "mode": _mode,
    "cooldown": _cooldown,
    "clock_set": _clock_set,
    "save_failed": _failed("Checkpoint {} could not be saved", "bad"),
    "delete_failed": _failed("Checkpoint {} could not be deleted", "warning"),
    "quarantined": _failed("Checkpoint {} was damaged, and set aside", "bad"),
    "skipped": _skipped,
    "spike": lambda event, _: (
        "info",
        f"Stood out, and was the same when computed again: {clip(event.get('reason', ''))}",
    ),
    "corruption": _corruption,
    "repaired": _repaired,
    "notice": _notice,
    "stopped": _stopped,
    "failed": lambda event, _: ("bad", f"Failed: {clip(event.get('reason', ''))}"),
    "done": _done,
}


def clip(value: Any) -> str:
    """What a ledger says, in one line of bounded length."""
    text = " ".join(str(value).split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def spaced(name: str) -> str:
    return name.replace("_", " ")


def count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """Two units that matter: 45 s, 3 min 20 s, 4 h 43 min, 12 d 5 h."""
    if not math.isfinite(seconds):
        return "an unknown time"
    seconds = max(0.0, seconds)
    if seconds < 9.95:
        return f"{seconds:.1f} s" if seconds else "0 s"
    whole = round(seconds)
    for unit_s, unit, below_s, below in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= unit_s:
            rest = whole % unit_s // below_s
            return f"{whole // unit_s:,} {unit}" + (f" {rest} {below}" if rest else "")
    return f"{whole} s"


def size(count_bytes: float) -> str:
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count_bytes >= scale:
            return f"{count_bytes / scale:.3g} {unit}"
    return f"{count_bytes:.0f} B"


def utc(wall: float) -> str:
    """A moment as 2026-07-26 14:03:09 UTC; what no calendar has is given as a number."""
    try:
        return datetime.fromtimestamp(wall, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return f"second {wall:g}"


def listed(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + f" and {items[-1]}"
