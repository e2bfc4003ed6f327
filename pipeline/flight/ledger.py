"""`ledger.jsonl`: what happened, one JSON object a line, append-only. Everything a report shows comes from it."""

import json
import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pipeline.config import RunFailed

EVENT_CHARACTERS = 40  # a line begins with its event
# Events after which the operator must be able to rely on the line, whatever happens to the power.
DURABLE = {"launch", "resume", "cooldown", "sealed", "quarantined", "corruption", "stopped", "done", "failed"}


class Ledger:
    """Appends events with mission time, wall time and step. A line is written whole or, after a power cut, ignored."""

    def __init__(self, path: Path):
        self.position: Callable[[], tuple[float, int]] = lambda: (0.0, 0)  # mission time [s] and step
        self._file = path.open("a", buffering=1, encoding="utf-8")
        if not _ends_in_newline(path):
            self._file.write("\n")  # what a power cut left of the last line must not swallow the next one

    def append(self, event: str, **fields: Any) -> None:
        mission_s, step = self.position()
        fields = {name: None if _not_finite(value) else value for name, value in fields.items()}
        line = {"event": event, "mission_s": round(mission_s, 3), "step": step, "wall": round(time.time(), 3)} | fields
        self._file.write(json.dumps(line) + "\n")
        if event in DURABLE:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def recall(path: Path, *events: str) -> tuple[dict[str, dict[str, Any]], dict[str, Any] | None]:
    """The last of each of `events`, and the last line of all: what a resume asks. 0.2 s for half a million lines.

    Raises:
        RunFailed: a line of one of them is damaged: a decision that binds must not be taken a second time.
    """
    found: dict[str, dict[str, Any]] = {}
    last: dict[str, Any] | None = None
    tail: deque[str] = deque(maxlen=100)
    if not path.exists():
        return found, last
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            tail.append(line)
            if not line.rstrip("\n").endswith("}"):
                continue  # torn by a power cut: it was not acted on, for that waits until the line is on the disk
            for event in events:
                if event in line[:EVENT_CHARACTERS]:
                    if (parsed := _parse(line)) is None:
                        raise RunFailed(
                            f"{path}: line {number} ({event}) is damaged; mend it, or restore a copy of the ledger"
                        )
                    found[event] = parsed
    for line in reversed(tail):
        if last := _parse(line):
            break
    return found, last


def _parse(line: str) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and {"event", "step", "mission_s"} <= event.keys() else None


def _not_finite(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)  # which JSON cannot say


def _ends_in_newline(path: Path) -> bool:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 1, 0))
        return file.read(1) in (b"\n", b"")


def read_ledger(path: Path) -> Iterator[dict[str, Any]]:
    """Events in the order written. Lines torn by a power cut are passed over; a missing file has no events."""
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if event := _parse(line):
                yield event
