"""The chunks that came, by what they are of."""

import heapq
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from pipeline.ground.downlink.chunk import LARGEST_CHUNK, Chunk, Head, Malformed, Moment, Version, decode

_LATEST = 1 << 36  # bytes; no ledger is so long


class Place(NamedTuple):
    """Where a whole chunk lies."""

    head: Head
    address: str
    path: Path

    def content(self, base: bytes) -> bytes:
        """Raises:
        Malformed: it is no longer what it was, or its payload is not what its head says.
        """
        read = read_chunk(self.path)
        if read.address != self.address:
            raise Malformed("replaced while it was being read")
        return read.content(base)


Piece = tuple[int, int, Place | None]  # bytes [start, end) of a file, from a chunk or, where there is none, its base


@dataclass
class Inbox:
    places: dict[Version, dict[str, Place]] = field(default_factory=dict)  # by address: copies count once
    bases: dict[str, set[int]] = field(default_factory=dict)  # sizes of what chunks are differences to, by path
    damaged: dict[str, str] = field(default_factory=dict)  # names of what is no chunk, and why
    ahead: list[str] = field(default_factory=list)  # names of chunks of a time that nothing has come to

    def at(self, file: Version) -> Moment:
        return max(place.head.at for place in self.places[file].values())

    def oldest_first(self) -> list[Version]:
        return sorted(self.places, key=lambda file: (self.at(file), file.size, file.sha256))

    @property
    def chunks(self) -> int:
        return sum(map(len, self.places.values()))


def read_inbox(folder: Path, latest: int) -> Inbox:
    """Every file of `folder` is looked at, whatever its name; those that begin with a dot are still on their way.

    What is newest stays. So a chunk that is later than a ledger can be long counts as the oldest, unless it comes next
    after another or after the listing, of which `latest` is the time: then it was packed with that listing, to be newer
    than what was forged.
    """
    found, places = Inbox(), []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        try:
            read = read_chunk(path)
        except Malformed as error:
            found.damaged[path.name] = str(error)
        except OSError as error:
            found.damaged[path.name] = error.strerror or str(error)
        else:
            places.append(Place(read.head, read.address, path))
    for place in sorted(places, key=lambda place: place.head.at):
        head, (ledger_bytes, mission_s) = place.head, place.head.at
        if ledger_bytes > max(_LATEST, latest + 1):
            found.ahead.append(place.path.name)
            head = replace(head, at=(0, mission_s))
        else:
            latest = max(latest, ledger_bytes)
        if head.base:
            found.bases.setdefault(head.base.path, set()).add(head.base.size)
        found.places.setdefault(head.file, {}).setdefault(place.address, place._replace(head=head))
    return found


def read_chunk(path: Path) -> Chunk:
    """The chunk in a plain file, of which no more is read than a chunk can be long."""
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise Malformed("not a plain file")
        return decode(file.read(LARGEST_CHUNK + 1))


def chosen(pieces: list[Piece], size: int, oldest_first: bool) -> Iterator[Piece]:
    """Of pieces that leave no gap, those that bring each byte: what a base has first, then the newest or oldest."""
    chunks = [(place.head.at, place.address, (start, end, place)) for start, end, place in pieces if place]
    chunks.sort(key=lambda each: each[:2], reverse=not oldest_first)
    ranked = [piece for piece in pieces if piece[2] is None] + [piece for *_, piece in chunks]
    ahead = sorted(range(len(ranked)), key=lambda rank: -ranked[rank][0])
    here: list[int] = []  # ranks of those that begin at `at` or before
    at = 0
    while at < size:
        while ahead and ranked[ahead[-1]][0] <= at:
            heapq.heappush(here, ahead.pop())
        while ranked[here[0]][1] <= at:
            heapq.heappop(here)
        yield ranked[here[0]]
        at = ranked[here[0]][1]
