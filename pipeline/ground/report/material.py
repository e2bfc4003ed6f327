"""What there is to report on, and what is read off it in several places."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from pipeline.config import Config
from pipeline.ground.history import KEEPS, History
from pipeline.ground.tail import number

Column = Float[np.ndarray, " rows"]


@dataclass
class Material:
    """What there is to report on."""

    directory: Path
    history: History  # since the run's beginning, as all times of the page are
    lines: int  # of the ledger
    damaged: int  # of them
    begin_s: float = 0.0  # mission time of that beginning
    config: Config | None = None  # null: config.yaml did not come down, or is not whole
    expected: dict[str, float] = field(default_factory=dict)  # the figures of plan.json
    present: list[int] | None = None  # sealed steps in the directory; null: there is none
    samples: list[dict[str, str]] = field(default_factory=list)  # step, prompt, text
    samples_words: str = ""  # why there are none
    now_wall: float = 0.0  # when the report is made [s since 1970]


def modelled(config: Config | None) -> bool:
    """Whether energy is a model's figure: it is, but where charge is measured."""
    return config is None or config.telemetry.source == "simulated"


def keeps(history: History, config: Config | None) -> dict[str, Column]:
    """What the satellite had to keep at each reading: `capacity_wh`, `floor_wh` and `limit_c`.

    As the ledger has it of that launch; where it is of a version that did not say, as the configuration has it; NaN
    without one.
    """
    now = config.satellite.keeps if config else {}
    found = {name: history.telemetry[name] for name in KEEPS}
    return {name: np.where(np.isfinite(said), said, now.get(name, math.nan)) for name, said in found.items()}


def train_wh(history: History) -> float:
    """Energy spent on training [Wh]: as the run ended, else of its last reading; NaN where the ledger says neither."""
    if (told := finite(history.summary.totals.get("train_wh"))) is not None:
        return told
    spent = history.telemetry["train_wh"]
    read = spent[np.isfinite(spent)]
    return float(read[-1]) if len(read) else math.nan


def finite(value: Any) -> float | None:
    found = number(value)
    return found if math.isfinite(found) else None
