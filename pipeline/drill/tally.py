"""What the outages cost, counted; and whether nothing was lost."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Corruptions:
    """Damage done to files. Whatever was injected must be detected or harmless; some of it is repaired besides."""

    injected: int = 0
    detected: int = 0  # named by a check before anything was restored from it
    repaired: int = 0  # of the detected: whole again later, from another copy or saved anew
    harmless: int = 0  # the bytes are those that were sealed, or are gone unread


@dataclass
class Control:
    """The same outages on another way of saving, which must lose what it had acknowledged."""

    kind: str
    arm: str
    faults: int
    lost: int


@dataclass
class Tally:
    outages: int = 0
    resumed: int = 0
    runs: int = 0  # flown to the end
    identical: int = 0  # of these, to the bit of the run that nothing disturbed
    sealed_lost: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    phases: Counter[str] = field(default_factory=Counter)
    lost_steps: list[int] = field(default_factory=list)
    lost_seconds: list[float] = field(default_factory=list)
    restart_s: list[float] = field(default_factory=list)  # from exec to the first step, compiled programs kept
    restart_parts: list[dict[str, float]] = field(default_factory=list)
    refused: int = 0  # launches that rightly stopped, because all that they could go on from was damaged
    corruptions: Corruptions = field(default_factory=Corruptions)
    controls: list[Control] = field(default_factory=list)
    live: dict[str, Any] | None = None  # what became of flips in a live run, by target and kind of bits
    failures: list[str] = field(default_factory=list)

    @property
    def bit_identical(self) -> bool:
        return self.runs > 0 and self.identical == self.runs

    def well(self, wanted: int) -> bool:
        """Whether all `wanted` outages came, nothing was lost in them, and each control lost something."""
        damage = self.corruptions
        return (
            not self.failures
            and self.outages == self.resumed == wanted
            and self.bit_identical
            and self.sealed_lost == 0
            and damage.injected == damage.detected + damage.harmless
            and bool(self.controls)
            and all(control.lost > 0 for control in self.controls)
        )

    def as_json(self) -> dict[str, Any]:
        parts = {name for launch in self.restart_parts for name in launch}
        return {
            "outages": self.outages,
            "resumed": self.resumed,
            "bit_identical": self.bit_identical,
            "sealed_lost": self.sealed_lost,
            "lost_steps": _spread(self.lost_steps, 50, 99, 100),
            "lost_seconds": _spread(self.lost_seconds, 50, 99, 100),
            "restart_s": _spread(self.restart_s, 50, 99),
            "corruptions": vars(self.corruptions),
            "control": {
                "faults": sum(control.faults for control in self.controls),
                "lost": sum(control.lost for control in self.controls),
                "arms": [vars(control) for control in self.controls],
            },
            "runs": self.runs,
            "refused": self.refused,
            "kinds": dict(self.kinds),
            "phases": dict(self.phases),
            "restart_parts_s": {
                name: round(float(np.median([launch.get(name, 0.0) for launch in self.restart_parts])), 3)
                for name in sorted(parts)
            },
            "live": self.live,
            "failures": self.failures,
        }


def _spread(values: list[Any], *percentiles: int) -> dict[str, float | None]:
    """Percentiles: where one lies between two values, the higher of them; null of nothing."""
    names = {100: "max"}
    found = np.percentile(values, percentiles, method="higher") if values else [None] * len(percentiles)
    return {
        names.get(percentile, f"p{percentile}"): None if value is None else round(float(value), 3)
        for percentile, value in zip(percentiles, found, strict=True)
    }
