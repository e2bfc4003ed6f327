"""How the verbs of the ground read their command line, and how they set JAX up."""

import argparse
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn, TypeVar

from pipeline.config import BadInput

Number = TypeVar("Number", int, float)


class Parser(argparse.ArgumentParser):
    """Raises BadInput, in one line, where argparse would print usage and exit."""

    def __init__(self, verb: str, about: str, of_run: bool = True):
        super().__init__(prog=f"train.py {verb}", description=about, allow_abbrev=False)
        if of_run:
            self.add_argument("run", type=Path, metavar="RUN", help="directory of a run")

    def error(self, message: str) -> NoReturn:
        raise BadInput(f"{message.removeprefix('argument ')}; `{self.prog} --help` lists every argument")

    def add_step(self) -> None:
        self.add_argument("--step", type=within(int, 0), help="a sealed step (default: the newest)")

    def add_json(self) -> None:
        self.add_argument("--json", action="store_true", help="one JSON object on standard output")


def within(
    kind: Callable[[str], Number], low: float, high: float = float("inf"), above: bool = False
) -> Callable[[str], Number]:
    """A type for `add_argument`: a number in [low, high], or in (low, high] if `above`."""

    def read(text: str) -> Number:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not low <= value <= high or (above and value == low):
            what = "a whole number" if kind is int else "a number"
            upper = "" if high == float("inf") else f", at most {high:g}"
            raise argparse.ArgumentTypeError(
                f"{text!r} is not {what} {'above' if above else 'of at least'} {low:g}{upper}"
            )
        return value

    return read


def say_passed_over(damaged: Mapping[int, str]) -> None:
    """Tells whoever named no step that a newer one than the one used is damaged."""
    for step, reason in damaged.items():
        print(f"step {step} is damaged and was passed over: {reason}", file=sys.stderr)


def set_up_jax() -> None:
    """Takes the device that JAX finds. Compiled programs go to the user's cache: a run directory is not written to."""
    from pipeline.flight.device import choose_device

    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    choose_device("auto", "xla", cache / "dayside" / "xla")
