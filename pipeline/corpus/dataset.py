"""From a corpus configuration to tokens ready to train on, tokenised once."""

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt
from tokenizers import Tokenizer

from pipeline.config import BadInput, stopped_by
from pipeline.config.learning import Corpus as CorpusConfig
from pipeline.corpus.batches import Batches, windows
from pipeline.corpus.cache import Cache
from pipeline.corpus.download import tiny_shakespeare
from pipeline.corpus.files import Input, find_text
from pipeline.corpus.hashing import HashIndex, hash_bytes, hash_json
from pipeline.corpus.progress import Tick
from pipeline.corpus.python_docs import python_docs
from pipeline.corpus.sink import Part, unigram_loss
from pipeline.corpus.token_bytes import token_lengths
from pipeline.corpus.token_files import Segment, find_tokens, scan
from pipeline.corpus.tokenise import tokenise
from pipeline.corpus.tokenizer import Tokens, rows, token_dtype
from pipeline.corpus.uncertainty import ratio_values

# Raise it whenever the same text and settings would give other tokens or other metadata than before.
FORMAT = 1


@dataclass(frozen=True, eq=False)
class Corpus:
    """Tokens of a text, split for training and validation, and what is needed to judge a loss on them."""

    tokenizer: Tokenizer | None  # None: token files, whose tokenizer is not known
    vocab_size: int
    train: Tokens  # memory-mapped, read-only, uint16 or uint32
    held_out: Tokens  # memory-mapped, read-only; shares no token with `train`
    held_out_bytes: int | None  # UTF-8 of the held-out text; None for token files, and where tokens are not its bytes
    unigram_loss: float  # nats per held-out token of a model that knows only how often each token occurs
    content_hash: str  # of all tokens and where they are split: equal for equal tokens, wherever they came from
    batches: Batches  # of `train`

    @property
    def bits_per_nat(self) -> float | None:
        """Bits per byte of a loss of one nat per token on the held-out text; None for token files."""
        return len(self.held_out) / self.held_out_bytes / math.log(2) if self.held_out_bytes else None

    def bits_per_byte(
        self, losses: Float[np.ndarray, " windows"], windows: UInt[np.ndarray, "windows context+1"]
    ) -> Float[np.ndarray, " windows"] | None:
        """Of held-out windows, from their losses [nats per token], as `ratio_values`: with BPE one has more bytes than
        another. None for token files, or where tokens are not the bytes of the text."""
        lengths = self._token_lengths if self.held_out_bytes else None
        if lengths is None:
            return None
        bits = losses.astype(np.float64) * (windows.shape[1] - 1) / math.log(2)
        return ratio_values(bits, np.array([lengths[window[1:]].sum() for window in windows]))

    @cached_property
    def _token_lengths(self) -> Int[np.ndarray, " vocab"] | None:
        return token_lengths(self.tokenizer) if self.tokenizer else None

    def held_out_windows(self, context: int) -> UInt[np.ndarray, "windows {context}+1"]:
        """Every held-out window, as a view, at stride `context`; inputs are [:, :-1], targets [:, 1:].

        Raises:
            BadInput: the held-out text is shorter than one window.
        """
        _require_window("held-out", self.held_out, context, "raise corpus.held_out or corpus.limit_mb")
        return windows(self.held_out, context)


def open_corpus(
    config: CorpusConfig,
    context: int,
    seed: int,
    tick: Tick = lambda: None,
    tokenizer: Tokenizer | None = None,
    read_only: Path | None = None,
) -> Corpus:
    """The corpus that `config` describes, from the cache if it has been tokenised before.

    Args:
        context: tokens in one training sequence.
        seed: of the order of training sequences.
        tick: called every few MB of work; what it raises stops the work and leaves nothing half done.
        tokenizer: used as it is, in place of the one that `config` describes: the one that weights to start from came
            with, or a run's own, to evaluate it on another text.
        read_only: another cache, looked into for what `config.cache_dir` lacks, and never written to.

    Raises:
        BadInput: in one line that names the key, the value and the fix.
        RunFailed: the same, of what may be otherwise by the next try: a disk that is full or fails.
    """
    index, cache = HashIndex(config.cache_dir / "hashes.json"), Cache(config.cache_dir, tick, read_only)
    opened = _open_tokens if config.source == "tokens" else _open_text
    try:
        corpus = opened(config, cache, index, context, seed, tokenizer)
    finally:
        index.save()
    _require_window("training", corpus.train, context, "give more text or raise corpus.limit_mb")
    _require_window("held-out", corpus.held_out, context, "raise corpus.held_out or corpus.limit_mb")
    return corpus


