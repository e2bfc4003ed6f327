"""The n-gram model is a proper probability, and the one of the equation in its docstring."""

import itertools
import math

import numpy as np
import pytest

from pipeline.ground.ngram import NGram


def chance(model: NGram, history: list[int], token: int) -> float:
    return math.exp(-model.losses(np.array([[*history, token]]))[0, -1])


@pytest.mark.parametrize("order", [1, 2, 5])
def test_probabilities_of_all_next_tokens_sum_to_one_after_every_history(order: int) -> None:
    text = np.random.default_rng(0).integers(4, size=120) ** 2 % 5  # token 2 and 3 never occur
    model = NGram(text, 6, order)
    for history in itertools.product(range(6), repeat=3):
        chances = [chance(model, list(history), token) for token in range(6)]
        assert sum(chances) == pytest.approx(1.0, abs=1e-12)
        assert min(chances) > 0.0


def test_it_is_witten_and_bells_interpolation() -> None:
    """0 1 0 2 0 1, vocabulary 3, order 2, worked by hand."""
    model = NGram(np.array([0, 1, 0, 2, 0, 1]), 3, 2)
    # Unigram: c(1) = 2 of 6, three kinds; (2 + 3/3) / (6 + 3).
    unigram = {0: (3 + 1) / 9, 1: (2 + 1) / 9, 2: (1 + 1) / 9}
    # After 0: 1 twice, 2 once; c = 3, T = 2. After 2: 0 once.
    assert chance(model, [0], 1) == pytest.approx((2 + 2 * unigram[1]) / 5)
    assert chance(model, [0], 0) == pytest.approx((0 + 2 * unigram[0]) / 5)
    assert chance(model, [2], 0) == pytest.approx((1 + 1 * unigram[0]) / 2)
    assert chance(model, [2], 2) == pytest.approx((0 + 1 * unigram[2]) / 2)


def test_a_history_never_seen_falls_back_to_a_shorter_one_and_no_longer_one_is_believed() -> None:
    text = np.array([0, 1, 2, 3] * 50)
    model, shorter = NGram(text, 5, 4), NGram(text, 5, 2)
    assert chance(model, [3, 3, 0], 1) > 0.9
    assert chance(model, [4, 4, 4], 0) == pytest.approx(chance(NGram(text, 5, 1), [0], 0))
    assert chance(model, [0, 0, 2], 3) == pytest.approx(chance(shorter, [2], 3))


def test_each_window_is_judged_from_its_own_beginning() -> None:
    text = np.random.default_rng(1).integers(8, size=400)
    model = NGram(text, 8)
    windows = text[: 4 * 11].reshape(4, 11)
    whole = model.losses(windows)
    assert whole.shape == (4, 10)
    for row, window in zip(whole, windows, strict=True):
        assert row[0] == pytest.approx(-math.log(chance(model, [window[0]], window[1])))
        assert row[6] == pytest.approx(-math.log(chance(model, window[3:7].tolist(), window[7])))


def test_more_history_makes_a_patterned_text_easier() -> None:
    text = np.tile([0, 1, 0, 2, 0, 3], 200)
    losses = [NGram(text, 4, order).losses(text[:601].reshape(1, -1)).mean() for order in (1, 2, 3)]
    assert losses[0] > 1.0 > losses[1] > losses[2]
    assert losses[2] < 0.02
