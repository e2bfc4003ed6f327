"""What all runs of a drill share."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.config import Config
from pipeline.drill.tally import Tally


@dataclass
class Undisturbed:
    """What the run told that nothing disturbed, and where it lies."""

    directory: Path = Path()
    last_step: int | None = None
    charge: list[tuple[float, float]] = field(default_factory=list)  # (mission time [s], state of charge)


@dataclass
class Setting:
    """Configuration and dice, and what one run tells the next."""

    config: Config
    arguments: Sequence[str]  # of `train.py run`, but for the places
    environment: Mapping[str, str]
    work: Path  # logs, and what must outlive a disk
    tally: Tally
    dice: random.Random
    lengths_s: dict[str, float] = field(default_factory=dict)  # of phases, as last seen
    aimed: Counter[str] = field(default_factory=Counter)  # outages aimed at each phase
    undisturbed: Undisturbed = field(default_factory=Undisturbed)
