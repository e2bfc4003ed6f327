"""Radiation and failing media: files changed behind the back of whoever wrote them."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.checkpoint import durable

PAGE = 4096  # bytes


@dataclass(frozen=True)
class Wound:
    """One file that was damaged. `sealed` is what it held."""

    path: Path
    what: str
    sealed: bytes

    @property
    def harmless(self) -> bool:
        """The file holds what it held: some damage changes nothing, as zeros written over zeros."""
        return self.path.exists() and self.path.read_bytes() == self.sealed


def flip(data: bytearray, dice: random.Random, bits: int = 1) -> None:
    for bit in dice.sample(range(8 * len(data)), min(bits, 8 * len(data))):
        data[bit // 8] ^= 1 << bit % 8


def zero_page(data: bytearray, dice: random.Random) -> None:
    start = dice.randrange(0, len(data), PAGE)
    data[start : start + PAGE] = bytes(len(data[start : start + PAGE]))


def truncate(data: bytearray, dice: random.Random) -> None:
    del data[dice.randrange(len(data)) :]


IN_PLACE: dict[str, Callable[[bytearray, random.Random], None]] = {
    "one bit": flip,
    "several bits": lambda data, dice: flip(data, dice, dice.randint(2, 64)),
    "zeroed page": zero_page,
}
ANY = IN_PLACE | {"truncated": truncate}
DELETED = "deleted"


def wound(path: Path, dice: random.Random, ways: tuple[str, ...] = (*ANY, DELETED)) -> Wound:
    """Damages a file that is not empty, in place, as a program that has it open would see it too. A power cut does not
    undo it."""
    sealed, what = path.read_bytes(), dice.choice(ways)
    if what == DELETED:
        path.unlink()
    else:
        data = bytearray(sealed)
        ANY[what](data, dice)
        with path.open("r+b") as file:
            file.write(data)
            if what not in IN_PLACE:  # whoever appends to it meanwhile must not lose a line
                file.truncate(len(data))
    durable.fsync(path.parent if what == DELETED else path)
    return Wound(path, what, sealed)


def files(directory: Path) -> list[Path]:
    """The files under a directory that hold anything."""
    return sorted(path for path in directory.rglob("*") if path.is_file() and path.stat().st_size)
