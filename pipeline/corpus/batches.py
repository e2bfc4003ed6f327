"""Shuffled windows of tokens by random access, and the next chunk of them prepared while the device computes."""

from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import Any

import numpy as np
import xxhash
from jaxtyping import Int, Int32, UInt

from pipeline.corpus.tokenizer import Tokens

Chunk = Int32[np.ndarray, "steps batch seq"]


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
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches")
        self._prepared: tuple[tuple[int, int, int], Future[tuple[Chunk, int]]] | None = None
        self.mended = 0  # chunks that changed in memory while they waited, and were read again

    @property
    def windows_per_epoch(self) -> int:
        return len(self._windows)

    def batch(self, cursor: int, n: int) -> UInt[np.ndarray, "{n} context+1"]:
        """The `n` sequences from `cursor` on; inputs are [:, :-1], targets [:, 1:]. uint16 or uint32."""
        # Grain takes 6 µs an index (measured), whatever it yields. It orders; NumPy gathers all windows in one step.
        order = self._order
        return self._windows[np.array([order[index] for index in range(cursor, cursor + n)], np.int64)]

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

    @cached_property
    def _order(self) -> Any:
        """Window numbers, shuffled anew in each epoch, endless."""
        # Imported here: Grain costs 1.1 s (0.3 s once JAX is loaded, measured), and a restart pays it in watt-hours.
        import grain

        # `seed` hashes; seeding `shuffle` itself would give epoch 1 of seed 0 and epoch 0 of seed 1 the same order.
        return grain.MapDataset.range(len(self._windows)).seed(self._seed).shuffle().repeat()


def digest(chunk: Chunk) -> int:
    """xxh3_64: 20 µs for 160,000 tokens."""
    return xxhash.xxh3_64_intdigest(chunk.data)
