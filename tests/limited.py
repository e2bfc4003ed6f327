"""Limits of this process, as a disk or a machine at its end has them."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def limited(what: int, most: int) -> Iterator[None]:
    """`what`: resource.RLIMIT_NOFILE, that nothing more can be opened, or RLIMIT_FSIZE, bytes of a file."""
    soft, hard = resource.getrlimit(what)
    resource.setrlimit(what, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(what, (soft, hard))
