"""`ledger.jsonl`: what happened, one JSON object a line, append-only. Everything a report shows comes from it.

The last key of a line is a CRC-32 of the text before it: a flipped bit in a figure would leave a line that parses.
"""

import json
import math
import os
import time
import zlib
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.checkpoint import durable
from pipeline.flight.appender import Appender

EVENT_CHARACTERS = 40  # a line begins with its event
# Events after which the operator must be able to rely on the line, whatever happens to the power.
DURABLE = {"launch", "resume", "cooldown", "sealed", "quarantined", "corruption", "stopped", "done", "failed"}
# Decisions that every later launch must follow, and what tells such a line when its name is what was damaged.
BINDING = {"cooldown": '"start": '}
CRC = ', "crc": "'


class Ledger:
    """Appends events with mission time, wall time and step. A line is written whole or, after a power cut, ignored.

    On a full disk the run goes on: lines wait in memory until there is room.
    """

    def __init__(self, path: Path):
        self.position: Callable[[], tuple[float, int]] = lambda: (0.0, 0)  # mission time [s] and step
        self.listener: Callable[[dict[str, Any]], None] = lambda line: None  # is told every line
        self._file = Appender(path)
        if not _ends_in_newline(path):
            self._file.write(b"\n")  # what a power cut left of the last line must not swallow the next one

    def append(self, event: str, **fields: Any) -> None:
        mission_s, step = self.position()
        fields = {name: None if _not_finite(value) else value for name, value in fields.items()}
        line = {"event": event, "mission_s": round(mission_s, 3), "step": step, "wall": round(time.time(), 3)} | fields
        self._file.write(_checked(json.dumps(line)))
        if event in DURABLE:
            self._file.sync()
        self.listener(line)

    def close(self) -> None:
        self._file.close()


class Recalled(NamedTuple):
    """What a resume asks of the ledger."""

    found: dict[str, dict[str, Any]]  # the last whole line of each event asked for, in their order
    last: dict[str, Any] | None  # the last whole line of all
    damaged: dict[str, int]  # binding events of which a line is damaged, and the number of that line


def recall(path: Path, *events: str) -> Recalled:
    """The last of each of `events`, and the last line of all. 0.2 s for half a million lines.

    Only lines that carry their checksum count: the steps that a run goes on with may rest on them.
    """
    found: dict[str, dict[str, Any]] = {}
    damaged: dict[str, int] = {}
    last: dict[str, Any] | None = None
    tail: deque[str] = deque(maxlen=100)
    if not path.exists():
        return Recalled(found, last, damaged)
    # A carriage return is no end of a line, but a "-" of which a bit has flipped.
    with durable.naming(path), path.open(encoding="utf-8", errors="replace", newline="\n") as lines:
        for number, line in enumerate(lines, 1):
            tail.append(line)
            head = line[:EVENT_CHARACTERS]
            for event in events:
                named = event in head
                if not named and (event not in BINDING or BINDING[event] not in line):
                    continue
                if parsed := parse(line):
                    if parsed["event"] == event:
                        found.pop(event, None)
                        found[event] = parsed
                elif event in BINDING and not _torn(line):
                    damaged[event] = number
    for line in reversed(tail):
        if last := parse(line):
            break
    return Recalled(found, last, damaged)


def _torn(line: str) -> bool:
    """Cut short by a power cut: it was not acted on, for that waits until the line is on the medium."""
    text = line.rstrip("\n")
    written = len(text) - text.rfind(CRC) - len(CRC) if CRC in text else 0
    return not text.endswith("}") and written < 10  # eight digits, quote, brace


def _checked(text: str) -> bytes:
    """The line of a JSON object, its checksum added as the last key."""
    body = text[:-1]
    return f'{body}{CRC}{zlib.crc32(body.encode()):08x}"}}\n'.encode()


def parse(line: str) -> dict[str, Any] | None:
    """The event, None if the line is damaged or carries no checksum."""
    body, mark, rest = line.rstrip("\n").rpartition(CRC)
    if not mark or rest != f'{zlib.crc32(body.encode()):08x}"}}':
        return None
    try:
        event = json.loads(line)
    except ValueError:
        return None
    if not isinstance(event, dict) or not {"event", "step", "mission_s"} <= event.keys():
        return None
    event.pop("crc", None)
    return event


def _not_finite(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)  # which JSON cannot say


def _ends_in_newline(path: Path) -> bool:
    with durable.naming(path), path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 1, 0))
        return file.read(1) in (b"\n", b"")
