"""What a person watches: one live line at a terminal, a plain line now and then anywhere else."""

import sys
import time
from typing import NamedTuple

from rich.console import Console
from rich.live import Live
from rich.text import Text

PLAIN_EVERY_S = 10.0


class View(NamedTuple):
    step: int
    steps: int | None  # in all, as far as known
    loss: float | None  # nats per token; None before the first step
    tokens_per_s: float
    orbit: int
    sunlit: float  # visible share of the Sun's disk
    charge: float  # state of charge
    mode: str
    next_save_s: float
    eta_s: float | None


class Display:
    """`show` is cheap enough to call after every piece of work."""

    def __init__(self, quiet: bool = False):
        self._quiet = quiet
        self._console = Console(stderr=True)
        self._live = Live(console=self._console, refresh_per_second=8, transient=True) if self._terminal else None
        self._last_s = 0.0
        if self._live:
            self._live.start()

    @property
    def _terminal(self) -> bool:
        return sys.stderr.isatty() and not self._quiet

    def say(self, line: str) -> None:
        """A line that stays."""
        if not self._quiet:
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def show(self, view: View) -> None:
        now = time.monotonic()
        if self._live:
            self._live.update(_line(view))
        elif not self._quiet and now - self._last_s >= PLAIN_EVERY_S:
            self._console.print(_line(view), soft_wrap=True)
            self._last_s = now

    def close(self) -> None:
        if self._live:
            self._live.stop()


def _line(v: View) -> Text:
    steps = f"step {v.step:,}" + (f"/{v.steps:,}" if v.steps else "")
    sky, style = ("sun", "yellow") if v.sunlit > 0.5 else ("shadow", "blue")
    parts = [
        (steps, "bold"),
        (f"loss {v.loss:.3f}" if v.loss is not None else "loss -", "green"),
        (f"{v.tokens_per_s:,.0f} tok/s", ""),
        (f"orbit {v.orbit}", ""),
        (sky, style),
        (f"charge {v.charge:.0%}", "red" if v.charge < 0.75 else ""),
        (v.mode, "" if v.mode == "TRAIN" else "dim"),
        (f"save in {clock(v.next_save_s)}", "dim"),
        (f"ETA {clock(v.eta_s)}" if v.eta_s is not None else "ETA -", ""),
    ]
    return Text("  ").join(Text(text, style=style) for text, style in parts)


def clock(seconds: float) -> str:
    """1:02:03 or 2:03."""
    whole = max(0, round(seconds))
    minutes = f"{whole // 60 % 60:02d}:{whole % 60:02d}"
    return f"{whole // 3600}:{minutes}" if whole >= 3600 else minutes.removeprefix("0")
