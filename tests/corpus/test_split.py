"""The held-out split: nothing of it is in the training text."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.config import BadInput
from pipeline.corpus.files import whole_characters
from pipeline.corpus.split import name_hash, split_documents, split_tail


@given(text=st.text(min_size=1), held_out=st.floats(0.01, 0.5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_the_tail_split_loses_nothing_and_cuts_no_character(text: str, held_out: float, tmp_path: Path) -> None:
    path = tmp_path / "text"
    data = text.encode()
    path.write_bytes(data)
    ((_, cut),), ((start, stop),) = split_tail(path, held_out)
    assert cut == start
    assert stop == len(data)
    assert data[:cut].decode() + data[cut:].decode() == text
    assert 0 <= int(len(data) * (1 - held_out)) - cut < 4


@given(st.lists(st.integers(1, 50), min_size=20, max_size=200), st.floats(0.01, 0.5))
@settings(deadline=None)
def test_the_document_split_gives_every_byte_to_exactly_one_side(sizes: list[int], held_out: float) -> None:
    starts = np.cumsum([0, *sizes])[:-1]
    hashes = np.array([name_hash(str(i)) for i in range(len(sizes))], np.uint64)
    owner = np.zeros(sum(sizes), int)
    train, held = split_documents(starts, hashes, sum(sizes), held_out)
    for low, high in train:
        owner[low:high] += 1
    for low, high in held:
        owner[low:high] += 10
    assert set(owner) == {1, 10}
    sides = [set(owner[start : start + size]) for start, size in zip(starts, sizes, strict=True)]
    assert all(len(side) == 1 for side in sides), "a document was cut in two"
    assert sum(side == {10} for side in sides) == max(1, round(held_out * len(sizes)))


def test_a_document_keeps_its_side_when_others_move() -> None:
    names = [f"doc{i}" for i in range(40)]
    starts = np.arange(40) * 10

    def held(order: list[str]) -> set[str]:
        hashes = np.array([name_hash(name) for name in order], np.uint64)
        return {
            order[low // 10 + i]
            for low, high in split_documents(starts, hashes, 400, 0.2)[1]
            for i in range((high - low) // 10)
        }

    assert held(names) == held(names[::-1])


def test_too_few_documents_are_refused() -> None:
    with pytest.raises(BadInput, match=r"corpus.split: documents, but there are only 3; use split: tail"):
        split_documents(np.arange(3), np.arange(3, dtype=np.uint64), 3, 0.1)


@given(st.text(), st.integers(0, 8))
def test_a_block_cut_anywhere_is_shortened_to_whole_characters(text: str, drop: int) -> None:
    data = text.encode()
    cut = data[: max(0, len(data) - drop)]
    size = whole_characters(cut)
    assert len(cut) - size < 4
    cut[:size].decode()
