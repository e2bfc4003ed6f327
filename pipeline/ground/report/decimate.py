"""Fewer points that draw the same picture: what stands out is kept, and what no pixel could show is not."""

import numpy as np
from jaxtyping import Float, Int


def extremes(*columns: Float[np.ndarray, " rows"], buckets: int) -> Int[np.ndarray, " kept"]:
    """Row numbers, rising: of each of `buckets` equal stretches the lowest and the highest value of every column.

    All rows where that would save nothing. The first and the last row are always among them.
    """
    rows = len(columns[0])
    if rows <= 2 * buckets * len(columns):
        return np.arange(rows)
    size = -(-rows // buckets)
    starts = np.arange(0, rows, size)
    kept = [np.array([0, rows - 1])]
    for column in columns:
        for absent, find in ((np.inf, np.argmin), (-np.inf, np.argmax)):
            filled = np.pad(np.where(np.isfinite(column), column, absent), (0, len(starts) * size - rows), mode="edge")
            kept.append(np.minimum(starts + find(filled.reshape(-1, size), axis=1), rows - 1))
    return np.unique(np.concatenate(kept))


def means(*columns: Float[np.ndarray, " rows"], buckets: int) -> list[Float[np.ndarray, " buckets"]]:
    """Mean of each column over each of at most `buckets` equal stretches; rows that are not finite do not count."""
    rows = len(columns[0])
    if not rows:
        return [np.array([]) for _ in columns]
    starts = np.arange(0, rows, max(1, -(-rows // buckets)))
    found = []
    for column in columns:
        finite = np.isfinite(column)
        sums = np.add.reduceat(np.where(finite, column, 0.0), starts)
        counts = np.add.reduceat(finite.astype(float), starts)
        found.append(np.divide(sums, counts, out=np.full(len(starts), np.nan), where=counts > 0))
    return found
