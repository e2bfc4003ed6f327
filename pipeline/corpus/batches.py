"""Shuffled windows of tokens by random access, and the next chunk of them prepared while the device computes."""

from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import xxhash
from jaxtyping import Int, Int32, Int64, UInt

from pipeline.corpus.tokenizer import Tokens

BLOCK, BLOCKS = 64, 8192  # sequences of the order that are found at a time, and how many of these are kept: 4 MB

Chunk = Int32[np.ndarray, "steps batch seq"]
Places = Int64[np.ndarray, " block"]


def windows(tokens: Tokens, context: int) -> UInt[np.ndarray, "windows context+1"]:
    """Every window of context + 1 tokens at stride `context`, as a read-only view.

    Neighbours share one token: the last target of one is the first input of the next, so each token is predicted once.
    """
    count = max(0, (len(tokens) - 1) // context)
    step = tokens.itemsize
    return np.lib.stride_tricks.as_strided(tokens, (count, context + 1), (context * step, step), writeable=False)


class Batches:
    """Training windows in an order that depends on the seed and on nothing else.

    A cursor counts sequences consumed since the start of the run. Every window comes once in an epoch, and each epoch
    has its own order. Nothing is remembered between calls, so a resumed run seeks in O(1).
    """

    def __init__(self, tokens: Tokens, context: int, seed: int) -> None:
        self._windows = windows(tokens, context)
        self._seed = seed
        self._kept = lru_cache(maxsize=BLOCKS)(self._find)
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches")
        self._prepared: tuple[tuple[int, int, int], Future[tuple[Chunk, int]]] | None = None
        self.mended = 0  # how often something changed in memory while it waited, and was made again

    def batch(self, cursor: int, n: int) -> UInt[np.ndarray, "{n} context+1"]:
        """The `n` sequences from `cursor` on; inputs are [:, :-1], targets [:, 1:]. uint16 or uint32."""
        first, last = cursor // BLOCK, (cursor + n - 1) // BLOCK
        places = np.concatenate([self._places(block) for block in range(first, last + 1)])
        return self._windows[places[cursor - first * BLOCK :][:n]]

    def chunk(self, cursor: int, steps: int, batch: int) -> Int[np.ndarray, "{steps} {batch} context+1"]:
        """`read`, and starts to prepare the chunk of that shape that follows.

        One that was prepared waits in memory while the device computes: it is used only if it is still what it was.
        """
        asked = (cursor, steps, batch)
        prepared = self._prepared
        if prepared and prepared[0] == asked:
            made, was = prepared[1].result()
            if digest(made) != was:
                self.mended += 1
                made = self.read(*asked)
        else:
            made = self.read(*asked)
        following = (cursor + steps * batch, steps, batch)
        self._prepared = following, self._worker.submit(self._prepare, *following)
        return made

    def read(self, cursor: int, steps: int, batch: int) -> Int[np.ndarray, "{steps} {batch} context+1"]:
        """Batches of `steps` steps from `cursor` on, int32, from the text itself."""
        return self.batch(cursor, steps * batch).astype(np.int32).reshape(steps, batch, -1)

    def _prepare(self, cursor: int, steps: int, batch: int) -> tuple[Chunk, int]:
        made = self.read(cursor, steps, batch)
        return made, digest(made)

    def _places(self, block: int) -> Places:
        """Which windows a block of the order has. Grain takes 15 µs a window (measured), so that a block is kept: what
        was prepared in vain and what is computed again come from it. Kept places may change in memory as well."""
        places, was = self._kept(block)
        if digest(places) != was:
            self.mended += 1
            self._kept.cache_clear()
            places, _ = self._kept(block)
        return places

    def _find(self, block: int) -> tuple[Places, int]:
        order = self._order
        places = np.array([order[index] for index in range(block * BLOCK, (block + 1) * BLOCK)], np.int64)
        return places, digest(places)

    @cached_property
    def _order(self) -> Any:
        """Window numbers, shuffled anew in each epoch, endless."""
        # Imported here: Grain costs 1.1 s (0.3 s once JAX is loaded, measured), and a restart pays it in watt-hours.
        import grain

        # `seed` hashes; seeding `shuffle` itself would give epoch 1 of seed 0 and epoch 0 of seed 1 the same order.
        return grain.MapDataset.range(len(self._windows)).seed(self._seed).shuffle().repeat()


def digest(held: Chunk | Places) -> int:
    """xxh3_64: 20 µs for 160,000 tokens."""
    return xxhash.xxh3_64_intdigest(held.data)
