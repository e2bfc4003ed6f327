"""A link between two UDP sockets on loopback that loses, doubles and reorders packets, in both directions."""

import random
import socket
import threading
from collections.abc import Callable
from types import TracebackType


class LossyLink:
    """Listens at `address` and passes on to `beyond`; what comes back goes to whoever sent last. Seeded."""

    def __init__(self, beyond: tuple[str, int], loss: float, disorder: float = 0.0, seed: int = 0):
        self.beyond, self.loss, self.disorder, self.random = beyond, loss, disorder, random.Random(seed)
        self.lost = self.passed = 0
        self.stranger: Callable[[bytes], bytes | None] = lambda data: None  # what someone else answers to a packet
        self._near, self._far = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        for side in (self._near, self._far):
            side.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            side.bind(("127.0.0.1", 0))
            side.settimeout(0.05)
        self.address: tuple[str, int] = self._near.getsockname()
        self._sender: tuple[str, int] | None = None
        self._open = True
        self._threads = [threading.Thread(target=self._carry, args=(side,)) for side in (self._near, self._far)]

    def __enter__(self) -> "LossyLink":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open = False
        for thread in self._threads:
            thread.join()
        for side in (self._near, self._far):
            side.close()

    def _carry(self, side: socket.socket) -> None:
        late: bytes | None = None
        while self._open:
            try:
                data, sender = side.recvfrom(1 << 16)
            except TimeoutError:
                continue
            if side is self._near:
                self._sender = sender
                if forged := self.stranger(data):
                    self._near.sendto(forged, sender)
            drawn = self.random.random()
            if drawn < self.loss:
                self.lost += 1
                continue
            self.passed += 1
            if drawn > 1.0 - self.disorder / 2 and late is None:
                late = data  # overtaken by the next one
                continue
            for each in [data, *([late] if late else []), *([data] if drawn > 1.0 - self.disorder else [])]:
                if side is self._near:
                    self._far.sendto(each, self.beyond)
                elif self._sender:
                    self._near.sendto(each, self._sender)
            late = None
