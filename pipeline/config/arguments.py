"""Command lines beside the configuration: errors in one line, and bounded numbers."""

import argparse
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from pipeline.config.errors import BadInput

Number = TypeVar("Number", int, float)


class Parser(argparse.ArgumentParser):
    """Raises BadInput, in one line, where argparse would print usage and exit."""

    def __init__(self, prog: str, hint: str | None = None, **about: Any):
        """`hint`: a command line that is right; null: the one that lists every argument."""
        super().__init__(prog=prog, allow_abbrev=False, **about)
        self._hint = f"`{hint}`" if hint else f"`{prog} --help` lists every argument"

    def error(self, message: str) -> NoReturn:
        raise BadInput(f"{message.removeprefix('argument ')}; {self._hint}")

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
