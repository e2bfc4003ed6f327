"""A model of n-grams, for scale: what counting alone reaches on the same text.

Interpolated Witten–Bell smoothing (Witten & Bell 1991; Chen & Goodman 1999, section 2.6). With c(h, w) the count of
token w after history h, c(h) their sum and T(h) the number of different tokens seen after h,

    P(w | h) = (c(h, w) + T(h) P(w | h')) / (c(h) + T(h)),

where h' is h without its oldest token and the recursion ends in 1 / vocabulary. P(. | h) sums to one for every h.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt

MOST_TOKENS = 20_000_000  # counted; sorting more takes minutes, and moves the loss by little


class _Level(NamedTuple):
    """Counts after histories of one length. A history is numbered by the n-gram that it is, one level below."""

    grams: Int[np.ndarray, " grams"]  # history * vocabulary + token, rising
    counts: Int[np.ndarray, " grams"]
    totals: Int[np.ndarray, " histories"]  # c(h)
    kinds: Int[np.ndarray, " histories"]  # T(h)


class NGram:
    """Counts of `tokens`, their first MOST_TOKENS at most, for histories of up to `order` - 1 tokens."""

    def __init__(self, tokens: UInt[np.ndarray, " tokens"], vocab_size: int, order: int = 5):
        self._vocab = vocab_size
        self._levels: list[_Level] = []
        tokens = np.asarray(tokens[:MOST_TOKENS]).astype(np.int64)
        history, histories = np.zeros(len(tokens), np.int64), 1
        for length in range(order):
            keys = history * vocab_size + tokens[length:]
            grams, numbers, counts = np.unique(keys, return_inverse=True, return_counts=True)
            owner = grams // vocab_size
            totals = np.bincount(owner, counts, histories).astype(np.int64)
            self._levels.append(_Level(grams, counts, totals, np.bincount(owner, minlength=histories)))
            history, histories = numbers[:-1], len(grams)  # the n-gram that ends one token earlier

    def losses(self, windows: UInt[np.ndarray, "windows context+1"]) -> Float[np.ndarray, "windows context"]:
        """Loss of each token but the first of its window [nats], from those before it in the window."""
        tokens = np.asarray(windows).astype(np.int64)
        chance = np.full(tokens.shape, 1.0 / self._vocab)
        history = np.zeros(tokens.shape, np.int64)
        for length, level in enumerate(self._levels):
            # Here and below, column i stands for the token at `length + i` of the window.
            target, lower = tokens[:, length:], chance[:, length:]
            known = history >= 0
            key = np.where(known, history * self._vocab + target, -1)
            at = np.minimum(np.searchsorted(level.grams, key), len(level.grams) - 1)
            found = level.grams[at] == key
            total, kinds = level.totals[history], level.kinds[history]
            mixed = (level.counts[at] * found + kinds * lower) / np.maximum(total + kinds, 1)
            chance[:, length:] = np.where(known & (total > 0), mixed, lower)
            history = np.where(found, at, -1)[:, :-1]
        return -np.log(chance[:, 1:])
