"""Token files as others write them: mapped where they lie, split as they say, refused when they are wrong."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.config import BadInput
from pipeline.config.learning import Corpus as CorpusConfig
from pipeline.corpus import Corpus, open_corpus

TOKENS = np.random.default_rng(0).integers(0, 1000, 10_000)


def llm_c(path: Path, tokens: np.ndarray, magic: int = 20240520, version: int = 1) -> None:
    header = np.zeros(256, np.int32)
    header[:3] = magic, version, len(tokens)
    stored = tokens.astype(np.uint16 if magic == 20240520 else np.uint32)
    path.write_bytes(header.tobytes() + stored.tobytes())


@pytest.fixture
def opened(configure: Callable[..., CorpusConfig]) -> Callable[..., Corpus]:
    def make(path: Path, **settings: object) -> Corpus:
        return open_corpus(configure(**{"source": "tokens", "path": str(path), "vocab_size": 1000, **settings}), 16, 0)

    return make


def test_one_raw_file_is_split_at_its_tail(opened: Callable[..., Corpus], tmp_path: Path) -> None:
    TOKENS.astype(np.uint16).tofile(tmp_path / "data.bin")
    corpus = opened(tmp_path / "data.bin")
    assert isinstance(corpus.train, np.memmap)
    assert Path(str(corpus.train.filename)) == tmp_path / "data.bin", "it was copied"
    assert (corpus.train == TOKENS[:9000]).all()
    assert (corpus.held_out == TOKENS[9000:]).all()
    assert (corpus.tokenizer, corpus.held_out_bytes, corpus.vocab_size) == (None, None, 1000)


@pytest.mark.parametrize(("magic", "version"), [(20240520, 1), (20240801, 7)])
def test_llm_c_files_are_read_behind_their_header(
    opened: Callable[..., Corpus], tmp_path: Path, magic: int, version: int
) -> None:
    llm_c(tmp_path / "x_train_000001.bin", TOKENS[:5000], magic, version)
    llm_c(tmp_path / "x_train_000002.bin", TOKENS[5000:9000], magic, version)
    llm_c(tmp_path / "x_val_000000.bin", TOKENS[9000:], magic, version)
    corpus = opened(tmp_path)
    assert (corpus.train == TOKENS[:9000]).all(), "windows cannot cross the seam of shards"
    assert (corpus.held_out == TOKENS[9000:]).all()


def test_nanogpt_names_decide_what_is_held_out(opened: Callable[..., Corpus], tmp_path: Path) -> None:
    TOKENS[:2000].astype(np.uint16).tofile(tmp_path / "val.bin")
    TOKENS[2000:].astype(np.uint16).tofile(tmp_path / "train.bin")
    corpus = opened(tmp_path)
    assert (corpus.train == TOKENS[2000:]).all()
    assert (corpus.held_out == TOKENS[:2000]).all()


def test_large_vocabularies_are_uint32(opened: Callable[..., Corpus], tmp_path: Path) -> None:
    (TOKENS + 100_000).astype(np.uint32).tofile(tmp_path / "data.bin")
    assert (opened(tmp_path / "data.bin", vocab_size=120_000).train == TOKENS[:9000] + 100_000).all()


def test_a_limit_takes_the_beginning(opened: Callable[..., Corpus], tmp_path: Path) -> None:
    TOKENS.astype(np.uint16).tofile(tmp_path / "data.bin")
    corpus = opened(tmp_path / "data.bin", limit_mb=0.002)
    assert (np.concatenate([corpus.train, corpus.held_out]) == TOKENS[:1000]).all()


def test_wrong_token_files_are_refused(opened: Callable[..., Corpus], tmp_path: Path) -> None:
    TOKENS.astype(np.uint16).tofile(tmp_path / "data.bin")
    with pytest.raises(BadInput, match=r"corpus.vocab_size: 999, but .*data.bin holds token 999 at position \d+"):
        opened(tmp_path / "data.bin", vocab_size=999)
    with pytest.raises(BadInput, match=r"corpus.split: documents, .* use split: tail"):
        opened(tmp_path / "data.bin", split="documents")
    (tmp_path / "odd.bin").write_bytes(b"123")
    with pytest.raises(BadInput, match=r"odd\.bin: 3 bytes are no whole number"):
        opened(tmp_path / "odd.bin")
    llm_c(tmp_path / "cut.bin", TOKENS)
    (tmp_path / "cut.bin").write_bytes((tmp_path / "cut.bin").read_bytes()[:-100])
    with pytest.raises(BadInput, match=r"cut.bin: 10000 tokens announced, 9950 there"):
        opened(tmp_path / "cut.bin")
    llm_c(tmp_path / "new.bin", TOKENS, version=2)
    with pytest.raises(BadInput, match=r"new.bin: llm.c version 2"):
        opened(tmp_path / "new.bin")
    (tmp_path / "empty.bin").write_bytes(b"")
    with pytest.raises(BadInput, match=r"no tokens for train"):
        opened(tmp_path / "empty.bin")
    (tmp_path / "folder").mkdir()
    for name in ("train", "val", "test"):
        (tmp_path / "folder" / f"{name}.bin").write_bytes(b"1234")
    with pytest.raises(BadInput, match=r"test\.bin: neither train nor val in its name"):
        opened(tmp_path / "folder")


def test_a_flipped_bit_in_a_mapped_file_shows_in_the_content_hash(
    opened: Callable[..., Corpus], tmp_path: Path
) -> None:
    path = tmp_path / "data.bin"
    TOKENS.astype(np.uint16).tofile(path)
    before, status = opened(path).content_hash, path.stat()
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert opened(path).content_hash != before