def _open_text(
    config: CorpusConfig, cache: Cache, index: HashIndex, context: int, seed: int, given: Tokenizer | None
) -> Corpus:
    inputs = _inputs(config, cache)
    vocab_size = config.vocab_size if config.tokenizer == "bpe" else None
    key = hash_json(
        {
            "format": FORMAT,
            "inputs": [[item.name, _hash(item, index, cache.tick)] for item in inputs],
            "tokenizer": hash_bytes(given.to_str().encode()) if given else [config.tokenizer, vocab_size],
            "text": [config.field, config.limit_mb, config.held_out, config.split],
        }
    )

    if config.tokenizer == "given" and given is None:
        raise BadInput("corpus.tokenizer: given: the tokenizer of the run is needed; copy its tokenizer.json there")

    def build(folder: Path) -> dict[str, Any]:
        made, train, held_out, held_out_bytes = tokenise(config, inputs, given, folder, cache.tick)
        made.save(str(folder / "tokenizer.json"))
        return _meta(train, held_out) | {"vocab_size": rows(made), "held_out_bytes": held_out_bytes}

    text_bytes = min(sum(item.size for item in inputs), (config.limit_mb or float("inf")) * 1e6)
    # The text itself while it is worked on, and its tokens: 2 bytes for each byte or character, about 1 with BPE.
    need_bytes = int(text_bytes * (2 if config.tokenizer == "bpe" else 3))
    entry, meta = cache.entry(key, index, need_bytes, build)
    dtype = token_dtype(meta["vocab_size"])
    train, held_out = (_map(entry / name, dtype) for name in ("train.bin", "held_out.bin"))
    return Corpus(
        tokenizer=given or Tokenizer.from_file(str(entry / "tokenizer.json")),
        # An embedding may have rows to spare: open weights round them up.
        vocab_size=config.vocab_size if config.tokenizer == "given" else meta["vocab_size"],
        train=train,
        held_out=held_out,
        held_out_bytes=meta["held_out_bytes"],
        unigram_loss=meta["unigram_loss"],
        content_hash=meta["content_hash"],
        batches=Batches(train, context, seed),
    )


def _open_tokens(
    config: CorpusConfig, cache: Cache, index: HashIndex, context: int, seed: int, given: Tokenizer | None
) -> Corpus:
    parts = dict(zip(("train.bin", "held_out.bin"), find_tokens(config), strict=True))
    ranges = {
        name: [
            [index.check(part.path, cache.tick), str(part.dtype), part.offset, part.start, part.stop]
            for part in segments
        ]
        for name, segments in parts.items()
    }
    key = hash_json({"format": FORMAT, "tokens": ranges, "vocab_size": config.vocab_size})
    # One file is mapped where it lies; shards are laid end to end in the cache, so that windows can cross their seams.
    shards = {name: segments for name, segments in parts.items() if len(segments) > 1}

    def build(folder: Path) -> dict[str, Any]:
        for name, segments in parts.items():
            if not segments:
                raise BadInput(f"corpus.path: {config.path}: no tokens for {name}; give more, or raise corpus.limit_mb")
        train, held_out = (
            scan(segments, config.vocab_size, folder / name if name in shards else None, cache.tick)
            for name, segments in parts.items()
        )
        return _meta(train, held_out)

    dtype = token_dtype(config.vocab_size)
    need_bytes = sum(len(segment) * dtype.itemsize for segments in shards.values() for segment in segments)
    entry, meta = cache.entry(key, index, need_bytes, build)

    def mapped(name: str, segments: list[Segment]) -> Tokens:
        return _map(entry / name, dtype) if name in shards else segments[0].map()

    train, held_out = (mapped(name, segments) for name, segments in parts.items())
    return Corpus(
        tokenizer=given,
        vocab_size=config.vocab_size,
        train=train,
        held_out=held_out,
        held_out_bytes=None,
        unigram_loss=meta["unigram_loss"],
        content_hash=meta["content_hash"],
        batches=Batches(train, context, seed),
    )


def _inputs(config: CorpusConfig, cache: Cache) -> list[Input]:
    if config.source == "python-docs":
        return python_docs()
    if config.path is None:  # tiny-shakespeare
        return find_text(str(tiny_shakespeare(cache)))
    return find_text(config.path)


def _hash(item: Input, index: HashIndex, tick: Tick) -> str:
    if item.path is None:
        return hash_bytes(item.text)
    try:
        return index.hash(item.path, tick)
    except OSError as error:
        raise stopped_by(error, f"corpus.path: {item.path}: cannot be read", "make the file readable") from error


def _meta(train: Part, held_out: Part) -> dict[str, Any]:
    if not train.tokens or not held_out.tokens:
        empty = "held-out" if train.tokens else "training"
        raise BadInput(f"corpus.held_out: leaves no {empty} tokens; give more text")
    return {
        "content_hash": hash_json([train.hash, held_out.hash]),
        "unigram_loss": unigram_loss(train, held_out),
    }


def _map(path: Path, dtype: np.dtype) -> Tokens:
    return np.memmap(path, dtype, "r")


def _require_window(part: str, tokens: Tokens, context: int, fix: str) -> None:
    if len(tokens) < context + 1:
        raise BadInput(
            f"model.context: {context}, but the {part} text has only {len(tokens)} tokens, less than one window of "
            f"{context + 1}; {fix}, or lower model.context"
        )
