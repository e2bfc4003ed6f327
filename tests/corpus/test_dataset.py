"""The whole room: what is opened is the text that was given, split as was asked, with honest figures."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers
from variations import slow

from pipeline.config import BadInput
from pipeline.config.learning import Corpus as CorpusConfig
from pipeline.corpus import encode, open_corpus
from pipeline.corpus.python_docs import python_docs
from pipeline.corpus.tokenise import _sample

SHAKESPEARE = Path(__file__).parents[3] / "shared/data/tinyshakespeare.txt"
needs_shakespeare = pytest.mark.skipif(not SHAKESPEARE.exists(), reason="no ../shared/data/tinyshakespeare.txt here")


@needs_shakespeare
def test_tiny_shakespeare_is_split_and_numbered_as_nanogpt_does(configure: Callable[..., CorpusConfig]) -> None:
    corpus = open_corpus(configure(source="tiny-shakespeare", path=str(SHAKESPEARE), tokenizer="char"), 256, 0)
    assert (corpus.vocab_size, len(corpus.train), len(corpus.held_out)) == (65, 1_003_854, 111_540)
    text = SHAKESPEARE.read_text()
    numbers = {character: index for index, character in enumerate(sorted(set(text)))}
    assert corpus.train[:1000].tolist() == [numbers[character] for character in text[:1000]]
    assert corpus.held_out.tolist() == [numbers[character] for character in text[1_003_854:]]
    assert corpus.held_out_bytes == 111_540
    assert corpus.held_out_windows(256).shape == (435, 257)


@needs_shakespeare
def test_bpe_never_sees_the_held_out_text(configure: Callable[..., CorpusConfig], tmp_path: Path) -> None:
    text = SHAKESPEARE.read_text()
    (tmp_path / "other.txt").write_text(text[:1_003_854] + "zqxj " * (111_540 // 5))
    settings = {"tokenizer": "bpe", "vocab_size": 1000}
    one = open_corpus(configure(path=str(SHAKESPEARE), **settings), 16, 0)
    other = open_corpus(configure(path=str(tmp_path / "other.txt"), **settings), 16, 0)
    assert one.tokenizer
    assert other.tokenizer
    assert one.tokenizer.to_str() == other.tokenizer.to_str()
    assert one.content_hash != other.content_hash
    assert one.tokenizer.decode(one.train.tolist()) == text[:1_003_854]
    assert one.tokenizer.decode(one.held_out.tolist()) == text[1_003_854:]


def test_python_docs_are_varied_and_the_same_every_time(configure: Callable[..., CorpusConfig]) -> None:
    names = [item.name for item in python_docs()]
    assert names == [item.name for item in python_docs()]
    kinds = [name.split("/")[0] for name in names]
    sources = kinds.index(next(kind for kind in kinds if kind not in ("reference", "docstrings")))
    assert set(kinds[:sources]) == {"reference", "docstrings"}
    assert not {"test", "tests", "site-packages", "pydoc_data"} & {part for name in names for part in name.split("/")}
    assert len({kind for kind in kinds[sources : sources + 100] if not kind.endswith(".py")}) >= 5, "not spread"
    corpus = open_corpus(configure(source="python-docs", limit_mb=1), 64, 0)
    assert len(corpus.train) + len(corpus.held_out) == 1_000_000
    assert bytes(corpus.train[:200].astype("u1")).decode().startswith("The")


def test_documents_are_joined_by_a_blank_line_and_split_whole(
    configure: Callable[..., CorpusConfig], tmp_path: Path
) -> None:
    lines = [json.dumps({"text": f"<{i}>" + "é" * i + "</>"}) for i in range(100)] + ['{"text": ""}']
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    corpus = open_corpus(configure(path=str(tmp_path / "a.jsonl"), split="documents"), 8, 0)
    train, held_out = (bytes(part.astype("u1")).decode() for part in (corpus.train, corpus.held_out))
    pieces = [part.strip().split("\n\n") for part in (train, held_out)]
    assert [len(part) for part in pieces] == [90, 10]
    assert {*pieces[0], *pieces[1]} == {json.loads(line)["text"] for line in lines[:-1]}
    assert corpus.held_out_bytes == len(held_out.encode())


def test_a_limit_in_megabytes_cuts_between_characters(configure: Callable[..., CorpusConfig], tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a" + "衛" * 10_000)
    corpus = open_corpus(configure(path=str(tmp_path / "a.txt"), limit_mb=0.003), 8, 0)
    data = bytes(np.concatenate([corpus.train, corpus.held_out]).astype("u1"))
    assert 2996 < len(data) <= 3000
    data.decode()


def test_unigram_loss_is_the_cross_entropy_of_smoothed_counts(
    configure: Callable[..., CorpusConfig], tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("a" * 60 + "b" * 30 + "ab" * 5)
    corpus = open_corpus(configure(path=str(tmp_path / "a.txt"), tokenizer="char"), 4, 0)
    assert corpus.unigram_loss == pytest.approx(-(math.log(61 / 92) + math.log(31 / 92)) / 2)


def test_another_text_is_encoded_by_the_tokenizer_of_the_run(
    configure: Callable[..., CorpusConfig], tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("abc\n" * 100)
    (tmp_path / "b.txt").write_text("cba\n" * 100)
    (tmp_path / "c.txt").write_text("abd\n" * 100)
    trained = open_corpus(configure(path=str(tmp_path / "a.txt"), tokenizer="char"), 8, 0).tokenizer
    assert trained
    other = open_corpus(configure(path=str(tmp_path / "b.txt")), 8, 0, tokenizer=trained)
    assert other.tokenizer is trained
    assert other.train[:4].tolist() == encode(trained, "cba\n").tolist()
    with pytest.raises(BadInput, match="'d'"):
        open_corpus(configure(path=str(tmp_path / "c.txt")), 8, 0, tokenizer=trained)


def test_a_tokenizer_whose_ids_have_holes_is_counted_by_its_largest(
    configure: Callable[..., CorpusConfig], tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("ab" * 100)
    holes = Tokenizer(models.BPE({"a": 0, "b": 70_000}, []))
    corpus = open_corpus(configure(path=str(tmp_path / "a.txt")), 8, 0, tokenizer=holes)
    assert corpus.vocab_size == 70_001
    assert corpus.train[:4].tolist() == [0, 70_000, 0, 70_000]


def test_tokens_that_are_not_the_bytes_of_the_text_have_no_bits_per_byte(
    configure: Callable[..., CorpusConfig], tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("Ab" * 100)
    lower = Tokenizer(models.BPE({"a": 0, "b": 1, "A": 2}, []))
    lower.decoder = decoders.Fuse()
    losses = np.ones(8)
    for normalizer, bits in ((None, 1.0), (normalizers.Strip(), 1.0), (normalizers.Replace("A", ""), None)):
        if normalizer:
            lower.normalizer = normalizer
        corpus = open_corpus(configure(path=str(tmp_path / "a.txt")), 4, 0, tokenizer=lower)
        windows = corpus.held_out_windows(4)
        found = corpus.bits_per_byte(losses[: len(windows)], windows)
        lower.decoder = decoders.WordPiece()  # as tokens cached by an earlier version may have
        assert replace(corpus, tokenizer=lower).bits_per_byte(losses[: len(windows)], windows) is None
        lower.decoder = decoders.Fuse()
        if bits is None:
            assert (found, corpus.bits_per_nat) == (None, None)
        else:
            assert found is not None
            assert found.mean() == pytest.approx(bits / math.log(2))


def test_validation_with_a_longer_window_than_the_text_is_refused(
    configure: Callable[..., CorpusConfig], tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("abc\n" * 100)
    corpus = open_corpus(configure(path=str(tmp_path / "a.txt")), 8, 0)
    assert len(corpus.held_out_windows(39)) == 1
    with pytest.raises(BadInput, match=r"model\.context: 40, but the held-out text has only 40 tokens"):
        corpus.held_out_windows(40)


MEASURE = r"""
import re, sys, time
from pathlib import Path
from pipeline.config.learning import Corpus
from pipeline.corpus import open_corpus
path, tokenizer, cache = sys.argv[1:]
ticks = []
start = time.perf_counter()
config = Corpus(source="text", path=path, tokenizer=tokenizer, cache_dir=Path(cache))
open_corpus(config, 1024, 0, lambda: ticks.append(time.perf_counter()))
seconds = time.perf_counter() - start
gap = max(b - a for a, b in zip(ticks, ticks[1:]))
again = time.perf_counter()
open_corpus(config, 1024, 0)
again = time.perf_counter() - again
# Not ru_maxrss: Linux hands that of the parent, here pytest with JAX, on to the child.
peak_kib = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])
print(peak_kib * 1024 / 1e9, Path(path).stat().st_size / 1e6 / seconds, gap, again)
"""


def write_text(path: Path, megabytes: int) -> None:
    """Text with ever new words, one line of 20 MB, and numbers: nothing that repeats, which would be too easy."""
    source = b"\n\n".join(item.path.read_bytes() for item in python_docs()[-150:] if item.path)
    rng = np.random.default_rng(0)
    with path.open("wb") as file:
        file.write(b"abc " * 5_000_000)
        while file.tell() < megabytes * 1_000_000:
            file.write(source)
            file.write(" ".join(map(str, rng.integers(0, 10**9, 20_000))).encode() + b"\n")


def measure(path: Path, tokenizer: str, cache: Path) -> tuple[float, float, float, float]:
    """Peak memory [GB], speed [MB/s], longest time between two ticks [s], time to open the cached corpus [s]."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path), tokenizer, str(cache)], capture_output=True, text=True, check=True
    )
    peak_gb, speed, gap_s, again_s = map(float, done.stdout.split())
    sys.stdout.write(
        f"{tokenizer}: {path.stat().st_size / 1e6:.0f} MB, peak {peak_gb:.2f} GB, {speed:.1f} MB/s, "
        f"longest wait for a tick {gap_s:.2f} s, cached {again_s:.2f} s\n"
    )
    return peak_gb, speed, gap_s, again_s


