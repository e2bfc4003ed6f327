"""A program compiled beside other work: half of a cold start is the compiler, and it uses one core of several."""

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import Any


class Ahead:
    """Stands for a jitted function, which is being compiled for arguments of these shapes; a call waits for that."""

    def __init__(self, function: Callable[..., Any], *shapes: Any):
        self._function, self._program = function, Future[Any]()
        self._thread = Thread(target=self._compile, args=shapes, name="compile")
        self._thread.start()

    @property
    def under_way(self) -> bool:
        return not self._program.done()

    def close(self) -> None:
        """Waits: a process that ends under its compiler may crash."""
        self._thread.join()

    def _compile(self, *shapes: Any) -> None:
        try:
            self._program.set_result(self._function.lower(*shapes).compile())  # type: ignore[attr-defined]
        except BaseException as error:  # raised where the program is called
            self._program.set_exception(error)

    def __call__(self, *arguments: Any) -> Any:
        return self._program.result()(*arguments)
