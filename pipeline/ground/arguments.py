"""How the verbs of the ground read their command line, and how they set JAX up."""

import argparse
import math
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pipeline.config import Config
from pipeline.config.arguments import Parser

Step = int | Literal["best"] | None  # a sealed step, the one with the lowest validation loss, or the newest whole one


class RunParser(Parser):
    """Of a verb that looks at a run."""

    def __init__(self, verb: str, about: str):
        super().__init__(f"train.py {verb}", description=about)
        self.add_argument("run", type=usable_path, metavar="RUN", help="directory of a run")

    def add_step(self) -> None:
        self.add_argument("--step", type=a_step, help="a sealed step, or best (default: the newest)")


def a_step(text: str) -> Step:
    """A type for `add_argument`: `500` -> 500; `best` is that of the lowest validation loss."""
    if text != "best" and not (text.isdecimal() and len(text) < 20):
        raise argparse.ArgumentTypeError(f"{text!r:.100} is not a whole number, nor best")
    return "best" if text == "best" else int(text)


def usable_path(text: str) -> Path:
    """A type for `add_argument`: a path that can be looked for. One with too long a name cannot."""
    try:
        os.stat(text)
    except (FileNotFoundError, NotADirectoryError):
        pass  # it may be one to write; if not, whoever reads it says so
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise argparse.ArgumentTypeError(f"{text!r:.100}: {reason}; name another") from error
    return Path(text)


def finite(figures: Mapping[str, Any]) -> dict[str, Any]:
    """`figures` for `--json`: null where one is NaN or infinite, which JSON does not know."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in figures.items()
    }


def say_passed_over(damaged: Mapping[int, str]) -> None:
    """Tells whoever named no step that a newer one than the one used is damaged."""
    for step, reason in damaged.items():
        print(f"step {step} is damaged and was passed over: {reason}", file=sys.stderr)


def set_up_jax(config: Config | None = None) -> str:
    """Takes the device that JAX finds, or what `config` asks for; returns what it is.

    Compiled programs go to the user's cache: a run directory is not written to.
    """
    from pipeline.flight.device import choose_device

    if config is None:
        return choose_device("auto", "xla", user_cache() / "xla")
    return choose_device(config.train.device, config.model.attention, user_cache() / "xla", config.train.precision)


def user_cache() -> Path:
    """Where the ground keeps what can be made anew."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dayside"
