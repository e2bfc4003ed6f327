"""The download, against a real server that breaks off: resumed, checked, never half taken for whole."""

import fcntl
import hashlib
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pipeline.config import BadInput
from pipeline.corpus import download
from pipeline.corpus.cache import Cache
from pipeline.corpus.download import tiny_shakespeare

CONTENT = bytes(range(256)) * 4000


class Server(ThreadingHTTPServer):
    breaks_after: list[int]  # bytes sent to each of the first requests
    ranged = True
    content = CONTENT

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []
        self.breaks_after = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/input.txt"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.server.ranged else 0
        body = self.server.content[start:]
        if asked and not body:
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.server.breaks_after.pop(0)] if self.server.breaks_after else body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "TINY_SHAKESPEARE_SHA256", hashlib.sha256(CONTENT).hexdigest())
    monkeypatch.setattr(download, "_wait", lambda seconds, tick: tick())
    with Server() as made:
        threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
        yield made
        made.shutdown()


@pytest.fixture
def get(server: Server, tmp_path: Path) -> Callable[[], Path]:
    return lambda: tiny_shakespeare(Cache(tmp_path), server.url)


def test_a_broken_download_goes_on_where_it_broke(server: Server, get: Callable[[], Path]) -> None:
    server.breaks_after = [300_000, 100_000]
    assert get().read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-", "bytes=400000-"]


def test_it_is_downloaded_once(server: Server, get: Callable[[], Path]) -> None:
    assert get() == get()
    assert len(server.asked) == 1


def test_what_another_launch_downloaded_meanwhile_is_taken(server: Server, tmp_path: Path) -> None:
    lock = (tmp_path / "lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)

    def while_waiting() -> None:
        (tmp_path / "tiny-shakespeare.txt").write_bytes(CONTENT)
        lock.close()

    assert tiny_shakespeare(Cache(tmp_path, while_waiting), server.url).read_bytes() == CONTENT
    assert server.asked == []


def test_what_a_killed_launch_left_is_gone_on_with(server: Server, get: Callable[[], Path], tmp_path: Path) -> None:
    (tmp_path / "tiny-shakespeare.txt.part").write_bytes(CONTENT[:1000])
    assert get().read_bytes() == CONTENT
    assert server.asked == ["bytes=1000-"]


def test_a_server_without_ranges_starts_again(server: Server, get: Callable[[], Path]) -> None:
    server.breaks_after, server.ranged = [300_000], False
    assert get().read_bytes() == CONTENT


def test_a_wrong_beginning_or_too_much_of_it_is_thrown_away(
    server: Server, get: Callable[[], Path], tmp_path: Path
) -> None:
    for wrong in (b"x" * 1000, CONTENT + b"more"):
        (tmp_path / "tiny-shakespeare.txt.part").write_bytes(wrong)
        assert get().read_bytes() == CONTENT
        (tmp_path / "tiny-shakespeare.txt").unlink()


def test_a_damaged_file_is_downloaded_again(server: Server, get: Callable[[], Path]) -> None:
    get().write_bytes(b"y" + CONTENT[1:])
    assert get().read_bytes() == CONTENT


def test_a_wrong_content_is_refused(server: Server, get: Callable[[], Path], tmp_path: Path) -> None:
    server.content = b"another file"
    with pytest.raises(BadInput, match=r"SHA-256.*--corpus\.path FILE"):
        get()
    assert not (tmp_path / "tiny-shakespeare.txt").exists()


def test_no_network_says_how_to_give_a_local_copy(tmp_path: Path, server: Server) -> None:
    with pytest.raises(BadInput, match=r"corpus\.source: tiny-shakespeare: .*--corpus\.path FILE"):
        tiny_shakespeare(Cache(tmp_path), "http://127.0.0.1:9/input.txt")
