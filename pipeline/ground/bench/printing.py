"""Tables of the benches, for a terminal."""

from collections.abc import Callable, Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

WIDTH = 130  # of the widest table: it is piped as often as read


def console() -> Console:
    return Console(highlight=False, width=WIDTH)


def tabulate(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table whose first column is of names and the others of figures."""
    made = Table(box=box.SIMPLE_HEAD, title=title, padding=(0, 1, 0, 0))
    for heading in headings:
        made.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for row in rows:
        made.add_row(*row)
    return made


def spanning(spread: Mapping[str, float], unit: Callable[[float], str]) -> str:
    """Median, and in brackets least and most."""
    return f"{unit(spread['median'])} ({unit(spread['least'])} to {unit(spread['most'])})"


def verdict(holds: bool | None) -> str:
    return "" if holds is None else "holds" if holds else "DOES NOT HOLD"
