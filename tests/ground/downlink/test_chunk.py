"""The form of a chunk: what is not exactly one is refused, in bounded memory."""

import hashlib
import json
import random
import struct
import tracemalloc
from typing import Any

import pytest
import zstandard

from pipeline.ground.downlink.chunk import LARGEST, LARGEST_CHUNK, MAGIC, Head, Malformed, Version, decode, encode

DIGEST = "ab" * 32
FIELDS: dict[str, Any] = {"at": [1.5, 7], "file": ["a/b", 100, DIGEST], "offset": 10, "length": 20}
FIELDS |= {"base": None, "kept": 0, "together": 0}


def raw(head: bytes, payload: bytes = b"x" * 20) -> bytes:
    rest = struct.pack(">I", len(head)) + head + payload
    return MAGIC + hashlib.sha256(rest).digest() + rest


def with_head(**changed: Any) -> bytes:
    return raw(json.dumps(FIELDS | changed).encode())


@pytest.mark.parametrize("base", [b"", b"\x00" * 300, b"older, and shorter", bytes(range(256)) * 4])
def test_a_chunk_gives_back_its_bytes_with_any_base(base: bytes) -> None:
    content = random.Random(0).randbytes(300) + b"words " * 30
    old = Version("a", len(base), DIGEST) if base else None
    head = Head((7, 1.5), Version("a/b", 1000, DIGEST), 200, len(content), old)
    base = base[: len(content)]
    address, data = encode(head, content, base)
    chunk = decode(data)
    assert (chunk.head, chunk.address) == (head, address)
    assert chunk.content(base) == content
    assert encode(head, content, base) == (address, data), "equal content has an equal address"


def test_text_and_small_differences_are_compressed() -> None:
    content = b"the same line again\n" * 500
    head = Head((0, 0.0), Version("a", len(content), DIGEST), 0, len(content))
    assert len(encode(head, content)[1]) < 0.1 * len(content)
    noise = random.Random(0).randbytes(10000)
    nearly = bytes((byte + (byte % 7 == 0)) % 256 for byte in noise)
    assert len(encode(head, nearly)[1]) > 0.9 * len(nearly)
    assert len(encode(head, nearly, noise)[1]) < 0.3 * len(nearly)


def test_every_flip_and_every_cut_is_found() -> None:
    _, data = encode(Head((0, 0.0), Version("a", 40, DIGEST), 0, 40), random.Random(1).randbytes(40))
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Malformed):
            decode(bytes(flipped))
    for length in range(len(data)):
        with pytest.raises(Malformed):
            decode(data[:length])
    with pytest.raises(Malformed):
        decode(data + b"\0")


def test_the_form_that_the_cases_below_break_is_right() -> None:
    assert decode(with_head()).content() == b"x" * 20
    assert decode(with_head()).head.at == (7, 1.5)
    assert decode(with_head(base=["a/b", 5, DIGEST], kept=5)).head.kept == 5
    assert decode(with_head(base=["b", 5, DIGEST])).head.base == Version("b", 5, DIGEST)


@pytest.mark.parametrize(
    "data",
    [
        with_head(file=["../b", 100, DIGEST]),
        with_head(file=["/b", 100, DIGEST]),
        with_head(file=["b", 100, DIGEST.upper()]),
        with_head(file=["b", -1, DIGEST]),
        with_head(file=["b", 1 << 60, DIGEST]),
        with_head(file=["b", True, DIGEST]),
        with_head(file=["b", 100]),
        with_head(file={"path": "b"}),
        with_head(file=[7, 100, DIGEST]),
        with_head(offset=90),
        with_head(offset=-1),
        with_head(length=LARGEST + 1, file=["b", 1 << 30, DIGEST]),
        with_head(length=2.0),
        with_head(kept=5),
        with_head(base=["../b", 100, DIGEST]),
        with_head(base=["a/b", 4, DIGEST], kept=5),
        with_head(base=["b", 5, DIGEST], kept=5),
        with_head(at=[float("nan"), 0]),
        with_head(at=[1e300, 0]),
        with_head(at=[0]),
        with_head(together=1 << 40),
        with_head(more=1),
        raw(b"[]"),
        raw(b"{}"),
        raw(b"not JSON"),
        raw(b"\xff\xfe"),
        raw(b"[" * 16000),
        raw(b'{"at": 1' + b"0" * 5000 + b"}"),
        raw(b" " * 20000),
        b"",
        b"\0" * (LARGEST_CHUNK + 1),
    ],
)
def test_what_is_no_chunk_is_refused(data: bytes) -> None:
    with pytest.raises(Malformed):
        decode(data)


@pytest.mark.parametrize("declared", [True, False])
def test_a_payload_that_swells_is_refused_before_it_does(declared: bool) -> None:
    swollen = zstandard.ZstdCompressor(write_content_size=declared).compress(b"\0" * (200 << 20))
    data = raw(json.dumps(FIELDS).encode(), swollen)
    tracemalloc.start()
    with pytest.raises(Malformed, match="another length"):
        decode(data).content()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 << 20
    with pytest.raises(Malformed, match="does not decompress"):
        decode(raw(json.dumps(FIELDS).encode(), b"not zstd")).content()
