"""What a ledger says of a run, over all its launches."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

_TOTALS = ("tokens", "orbits", "eclipses", "train_wh", "lost_steps", "skipped")
# Only these tell that a launch was at work: the store looks over its copies before and after too.
AT_WORK = {
    *(
        "launch",
        "resume",
        "first_step",
        "step",
        "validation",
        "telemetry",
        "mode",
        "plan",
        "notice",
        "cooldown",
        "sealed",
        "save_failed",
    ),
    *("skipped", "spike", "corruption", "stopped", "done", "failed"),
}
ENDINGS = {"done": "done", "stopped": "stopped; the same command resumes", "failed": "failed"}


@dataclass
class Summary:
    """What the ledger says of a run, over all its launches. Totals are empty unless the last ended in good order."""

    ending: str | None = None  # done, stopped or failed; None while it runs, or when the power went
    steps: int = 0
    validation: dict[str, Any] | None = None  # the last one
    unigram_loss: float | None = None  # nats per token
    totals: dict[str, Any] = field(default_factory=dict)  # tokens, orbits, eclipses, train_wh, lost_steps, skipped
    sealed: set[int] = field(default_factory=set)  # steps
    quarantined: int = 0
    launches: int = 0
    mission_s: float = 0.0  # since the first word of a launch
    wall_s: float = 0.0  # while a launch was running
    _last_wall: float = 0.0
    _begun_s: float | None = None  # mission time of that, by the clock as set now

    def add(self, event: dict[str, Any]) -> None:
        """One more event, in the order of the ledger."""
        kind = event["event"]
        if kind in ("launch", "resume"):
            self.launches += 1
            self.totals = {}  # those of an earlier launch no longer hold
            self.unigram_loss = event.get("unigram_loss")
            self.ending, self._last_wall = None, event["wall"]
        elif kind in AT_WORK and self.launches:
            self.wall_s += max(0.0, event["wall"] - self._last_wall)
            self.ending, self._last_wall = kind if kind in ENDINGS else None, event["wall"]
        if self._begun_s is None and kind in AT_WORK:
            self._begun_s = event["mission_s"]
        if self._begun_s is not None:
            self._begun_s += event["seconds"] if kind == "clock_set" else 0.0
            self.mission_s = event["mission_s"] - self._begun_s
        self.steps = event["step"]
        if kind in ("launch", "resume", *ENDINGS):
            self.totals |= {key: event[key] for key in _TOTALS if key in event}
        elif kind == "validation":
            self.validation = event
        elif kind == "sealed":
            self.sealed.add(event["checkpoint"])
        elif kind == "quarantined":
            self.quarantined += 1


def summarise(events: Iterable[dict[str, Any]]) -> Summary:
    """One pass over a ledger."""
    summary = Summary()
    for event in events:
        summary.add(event)
    return summary
