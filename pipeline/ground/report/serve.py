"""`report --follow`: the page of a live run, served to this computer and to nobody else."""

import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from pipeline.config import BadInput
from pipeline.ground.report.collect import Collector
from pipeline.ground.report.page import render

HOST = "127.0.0.1"
_NAMES = (HOST, "localhost")


class Server(ThreadingHTTPServer):
    """Serves `/`, the page as of now, and `/state`, another text whenever the ledger has grown.

    It listens on the loopback address alone, and answers no request that was sent under another name: a page of some
    other site that has its name resolve to this computer (DNS rebinding) reads nothing.

    Raises:
        BadInput: there is no ledger, or the port is taken.
    """

    daemon_threads = True

    def __init__(self, directory: Path, port: int):
        self._collector = Collector(directory)
        self._making = threading.Lock()
        self._made: tuple[str, bytes] | None = None  # state of the ledger, and the page of then
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise BadInput(f"--port: {port}: {error.strerror}; give another, or 0 for any that is free") from error
        self.names = {f"{name}:{self.server_address[1]}" for name in _NAMES}

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.server_address[1]}/"

    def state(self) -> str:
        return self._collector.state

    def page(self) -> bytes:
        """The page; made anew if the ledger has grown since the last one."""
        with self._making:
            state = self.state()
            if self._made is None or self._made[0] != state:
                self._made = state, render(self._collector.collect(), live=state).encode(errors="replace")
            return self._made[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # a browser that has gone is no news
            super().handle_error(request, client_address)


def follow(directory: Path, port: int) -> int:
    """Serves until Ctrl-C. Returns the exit code 0: there is no other way to end it."""
    with Server(directory, port) as server:
        try:
            print(f"{server.address}  follows {directory}; Ctrl-C ends it", flush=True)
            server.serve_forever()
        except KeyboardInterrupt:
            print()
    return 0


class _Handler(BaseHTTPRequestHandler):
    server: Server
    timeout = 30

    def do_GET(self) -> None:
        if self.headers.get("Host") not in self.server.names:
            return self._answer(HTTPStatus.FORBIDDEN, b"this page is for the computer that serves it\n")
        if self.path == "/":
            return self._answer(HTTPStatus.OK, self.server.page(), "text/html; charset=utf-8")
        if self.path == "/state":
            return self._answer(HTTPStatus.OK, self.server.state().encode())
        return self._answer(HTTPStatus.NOT_FOUND, b"there is / and /state\n")

    do_HEAD = do_GET

    def _answer(self, status: HTTPStatus, body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
        self.send_response(status)
        headers = {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Cross-Origin-Resource-Policy": "same-origin",
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def version_string(self) -> str:
        return "dayside"

    def log_message(self, format: str, *arguments: object) -> None:
        """A page that asks every two seconds is no news."""
