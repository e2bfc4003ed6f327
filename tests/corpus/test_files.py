"""Text files: found, unpacked, checked; what is wrong with one is named with its place."""

import errno
import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from pipeline.config import BadInput
from pipeline.config.learning import Corpus as CorpusConfig
from pipeline.corpus import open_corpus
from pipeline.corpus.files import documents, find_text

TEXT = "Sunlight, then shadow. naïve 衛星\n" * 3


def read(path: Path, field: str = "text") -> list[bytes]:
    return [b"".join(blocks) for item in find_text(str(path)) for _, blocks in documents(item, field)]


@pytest.mark.parametrize("kind", [".txt", ".md", ".py"])
def test_plain_and_packed_files_hold_the_same_text(kind: str, tmp_path: Path) -> None:
    data = TEXT.encode() * 50000  # several blocks, characters across their seams
    (tmp_path / f"a{kind}").write_bytes(data)
    (tmp_path / f"b{kind}.gz").write_bytes(gzip.compress(data, 1))
    half = len(data) // 2
    (tmp_path / f"c{kind}.zst").write_bytes(zstandard.compress(data[:half]) + zstandard.compress(data[half:]))
    assert read(tmp_path) == [data] * 3


def test_each_jsonl_line_is_a_document(tmp_path: Path) -> None:
    lines = [json.dumps({"id": i, "body": f"{i} é"}, ensure_ascii=bool(i % 2)) for i in range(5)]
    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(zstandard.compress(("\n".join(lines) + "\n\n").encode()))
    assert read(path, "body") == [f"{i} é".encode() for i in range(5)]


def test_a_folder_is_searched_in_the_same_order_everywhere(tmp_path: Path) -> None:
    for name in ("b/z.txt", "a.txt", "b/a.md", "c.jsonl.gz", ".hidden/x.txt", "picture.png"):
        (tmp_path / "d" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "d" / name).write_text(name)
    assert [item.name for item in find_text(str(tmp_path / "d"))] == ["a.txt", "b/a.md", "b/z.txt", "c.jsonl.gz"]
    assert [item.name for item in find_text(str(tmp_path / "d/**/*.txt"))] == ["a.txt", "b/z.txt"]


def refused(configure: Callable[..., CorpusConfig], path: Path, *words: str, **settings: object) -> None:
    with pytest.raises(BadInput) as caught:
        open_corpus(configure(path=str(path), **settings), 8, 0)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_what_is_wrong_with_a_file_is_named(configure: Callable[..., CorpusConfig], tmp_path: Path) -> None:
    def file(name: str, data: bytes) -> Path:
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    refused(configure, tmp_path / "none.txt", "corpus.path", "none.txt", "no such file")
    refused(configure, file("a.pdf", b"x"), "corpus.path", "a.pdf", "unknown kind", ".jsonl")
    refused(configure, file("late.txt", b"a" * 3_000_000 + b"\xff rest"), "late.txt", "not UTF-8", "offset 3000000")
    refused(configure, file("end.txt", b"abc\xc3"), "end.txt", "offset 3")
    refused(configure, file("a.jsonl", b'{"text": "x"}\n{"body": "x"}\n'), "corpus.field", "a.jsonl:2", '"text"')
    refused(configure, file("b.jsonl", b'{"text": "x"}\n\n{"text": \n'), "corpus.path", "b.jsonl:3")
    refused(configure, file("c.jsonl", b'{"text": "\\ud800"}\n'), "c.jsonl:1", "surrogate")
    packed = zstandard.compress(TEXT.encode() * 1000)
    refused(configure, file("a.txt.zst", packed[: len(packed) // 2]), "a.txt.zst", "damaged")
    refused(configure, file("a.txt.gz", gzip.compress(TEXT.encode() * 1000)[:-20]), "a.txt.gz", "damaged")
    refused(configure, file("empty.txt", b""), "corpus.path", "no text")
    refused(configure, file("nothing.txt.gz", b""), "nothing.txt.gz", "damaged", "empty")
    refused(configure, file("nothing.txt.zst", b""), "nothing.txt.zst", "damaged", "empty")
    refused(configure, file("deep.jsonl", b"[" * 100_000 + b"]" * 100_000), "deep.jsonl:1", "not a line of JSON")
    refused(configure, file("short.txt", b"too short for a window"), "model.context", "held-out", "corpus.held_out")
    refused(configure, file("few.txt", TEXT.encode()), "corpus.split", "only 1", "tail", split="documents")
    (tmp_path / "folder").mkdir()
    refused(configure, tmp_path / "folder", "corpus.path", "the folder holds no text")


def test_a_folder_is_read_whole_through_links_and_no_file_twice(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here / "below", there):
        folder.mkdir(parents=True)
        (folder / "a.txt").write_text(folder.name)
    (here / "link").symlink_to(there)
    (here / "below/loop").symlink_to(here)
    (here / "again.txt").symlink_to(here / "below/a.txt")
    assert sorted(read(here)) == sorted(read(here / "**/*.txt")) == [b"below", b"there"]


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shut").mkdir()
    (tmp_path / "a.txt").write_text("a")
    scandir = os.scandir

    def refused(path: str) -> object:  # root may read everything
        if str(path).endswith("shut"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(
        BadInput, match=r"corpus.path: .*/shut: cannot be read \(Permission denied\); make the folder readable"
    ):
        find_text(str(tmp_path))
