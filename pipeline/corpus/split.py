"""Which bytes of the text are trained on and which are held out; decided first, so that BPE sees only the former."""

from pathlib import Path

import numpy as np
import xxhash
from jaxtyping import Int, UInt64

from pipeline.config import BadInput
from pipeline.corpus.files import whole_characters

FEWEST_DOCUMENTS = 20
Ranges = Int[np.ndarray, "n 2"]


def split_tail(text: Path, held_out: float) -> tuple[Ranges, Ranges]:
    """(train, held-out) byte ranges [start, stop) of `text`: the last share is held out, cut between characters."""
    size = text.stat().st_size
    cut = int(size * (1 - held_out))
    with text.open("rb") as file:
        before = max(0, cut - 4)
        file.seek(before)
        cut = before + whole_characters(file.read(cut - before))
    return np.array([[0, cut]]), np.array([[cut, size]])


def name_hash(name: str) -> int:
    return xxhash.xxh3_64_intdigest(name.encode(errors="surrogateescape"))


def split_documents(
    starts: Int[np.ndarray, " documents"], hashes: UInt64[np.ndarray, " documents"], size: int, held_out: float
) -> tuple[Ranges, Ranges]:
    """(train, held-out) byte ranges: the documents whose names hash lowest are held out, `held_out` of their number.

    Raises:
        BadInput: fewer than 20 documents, of which no share is a fair sample.
    """
    count = len(starts)
    if count < FEWEST_DOCUMENTS:
        raise BadInput(
            f"corpus.split: documents, but there are only {count}; use split: tail, or give at least {FEWEST_DOCUMENTS}"
        )
    chosen = np.zeros(count, bool)
    chosen[np.argsort(hashes, kind="stable")[: max(1, round(held_out * count))]] = True
    ranges = np.stack([starts, np.append(starts[1:], size)], axis=1)
    return _merge(ranges[~chosen]), _merge(ranges[chosen])


def _merge(ranges: Ranges) -> Ranges:
    """Neighbouring ranges as one."""
    first = np.append(True, ranges[1:, 0] != ranges[:-1, 1])
    last = np.append(first[1:], True)
    return np.stack([ranges[first, 0], ranges[last, 1]], axis=1)
