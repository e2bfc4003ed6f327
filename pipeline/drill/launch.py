"""One process of `train.py run`, started as a person starts it and watched from outside."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.config import RunFailed
from pipeline.flight import child
from pipeline.flight.ledger import parse

LOOK_S = 0.003  # between two looks
PATIENCE_S = 900.0  # nothing new for so long is a hang


class Launch:
    """`events` is what this process has written in the ledger, as far as `look` has read it."""

    def __init__(
        self,
        arguments: Sequence[str],
        ledger: Path,
        log: Path,
        environment: Mapping[str, str],
        on_event: Callable[[dict[str, Any]], None],
    ) -> None:
        self.events: list[dict[str, Any]] = []
        self.at: dict[str, int] = {}  # the step of the last event of each name
        self.log = log
        self._ledger, self._on_event = ledger, on_event
        self._offset = ledger.stat().st_size if ledger.exists() else 0
        self._log_offset = log.stat().st_size if log.exists() else 0
        self.began_s = time.monotonic()
        with log.open("ab") as errors:
            self.process = child.train(arguments, errors, environment)

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def look(self) -> bool:
        """Reads the whole lines that are new in the ledger; whether there were any."""
        try:
            with self._ledger.open("rb") as file:
                file.seek(self._offset)
                new = file.read()
        except OSError:  # not there yet, or its disk has been cut off
            return False
        whole = new[: new.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            # A damaged one is of an earlier launch, torn by a cut, and ended by this one.
            if event := parse(line.decode(errors="replace")):
                self.events.append(event)
                self.at[event["event"]] = event["step"]
                self._on_event(event)
        return bool(whole)

    def happened(self, event: str) -> bool:
        return event in self.at

    def said(self) -> str:
        """What it has written on its standard error."""
        with self.log.open("rb") as file:
            file.seek(self._log_offset)
            return file.read().decode(errors="replace")

    def wait(self, until: Callable[[], bool]) -> bool:
        """Looks until `until()`, which is true of what was seen; False if the process ended first.

        Raises:
            RunFailed: it neither ended nor wrote anything for a long time.
        """
        quiet_since = time.monotonic()
        while True:
            ended = not self.alive  # asked before the look: what it wrote last is then read too
            if self.look():
                quiet_since = time.monotonic()
            if until():
                return True
            if ended:
                return False
            if time.monotonic() - quiet_since > PATIENCE_S:
                raise RunFailed(f"a launch shows no sign of life for {PATIENCE_S:.0f} s; see {self.log}")
            time.sleep(LOOK_S)

    def kill(self) -> None:
        """SIGKILL: no handler runs, nothing is flushed. What it had written is read."""
        self.process.kill()
        self.process.wait()
        self.look()
