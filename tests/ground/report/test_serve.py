"""`report --follow` answers this computer, under its own name, and nobody else."""

import json
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import pytest
from ledger_lines import BEFORE, event, step

from pipeline.config import BadInput
from pipeline.ground.report.serve import Server

ROOT = Path(__file__).parents[3]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "ledger.jsonl").write_text("".join(json.dumps(line) + "\n" for line in BEFORE))
    return tmp_path / "run"


@pytest.fixture
def server(run: Path) -> Iterator[Server]:
    with Server(run, 0) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def ask(server: Server, path: str, host: str | None = None, method: str = "GET") -> tuple[HTTPResponse, bytes]:
    connection = HTTPConnection("127.0.0.1", server.server_address[1], timeout=60)
    connection.request(method, path, headers={"Host": host} if host is not None else {})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer, body


def test_the_page_is_made_anew_when_the_ledger_has_grown(server: Server, run: Path) -> None:
    answer, page = ask(server, "/")
    assert answer.status == 200
    assert b"step 30" in page
    assert ask(server, "/")[1] == page, "nothing new: the same page"
    state = ask(server, "/state")[1]
    assert f'data-live="{state.decode()}"'.encode() in page
    with (run / "ledger.jsonl").open("a") as file:
        file.write(json.dumps(step(40, 40.0, 3.0)) + "\n")
    assert ask(server, "/state")[1] != state
    assert b"step 40" in ask(server, "/")[1]


def test_another_ledger_in_its_place_is_read_from_its_beginning(server: Server, run: Path) -> None:
    ask(server, "/")
    (run / "ledger.jsonl").write_text(json.dumps(event("launch", 0.0, 0)) + "\n")
    page = ask(server, "/")[1]
    assert b"from 1 line of ledger.jsonl" in page


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "", "127.0.0.1:{port}.x"]
)
def test_a_request_under_another_name_is_refused(host: str, server: Server) -> None:
    answer, body = ask(server, "/", host.format(port=server.server_address[1]))
    assert answer.status == 403
    assert b"Dayside" not in body


def test_localhost_is_its_name_too(server: Server) -> None:
    assert ask(server, "/state", f"localhost:{server.server_address[1]}")[0].status == 200


def test_nothing_else_is_served_and_nothing_can_be_sent(server: Server) -> None:
    for path in ("/ledger.jsonl", "/../ledger.jsonl", "/index.html", "/?x"):
        assert ask(server, path)[0].status == 404
    for method in ("POST", "PUT", "DELETE"):
        assert ask(server, "/", method=method)[0].status == 501
    answer, body = ask(server, "/", method="HEAD")
    assert (answer.status, body) == (200, b"")
    assert int(answer.headers["Content-Length"]) > 1_000_000


def test_a_browser_that_has_gone_before_it_had_the_page_is_no_news(
    server: Server, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    ended, close = threading.Event(), server.shutdown_request
    monkeypatch.setattr(server, "shutdown_request", lambda request: (close(request), ended.set()))
    with socket.create_connection(server.server_address) as browser:
        browser.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        browser.sendall(f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{server.server_address[1]}\r\n\r\n".encode())
    assert ended.wait(60)
    assert capfd.readouterr().err == ""
    assert ask(server, "/")[0].status == 200


def test_it_listens_on_loopback_alone(server: Server) -> None:
    assert server.socket.getsockname()[0] == "127.0.0.1"
    others = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    for address in others - {"127.0.0.1"}:
        if not str(address).startswith("127."):
            with pytest.raises(OSError, match=r"refused|timed out"):
                socket.create_connection((address, server.server_address[1]), timeout=2)


def test_a_port_that_is_taken_is_one_line(server: Server, run: Path) -> None:
    with pytest.raises(BadInput, match=rf"--port: {server.server_address[1]}: .*give another"):
        Server(run, server.server_address[1])


def test_ctrl_c_ends_it_in_good_order(run: Path) -> None:
    command = [sys.executable, str(ROOT / "train.py"), "report", str(run), "--follow", "--port", "0"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a suite in the background ignores it
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    assert first.startswith("http://127.0.0.1:")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
