"""Tokenizers: nothing lost, no code of ours needed to read them, the fast ways equal to the library's own."""

import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from pipeline.config import BadInput
from pipeline.corpus.tokenizer import bpe_tokenizer, byte_tokenizer, char_tokenizer, encode, read, token_dtype

SAMPLE = [
    "The orbit is 94 minutes.\n\tIt's dark for 32: naïve café, 衛星 🛰️.\r\n" * 20,
    "def f(x):\n    return x + 1\n" * 20,
]
BPE = bpe_tokenizer(iter(SAMPLE), 400, lambda: None)


@given(st.text())
@settings(max_examples=200, deadline=None)
def test_every_text_comes_back_from_bytes_characters_and_bpe(text: str) -> None:
    for tokenizer in (byte_tokenizer(), char_tokenizer(set(text) | {"a"}), BPE):
        tokens = encode(tokenizer, text)
        assert tokenizer.decode(tokens.tolist(), skip_special_tokens=False) == text
        assert tokens.tolist() == tokenizer.encode(text).ids, "the fast way differs from the library's"


@given(st.text())
@settings(max_examples=100, deadline=None)
def test_a_byte_token_is_the_value_of_its_byte(text: str) -> None:
    assert encode(byte_tokenizer(), text).tolist() == list(text.encode())


def test_every_byte_has_its_own_value_as_its_id() -> None:
    made = byte_tokenizer()
    assert made.get_vocab_size() == 256
    text = "".join(map(chr, range(0x110000 - 0x100000, 0x3000)))
    assert made.encode(text).ids == list(text.encode())


@pytest.mark.parametrize(
    "made", [byte_tokenizer(), char_tokenizer(set("abc \n'é衛")), BPE], ids=["byte", "char", "bpe"]
)
def test_a_saved_tokenizer_loads_without_our_code(made: Tokenizer, tmp_path: Path) -> None:
    made.save(str(tmp_path / "tokenizer.json"))
    loaded = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    text = "a b\nc'é衛"
    assert loaded.encode(text).ids == encode(made, text).tolist() == encode(loaded, text).tolist()
    assert loaded.decode(loaded.encode(text).ids) == text


def test_bpe_of_the_same_sample_is_the_same_tokenizer() -> None:
    assert bpe_tokenizer(iter(SAMPLE), 400, lambda: None).to_str() == BPE.to_str()


def test_an_unknown_character_is_named_and_not_dropped() -> None:
    with pytest.raises(BadInput, match=r"corpus.tokenizer: char does not know '€' \(U\+20AC\).*byte or bpe"):
        encode(char_tokenizer(set("abc")), "ab€c")


def test_a_tokenizer_that_is_read_neither_cuts_nor_pads_a_text(tmp_path: Path) -> None:
    """As published ones do to prompts."""
    cutting = Tokenizer.from_str(BPE.to_str())
    cutting.enable_truncation(5)
    cutting.enable_padding(length=9)
    cutting.save(str(tmp_path / "tokenizer.json"))
    text = SAMPLE[0]
    assert encode(read(tmp_path / "tokenizer.json"), text).tolist() == encode(BPE, text).tolist()
    assert len(encode(read(tmp_path / "tokenizer.json", as_it_is=True), text)) == 9


def test_a_text_that_a_tokenizer_fails_on_is_refused() -> None:
    """Rust panics at a pattern that goes back too often; what that raises is no Exception."""
    panicking, unknowing = Tokenizer.from_str(BPE.to_str()), Tokenizer(models.WordLevel({"a": 0}, unk_token="none"))
    panicking.pre_tokenizer = pre_tokenizers.Split(Regex("(x+x+)+y"), "isolated")
    for made in (panicking, unknowing):
        with pytest.raises(BadInput, match=r"corpus\.tokenizer: fails on this text \(.*give another tokenizer\.json"):
            encode(made, "x" * 30)


def test_a_tick_that_raises_stops_bpe_training() -> None:
    """Its thread too, which aborts the process where it reads on while Python closes."""

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bpe_tokenizer((f"{i} word{i * 7919} " * 50 for i in range(20000)), 30000, stop)
    assert "bpe-training" not in [thread.name for thread in threading.enumerate()]


def test_ids_above_uint16_get_uint32() -> None:
    assert token_dtype(65536) == np.uint16
    assert token_dtype(65537) == np.uint32
    many = char_tokenizer({chr(i) for i in range(0x10000, 0x10000 + 70000)})
    assert encode(many, chr(0x10000 + 69999)).tolist() == [69999]
