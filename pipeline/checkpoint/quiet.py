"""What Orbax and TensorStore print about a write that failed, besides the error that they raise: up to 440 lines.

It is kept back by where it comes from, and not for a time: some of it comes when the write is over already.
"""

import asyncio
import logging
import sys

_ORBAX = "/orbax/checkpoint/"
_THREADS = f"{_ORBAX}_src/futures/future.py"


def hush() -> None:
    """Keeps it back from now on. Orbax must have been imported; to be called once."""
    logging.getLogger("absl").addFilter(lambda record: not (_handed_on(record) or _swept(record)))
    logging.getLogger("asyncio").addFilter(lambda record: not _not_asked_for(record))
    told = sys.unraisablehook
    sys.unraisablehook = lambda found: None if _too_late(found) else told(found)


def _handed_on(record: logging.LogRecord) -> bool:
    """A thread of Orbax says which error it hands on, as each thread that waits for it does then."""
    return bool(record.exc_info) and record.pathname.endswith(_THREADS)


def _swept(record: logging.LogRecord) -> bool:
    """What a thread of a failed save made after that was swept is removed when the step is saved again."""
    return record.pathname.endswith(f"{_ORBAX}_src/path/atomicity.py") and "already exists" in record.getMessage()


def _not_asked_for(record: logging.LogRecord) -> bool:
    """A write failed as well, or was left, after another had failed: nobody asked for its result any more. Its error
    arose in Orbax, or in TensorStore, where no Python raised it."""
    if not record.exc_info:
        return _ORBAX in record.getMessage()
    trace = record.exc_info[2]
    return trace is None or _ORBAX in trace.tb_frame.f_code.co_filename


def _too_late(found: "sys.UnraisableHookArgs") -> bool:
    """TensorStore reports a write to an event loop that was closed when another write failed: no Python called it."""
    trace = found.exc_traceback
    closed = isinstance(found.exc_value, RuntimeError)
    return closed and trace is not None and trace.tb_frame.f_code is asyncio.BaseEventLoop.call_soon_threadsafe.__code__
