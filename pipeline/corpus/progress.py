"""Long work made visible and interruptible: a bar for people, a tick for the caller."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Tick = Callable[[], None]


@contextmanager
def progress(title: str, total_bytes: int | None, tick: Tick) -> Iterator[Callable[[int], None]]:
    """Yields `advance(bytes)`, which calls `tick` and moves a bar on stderr if that is a terminal.

    `tick` may raise: that is how a notice (SIGTERM, umbra) stops the work.
    """
    if not sys.stderr.isatty():

        def silent(_: int) -> None:
            tick()

        yield silent
        return

    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total_bytes)

        def advance(size: int) -> None:
            tick()
            bar.advance(task, size)

        yield advance
