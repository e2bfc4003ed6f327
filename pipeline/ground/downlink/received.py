"""What the ground holds: `received.json`, which `unpack` writes and which goes up to be read by the next `pack`."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.config import BadInput
from pipeline.ground.downlink.chunk import Moment, Version, moment, version, whole

NAME = "received.json"
_FORMAT = 1
_LARGEST = 16 << 20  # bytes
_AROUND = 100  # bytes around the lines of files
_STEPS = ("checkpoints/", "weights/")

Span = tuple[int, int]  # first byte, and the one after the last


@dataclass
class Received:
    """Files by their path: those that are whole, and of the newest version of others the bytes that came."""

    whole: dict[str, tuple[Version, Moment]] = field(default_factory=dict)  # and `at` of its chunks
    parts: dict[str, tuple[Version, list[Span]]] = field(default_factory=dict)

    @property
    def latest(self) -> int:
        """Ledger bytes of the latest moment of what is whole; -1: nothing is."""
        return max((ledger_bytes for _, (ledger_bytes, _) in self.whole.values()), default=-1)

    def has(self, file: Version) -> bool:
        return file.path in self.whole and self.whole[file.path][0] == file

    def spans(self, file: Version) -> list[Span]:
        """What came of a file that is not whole."""
        known, spans = self.parts.get(file.path, (None, []))
        return spans if known == file else []


def read(path: Path, missing: bool = False) -> Received:
    """The listing at `path`; an empty one if there is none and `missing` is allowed, as it is to who writes it.

    Raises:
        BadInput: it is not there, or is no listing.
    """
    if missing and not path.exists():
        return Received()
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}; name the {NAME} that `downlink unpack` wrote") from error
    try:
        if len(data) > _LARGEST:
            raise ValueError("too large")
        return _decode(json.loads(data))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        # Over files of which nobody knows any more what they are nothing is unpacked.
        fix = "give a new --out" if missing else "copy it once more, or leave --received out"
        raise BadInput(f"{path}: not what `downlink unpack` writes ({error}); {fix}") from error


def encode(received: Received) -> bytes:
    """One line for each file, to be read by people too; no more of them than may be read.

    Of too many the files of the oldest steps go first, which no pack asks for; whatever else goes is sent again.
    """
    whole = {path: json.dumps([path, file.size, file.sha256, at[::-1]]) for path, (file, at) in received.whole.items()}
    parts = {path: json.dumps([path, file.size, file.sha256, spans]) for path, (file, spans) in received.parts.items()}
    over = sum(len(line) + 2 for line in (*whole.values(), *parts.values())) + _AROUND - _LARGEST
    oldest = sorted(whole, key=lambda path: received.whole[path][1])
    steps = [(whole, path) for path in oldest if path.startswith(_STEPS)]
    others = [(whole, path) for path in oldest if not path.startswith(_STEPS)]
    for lines, path in (*steps, *((parts, path) for path in received.parts), *others):
        if over <= 0:
            break
        over -= len(lines.pop(path)) + 2
    return f'{{"format": {_FORMAT}, {_lines("whole", whole)}, {_lines("parts", parts)}}}\n'.encode()


def merge(spans: list[Span]) -> list[Span]:
    """Sorted, none touching another."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        elif end > start:
            found.append((start, end))
    return found


def gaps(spans: list[Span], size: int) -> list[Span]:
    """What of [0, size) no span covers."""
    edges = [0, *(edge for span in merge(spans) for edge in span), size]
    return [(start, end) for start, end in zip(edges[::2], edges[1::2], strict=True) if start < end]


def _lines(name: str, lines: dict[str, str]) -> str:
    joined = ",\n".join(lines.values())
    return f'"{name}": [\n{joined}\n]'


def _decode(content: dict[str, Any]) -> Received:
    if set(content) != {"format", "whole", "parts"} or content["format"] != _FORMAT:
        raise ValueError("of another format")
    found = Received()
    for path, size, sha256, at in content["whole"]:
        found.whole[path] = (version((path, size, sha256)), moment(at))
    for path, size, sha256, spans in content["parts"]:
        file = version((path, size, sha256))
        found.parts[path] = (file, merge([(whole(a, file.size), whole(b, file.size)) for a, b in spans]))
    return found
