"""Files that are tokens already, as nanoGPT and llm.c write them: mapped where they lie."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.config import BadInput, stopped_by
from pipeline.config.learning import Corpus as CorpusConfig
from pipeline.corpus.files import find
from pipeline.corpus.progress import Tick, progress
from pipeline.corpus.sink import Part, TokenSink
from pipeline.corpus.tokenizer import Tokens, token_dtype

_HEADER = 256  # int32s at the head of an llm.c file: magic, version, number of tokens
_MAGIC: dict[int, tuple[int, np.dtype]] = {20240520: (1, np.dtype(np.uint16)), 20240801: (7, np.dtype(np.uint32))}
_BLOCK = 1 << 22  # tokens


@dataclass(frozen=True)
class Segment:
    """Tokens [start, stop) of one file."""

    path: Path
    dtype: np.dtype
    offset: int  # of token 0 [bytes]
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def map(self) -> Tokens:
        """The tokens, read-only, memory-mapped."""
        at = self.offset + self.start * self.dtype.itemsize
        return np.memmap(self.path, self.dtype, "r", at, (len(self),))


def find_tokens(config: CorpusConfig) -> tuple[list[Segment], list[Segment]]:
    """(train, held-out) segments under `corpus.path`.

    Files named train and val, if there are both, are what they say; otherwise the tail of all is held out.

    Raises:
        BadInput: no files, a damaged or unknown one, or a split that token files do not have.
    """
    pattern = str(config.path)
    if config.split == "documents":
        raise BadInput("corpus.split: documents, but token files do not show where documents end; use split: tail")
    found, searched = find(pattern)
    paths = [path for _, path in found if path.suffix == ".bin" or not searched]
    if not paths:
        raise BadInput(f"corpus.path: {pattern}: the folder holds no .bin files; give the folder of the token files")
    segments = [_open(path, token_dtype(config.vocab_size)) for path in paths]
    limit = int(config.limit_mb * 1e6) if config.limit_mb else None
    train = [segment for segment in segments if _named("train", segment.path)]
    held_out = [segment for segment in segments if _named("val", segment.path)]
    if not train or not held_out:
        segments = _cut(segments, 0, limit)
        total = sum(len(segment) for segment in segments)
        cut = int(total * (1 - config.held_out))
        return _tokens(segments, 0, cut), _tokens(segments, cut, total)
    for segment in segments:
        if segment not in train and segment not in held_out:
            raise BadInput(
                f"corpus.path: {segment.path}: neither train nor val in its name, unlike others; move it away"
            )
    return _cut(train, 0, limit), _cut(held_out, 0, limit)


def scan(segments: list[Segment], vocab_size: int, copy_to: Path | None, tick: Tick) -> Part:
    """Reads every token once; writes them to `copy_to` if given.

    Raises:
        BadInput: a token outside the vocabulary.
    """
    size = sum(len(segment) * segment.dtype.itemsize for segment in segments)
    with TokenSink(copy_to, vocab_size) as sink, progress("read tokens", size, tick) as advance:
        for segment in segments:
            for start in range(segment.start, segment.stop, _BLOCK):
                # Read, not mapped: mapped pages would count as this process's memory.
                count = min(_BLOCK, segment.stop - start)
                at = segment.offset + start * segment.dtype.itemsize
                block = np.fromfile(segment.path, segment.dtype, count, offset=at)
                if (largest := int(block.max())) >= vocab_size:
                    raise BadInput(
                        f"corpus.vocab_size: {vocab_size}, but {segment.path} holds token {largest} at position "
                        f"{start + int(np.argmax(block))}; set corpus.vocab_size to that of its tokenizer"
                    )
                sink.add(block)
                advance(block.nbytes)
        return sink.part()


def _open(path: Path, raw_dtype: np.dtype) -> Segment:
    size = path.stat().st_size
    try:
        header = np.fromfile(path, np.int32, _HEADER)
    except OSError as error:
        raise stopped_by(error, f"corpus.path: {path}: cannot be read", "make the file readable") from error
    if len(header) == _HEADER and int(header[0]) in _MAGIC:
        version, dtype = _MAGIC[int(header[0])]
        stored = (size - header.nbytes) / dtype.itemsize
        if header[1] != version:
            raise BadInput(f"corpus.path: {path}: llm.c version {header[1]}, but {version} is known; write it anew")
        if header[2] != stored:
            raise BadInput(f"corpus.path: {path}: {header[2]} tokens announced, {stored:g} there; copy the file again")
        return Segment(path, dtype, header.nbytes, 0, int(header[2]))
    if size % raw_dtype.itemsize:
        raise BadInput(
            f"corpus.path: {path}: {size} bytes are no whole number of {raw_dtype} tokens; give a raw token file as "
            "nanoGPT or llm.c write it (uint32 where corpus.vocab_size is above 65536)"
        )
    return Segment(path, raw_dtype, 0, 0, size // raw_dtype.itemsize)


def _named(word: str, path: Path) -> bool:
    return re.search(rf"(^|[^a-z]){word}([^a-z]|$)", path.stem.lower()) is not None


def _cut(segments: list[Segment], start: int, limit_bytes: int | None) -> list[Segment]:
    """At most `limit_bytes` of tokens from the beginning."""
    itemsize = max((segment.dtype.itemsize for segment in segments), default=1)
    stop = sum(len(segment) for segment in segments) if limit_bytes is None else limit_bytes // itemsize
    return _tokens(segments, start, stop)


def _tokens(segments: list[Segment], start: int, stop: int) -> list[Segment]:
    """Tokens [start, stop) of the segments laid end to end."""
    kept, before = [], 0
    for segment in segments:
        low, high = max(start - before, 0), min(stop - before, len(segment))
        if low < high:
            kept.append(replace(segment, start=segment.start + low, stop=segment.start + high))
        before += len(segment)
    return kept
