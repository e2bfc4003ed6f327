"""Batches: shuffled without replacement, the same for the same seed, found again from a cursor alone."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.corpus.batches import Batches, windows

TOKENS = np.arange(1000, dtype=np.uint16)  # a token's value is its position


@given(st.integers(2, 200), st.integers(1, 60))
def test_windows_predict_every_token_once(length: int, context: int) -> None:
    made = windows(np.arange(length, dtype=np.uint16), context)
    predicted = made[:, 1:].ravel()
    assert predicted.tolist() == list(range(1, len(made) * context + 1))
    assert length - 1 - len(predicted) < context, "more than a part of one window is lost"
    assert (made[:, 1:] - made[:, :-1] == 1).all()


def test_windows_cannot_be_written_through() -> None:
    with pytest.raises(ValueError, match="read-only"):
        windows(TOKENS.copy(), 8)[0, 0] = 1


def test_each_epoch_is_a_permutation_and_a_new_one() -> None:
    batches = Batches(TOKENS, 9, seed=3)
    per_epoch = len(windows(TOKENS, 9))
    assert per_epoch == 111
    epochs = [tuple(batches.batch(epoch * per_epoch, per_epoch)[:, 0]) for epoch in range(4)]
    assert all(sorted(epoch) == list(range(0, 999, 9)) for epoch in epochs)
    assert len(set(epochs)) == 4
    assert tuple(sorted(epochs[0])) != epochs[0]


def test_neighbouring_seeds_share_no_epoch() -> None:
    def first(seed: int, epoch: int) -> bytes:
        return Batches(TOKENS, 9, seed).batch(epoch * 111, 111).tobytes()

    assert first(0, 0) == first(0, 0)
    assert len({first(seed, epoch) for seed in range(4) for epoch in range(4)}) == 16


@cache
def read_through() -> np.ndarray:
    return Batches(TOKENS, 9, seed=1).batch(0, 2050)


@given(st.integers(0, 2000), st.integers(1, 50))
@settings(deadline=None, max_examples=50)
def test_a_cursor_finds_what_reading_through_finds(cursor: int, n: int) -> None:
    assert (Batches(TOKENS, 9, seed=1).batch(cursor, n) == read_through()[cursor : cursor + n]).all()


def test_the_order_is_the_one_that_earlier_runs_saw() -> None:
    """Changes only if Grain's shuffle does; a run resumed across such a change would not repeat itself."""
    assert Batches(TOKENS, 9, seed=1337).batch(0, 6)[:, 0].tolist() == ORDER


ORDER = [657, 198, 819, 702, 63, 90]


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(1, 4), st.integers(1, 5)), min_size=1, max_size=8))
@settings(deadline=None, max_examples=50)
def test_prefetching_never_changes_what_is_returned(asked: list[tuple[int, int, int]]) -> None:
    plain, prefetched = Batches(TOKENS, 9, seed=5), Batches(TOKENS, 9, seed=5)
    for cursor, steps, batch in asked:
        for start in (cursor, cursor + steps * batch):  # the chunk that was asked for, then the one prepared
            got = prefetched.chunk(start, steps, batch)
            assert got.dtype == np.int32
            assert got.shape == (steps, batch, 10)
            assert (got.reshape(-1, 10) == plain.batch(start, steps * batch)).all()


def test_a_billion_sequences_in_is_as_quick_as_the_start() -> None:
    assert Batches(TOKENS, 9, seed=5).chunk(10**9, 2, 2).shape == (2, 2, 10)


@pytest.mark.parametrize("bit", [0, 16, 31])
def test_a_chunk_that_changed_while_it_waited_is_read_again(bit: int) -> None:
    batches, plain = Batches(TOKENS, 9, seed=5), Batches(TOKENS, 9, seed=5)
    batches.chunk(0, 3, 4)
    prepared = batches._prepared
    assert prepared is not None
    waiting, _ = prepared[1].result()
    waiting.reshape(-1).view(np.uint32)[17] ^= np.uint32(1 << bit)
    assert (waiting != plain.read(12, 3, 4)).any()  # what would have been trained on
    assert (batches.chunk(12, 3, 4) == plain.read(12, 3, 4)).all()
    assert batches.mended == 1


@pytest.mark.parametrize("bit", [0, 40])
def test_an_order_that_changed_while_it_was_kept_is_found_again(bit: int) -> None:
    batches, plain = Batches(TOKENS, 9, seed=5), Batches(TOKENS, 9, seed=5)
    batches.batch(0, 300)
    kept, _ = batches._kept(1)
    kept.view(np.uint64)[3] ^= np.uint64(1 << bit)
    assert (batches.batch(0, 300) == plain.batch(0, 300)).all()
    assert batches.mended == 1
    assert (batches.batch(60, 10) == plain.batch(60, 10)).all()
    assert batches.mended == 1, "what is kept now is right"


def test_what_was_read_is_read_again_without_being_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = Batches(TOKENS, 9, seed=5)
    whole = batches.batch(0, 640)
    monkeypatch.setattr(batches, "_order", None)
    assert (batches.batch(1, 639) == whole[1:]).all()
    with pytest.raises(TypeError):
        batches.batch(2, 639)
