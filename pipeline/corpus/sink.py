"""Where tokens go, block by block: counted, hashed and, if a path is given, written."""

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import xxhash

from pipeline.corpus.tokenizer import Tokens, token_dtype


@dataclass(frozen=True)
class Part:
    """What is known of one part of the corpus, training or held-out."""

    tokens: int
    hash: str  # xxh3_128 of the tokens as stored
    counts: np.ndarray  # [vocab], how often each token occurs


class TokenSink:
    """Takes tokens of one vocabulary; stores them as raw uint16 or uint32, as nanoGPT does."""

    def __init__(self, path: Path | None, vocab_size: int) -> None:
        self._file = path.open("wb") if path else None
        self._dtype = token_dtype(vocab_size)
        self._digest = xxhash.xxh3_128()
        self._tokens = 0
        self._counts = np.zeros(vocab_size, np.int64)

    def __enter__(self) -> "TokenSink":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file:
            self._file.close()

    def add(self, tokens: Tokens) -> None:
        """Appends `tokens`, all of them below the vocabulary's size."""
        stored: Any = np.ascontiguousarray(tokens, self._dtype)
        self._digest.update(stored.data)
        self._counts += np.bincount(stored, minlength=len(self._counts))
        self._tokens += len(stored)
        if self._file:
            self._file.write(stored.data)

    def part(self) -> Part:
        return Part(self._tokens, self._digest.hexdigest(), self._counts)


def unigram_loss(train: Part, held_out: Part) -> float:
    """Cross-entropy [nats per token] of the held-out tokens under add-one-smoothed counts of the training tokens.

    What a model that ignores context reaches: one that does not beat it has learned nothing.
    """
    log_probability = np.log(train.counts + 1) - np.log(train.tokens + len(train.counts))
    return float(-(held_out.counts @ log_probability) / held_out.tokens)
