"""What a person watches: one live line at a terminal, a plain line now and then anywhere else."""

import os
import sys
import time
from contextlib import suppress
from typing import Any, NamedTuple, TextIO

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
    charge: float | None  # state of charge; None while nothing has told it
    mode: str  # and why, where it is OFF
    next_save_s: float
    eta_s: float | None


class _Stderr:
    """Standard error until it cannot be written, then nothing: a run does not end because nobody reads of it any more.

    Below the console, for rich draws its live line in a thread of its own, and ends the process at a broken pipe.
    """

    def __init__(self, stream: TextIO):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except (OSError, UnicodeError):
            self._give_up()
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            self._give_up()

    def _give_up(self) -> None:
        """Whoever else in this process writes there finds room too; what is still buffered would fail at exit."""
        with suppress(OSError, ValueError):  # no descriptor, as in a notebook
            sink = os.open(os.devnull, os.O_WRONLY)
            os.dup2(sink, self._stream.fileno())
            os.close(sink)


class Display:
    """`show` is cheap enough to call after every piece of work. It never fails for want of a reader."""

    def __init__(self, quiet: bool = False, quiet_s: float = 0.0):
        """`quiet_s`: until the first plain line of `show`."""
        self._quiet = quiet or sys.stderr is None  # closed before the start
        self._console = Console(file=_Stderr(sys.stderr), stderr=True)  # type: ignore[arg-type]
        self._live = Live(console=self._console, refresh_per_second=8, transient=True) if self._terminal else None
        self._last_s = time.monotonic() + quiet_s - PLAIN_EVERY_S
        if self._live:
            self._live.start()

    @property
    def _terminal(self) -> bool:
        return not self._quiet and sys.stderr.isatty()

    def say(self, line: str) -> None:
        """A line that stays."""
        if not self._quiet:
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def show(self, seen: View | str) -> None:
        """What the next one replaces."""
        now = time.monotonic()
        if self._live:
            self._live.update(_line(seen))
        elif not self._quiet and now - self._last_s >= PLAIN_EVERY_S:
            self._console.print(_line(seen), soft_wrap=True)
            self._last_s = now

    def close(self) -> None:
        if self._live:
            self._live.stop()


def _line(v: View | str) -> Text:
    if isinstance(v, str):
        return Text(v)
    steps = f"step {v.step:,}" + (f"/{v.steps:,}" if v.steps else "")
    sky, style = ("sun", "yellow") if v.sunlit > 0.5 else ("shadow", "blue")
    parts = [
        (steps, "bold"),
        (f"loss {v.loss:.3f}" if v.loss is not None else "loss -", "green"),
        (f"{v.tokens_per_s:,.0f} tok/s", ""),
        (f"orbit {v.orbit}", ""),
        (sky, style),
        ("charge -", "red") if v.charge is None else (f"charge {v.charge:.0%}", "red" if v.charge < 0.75 else ""),
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
