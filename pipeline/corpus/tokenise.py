"""Documents -> one spooled text -> two files of tokens. In bounded memory, whatever the size of a document."""

from array import array
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from pipeline.config import BadInput
from pipeline.config.learning import Corpus as CorpusConfig
from pipeline.corpus.files import Input, documents, whole_characters
from pipeline.corpus.progress import Tick, progress
from pipeline.corpus.sink import Part, TokenSink
from pipeline.corpus.split import Ranges, name_hash, split_documents, split_tail
from pipeline.corpus.token_bytes import token_lengths
from pipeline.corpus.tokenizer import bpe_tokenizer, byte_tokenizer, char_tokenizer, encoder, rows

SEPARATOR = b"\n\n"  # between documents
_PIECE = 1 << 16  # bytes encoded as one string
_BATCH = 1 << 20  # bytes encoded at once; `tokenizers` needs some hundred bytes for each token meanwhile
# A BPE learns its merges from at most this much training text [bytes], in pieces spread evenly over it. Its trainer's
# memory grows with the number of different words. 2 KiB a token of the vocabulary: 0.3 % more tokens than from three
# times as much, in less than half of the time (Python's documentation, 1,024 tokens).
BPE_SAMPLE = 32 << 20
BPE_SAMPLE_A_TOKEN = 2 << 10


def tokenise(
    config: CorpusConfig, inputs: list[Input], given: Tokenizer | None, folder: Path, tick: Tick
) -> tuple[Tokenizer, Part, Part, int | None]:
    """Writes `train.bin` and `held_out.bin` into `folder`; returns tokenizer, both parts, and held-out bytes of text:
    None where the tokens of a tokenizer that was given are not that text, as one that lower-cases makes them.

    Raises:
        BadInput: the text is unreadable, empty, or has too few documents for the split asked for.
    """
    spool = folder / "text"
    starts, hashes = _spool(config, inputs, spool, tick)
    size = spool.stat().st_size
    if not size:
        raise BadInput(f"corpus.path: {config.path}: there is no text in it; give files that are not empty")
    if config.split == "tail":
        train, held_out = split_tail(spool, config.held_out)
    else:
        train, held_out = split_documents(starts, hashes, size, config.held_out)
    tokenizer = given or _new_tokenizer(config, spool, train, size, tick)
    encode = encoder(tokenizer)
    with progress("tokenise", size, tick) as advance:
        parts = [
            _encode_part(spool, ranges, encode, folder / name, rows(tokenizer), advance)
            for name, ranges in (("train.bin", train), ("held_out.bin", held_out))
        ]
    spool.unlink()
    held_out_bytes = int((held_out[:, 1] - held_out[:, 0]).sum())
    whole = True
    if given:
        lengths = token_lengths(given)
        whole = lengths is not None and int(parts[1].counts @ lengths) == held_out_bytes
    return tokenizer, parts[0], parts[1], held_out_bytes if whole else None


def _spool(config: CorpusConfig, inputs: list[Input], spool: Path, tick: Tick) -> tuple[np.ndarray, np.ndarray]:
    """Writes all text into one file; returns where documents start [bytes] and the hashes of their names."""
    left = int(config.limit_mb * 1e6) if config.limit_mb else None
    starts, hashes = array("q"), array("Q")
    with spool.open("wb") as file, progress("read text", sum(item.size for item in inputs), tick) as advance:
        for name, blocks in chain.from_iterable(documents(item, config.field) for item in inputs):
            begun = False
            for block in blocks:
                if block and not begun:
                    starts.append(file.tell())
                    hashes.append(name_hash(name))
                    block = SEPARATOR + block if file.tell() else block
                    begun = True
                if left is not None:
                    block = block[: whole_characters(block[:left])]
                    left -= len(block)
                file.write(block)
                advance(len(block))
                if left is not None and left < 4:  # no room that every character would fit
                    return np.array(starts), np.array(hashes, np.uint64)
    return np.array(starts), np.array(hashes, np.uint64)


def _new_tokenizer(config: CorpusConfig, spool: Path, train: Ranges, size: int, tick: Tick) -> Tokenizer:
    if config.tokenizer == "byte":
        return byte_tokenizer()
    if config.tokenizer == "bpe":
        most = min(BPE_SAMPLE, BPE_SAMPLE_A_TOKEN * config.vocab_size)
        return bpe_tokenizer(_sample(spool, train, most), config.vocab_size, tick)
    characters: set[str] = set()
    with progress("collect characters", size, tick) as advance:
        for piece in _pieces(spool, np.array([[0, size]])):
            characters.update(piece.decode())
            advance(len(piece))
    return char_tokenizer(characters)


def _sample(spool: Path, train: Ranges, most: int) -> Iterator[str]:
    """Training text by even pieces, `most` bytes at most."""
    total = int((train[:, 1] - train[:, 0]).sum())
    share = min(1.0, most / max(1, total))
    seen = taken = 0
    for piece in _pieces(spool, train):
        seen += len(piece)
        if taken + len(piece) <= seen * share:
            taken += len(piece)
            yield piece.decode()


def _pieces(spool: Path, ranges: Ranges) -> Iterator[bytes]:
    """The text of `ranges`, cut at line ends where there are any, else between characters."""
    with spool.open("rb") as file:
        for start, stop in ranges.tolist():
            while start < stop:
                file.seek(start)
                piece = file.read(min(_PIECE, stop - start))
                if start + len(piece) < stop:
                    line_end = piece.rfind(b"\n") + 1
                    piece = piece[: line_end or whole_characters(piece)]
                yield piece
                start += len(piece)


def _encode_part(
    spool: Path,
    ranges: Ranges,
    encode: Callable[[list[bytes]], np.ndarray],
    path: Path,
    vocab_size: int,
    advance: Callable[[int], None],
) -> Part:
    with TokenSink(path, vocab_size) as sink:
        batch: list[bytes] = []
        waiting = 0
        for piece in _pieces(spool, ranges):
            batch.append(piece)
            waiting += len(piece)
            if waiting >= _BATCH:
                sink.add(encode(batch))
                advance(waiting)
                batch, waiting = [], 0
        sink.add(encode(batch))
        advance(waiting)
        return sink.part()
