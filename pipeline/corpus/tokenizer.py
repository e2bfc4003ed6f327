"""Byte, character and BPE tokenizers, all as `tokenizers.Tokenizer`: their files load without any code of ours."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from pipeline.config import BadInput
from pipeline.corpus.progress import Tick

Tokens = UInt[np.ndarray, " tokens"]


def token_dtype(vocab_size: int) -> np.dtype:
    """uint16, as nanoGPT stores tokens, or uint32 where the vocabulary needs it."""
    return np.dtype(np.uint16 if vocab_size <= 1 << 16 else np.uint32)


def byte_tokenizer() -> Tokenizer:
    """256 tokens; a token's id is the value of its byte."""
    # GPT-2 writes printable Latin-1 bytes as themselves, and the 68 others as U+0100, U+0101, … in order.
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    vocab = {chr(byte): byte for byte in printable} | {chr(256 + index): byte for index, byte in enumerate(others)}
    made = Tokenizer(models.BPE(vocab, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    return made


def char_tokenizer(characters: set[str]) -> Tokenizer:
    """One token per character, numbered in code point order, as nanoGPT numbers them."""
    made = Tokenizer(models.WordLevel({character: index for index, character in enumerate(sorted(characters))}))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    made.decoder = decoders.Fuse()
    return made


def bpe_tokenizer(sample: Iterator[str], vocab_size: int, tick: Tick) -> Tokenizer:
    """A byte-level BPE of at most `vocab_size` tokens, trained on `sample`; deterministic."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
    )
    failures: list[BaseException] = []
    stopped = threading.Event()

    def until_stopped() -> Iterator[str]:
        for text in sample:
            if stopped.is_set():
                raise InterruptedError
            yield text

    def train() -> None:
        try:
            made.train_from_iterator(until_stopped(), trainer)
        except BaseException as error:
            failures.append(error)

    # Merging is one long call without a callback. It runs aside (as a daemon, so that a tick that raises is obeyed at
    # once) while this thread goes on polling.
    worker = threading.Thread(target=train, daemon=True, name="bpe-training")
    worker.start()
    try:
        while worker.is_alive():
            worker.join(0.05)
            tick()
    finally:
        stopped.set()
        worker.join(1.0)  # one that still reads while Python closes would abort the process
    if failures:
        raise failures[0]
    return made


def read(path: Path, as_it_is: bool = False) -> Tokenizer:
    """The tokenizer in the file at `path`, without what its makers did to prompts: cut and padded, a text would lose
    most of itself.

    Args:
        as_it_is: with that too, as a run had it that began when this was not left out.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no tokenizer.
    """
    data = path.read_bytes()
    try:
        found = Tokenizer.from_str(data.decode())
    except BaseException as error:  # tokenizers raises bare Exception, and what is none where Rust panics
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise ValueError(f"not a tokenizer ({error})") from error
    if not as_it_is:
        found.no_truncation()
        found.no_padding()
    return found


def rows(tokenizer: Tokenizer) -> int:
    """How many rows an embedding needs for it: the largest id and one. There may be fewer tokens, ids with holes."""
    return max(tokenizer.get_vocab().values(), default=-1) + 1


def encode(tokenizer: Tokenizer, text: str) -> Tokens:
    """The tokens of `text`.

    Raises:
        BadInput: a character that a `char` tokenizer does not know.
    """
    return encoder(tokenizer)([text.encode()])


def encoder(tokenizer: Tokenizer) -> Callable[[list[bytes]], Tokens]:
    """A function from pieces of UTF-8 text to their tokens, end to end. NumPy does it for bytes and characters.

    It raises BadInput for a character that a `char` tokenizer does not know, and for a text that any other fails on.
    """
    dtype = token_dtype(rows(tokenizer))
    definition = tokenizer.to_str()
    if definition == byte_tokenizer().to_str():
        return lambda pieces: np.frombuffer(b"".join(pieces), np.uint8).astype(dtype)
    vocab = tokenizer.get_vocab()
    characters = {token for token in vocab if len(token) == 1}
    if len(characters) == len(vocab) and definition == char_tokenizer(characters).to_str():
        return _char_encoder(vocab, dtype)

    def encode_pieces(pieces: list[bytes]) -> Tokens:
        try:
            batch = tokenizer.encode_batch_fast([piece.decode() for piece in pieces], add_special_tokens=False)
        except BaseException as error:  # as in `read`
            if type(error).__name__ not in ("Exception", "PanicException"):
                raise
            raise BadInput(f"corpus.tokenizer: fails on this text ({error}); give another tokenizer.json") from error
        return np.concatenate([np.array([], dtype), *(np.array(one.ids, dtype) for one in batch)])

    return encode_pieces


def _char_encoder(vocab: dict[str, int], dtype: np.dtype) -> Callable[[list[bytes]], Tokens]:
    table = np.full(0x110000, -1, np.int32)
    for character, index in vocab.items():
        table[ord(character)] = index

    def encode_pieces(pieces: list[bytes]) -> Tokens:
        points = np.frombuffer(b"".join(pieces).decode().encode("utf-32-le"), np.uint32)
        tokens = table[points]
        if (tokens < 0).any():
            unknown = chr(points[np.argmax(tokens < 0)])
            raise BadInput(
                f"corpus.tokenizer: char does not know {unknown!r} (U+{ord(unknown):04X}), which its training text "
                "lacked; leave it out, or train with corpus.tokenizer: byte or bpe"
            )
        return tokens.astype(dtype)

    return encode_pieces