@pytest.mark.parametrize("tokenizer", ["byte", "char", *slow("bpe")])
def test_a_large_file_is_tokenised_in_bounded_memory(tokenizer: str, tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", 200 if tokenizer != "bpe" else 60)
    peak_gb, _, gap_s, _ = measure(tmp_path / "a.txt", tokenizer, tmp_path / "cache")
    assert peak_gb < 0.6
    assert gap_s < 5, "a notice would wait"


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("tokenizer", ["byte", "bpe"])
def test_two_gigabytes_are_tokenised_in_one_and_a_half(tokenizer: str, tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", 2000)
    peak_gb, _, _, again_s = measure(tmp_path / "a.txt", tokenizer, tmp_path / "cache")
    assert peak_gb < 1.5
    assert again_s < 2
    os.unlink(tmp_path / "a.txt")


def test_a_bpe_learns_from_even_pieces_as_many_as_its_vocabulary_asks_for(
    configure: Callable[..., CorpusConfig], tmp_path: Path
) -> None:
    """2 KiB a token: of 4 MB a sixth. Were it the first, most words would have no token."""
    words = [f"{'abcdefghij'[i] * 6} " for i in range(10)]
    (tmp_path / "text.txt").write_text("".join(word * 60_000 for word in words))
    spooled = np.array([[0, (tmp_path / "text.txt").stat().st_size]])
    taken = sum(map(len, _sample(tmp_path / "text.txt", spooled, 500_000)))
    assert 400_000 < taken <= 500_000
    corpus = open_corpus(configure(path=str(tmp_path / "text.txt"), tokenizer="bpe", vocab_size=300), 16, 0)
    assert corpus.tokenizer
    vocabulary = corpus.tokenizer.get_vocab()
    assert all(word[:2] in vocabulary for word in words[:9])  # the last tenth is held out
