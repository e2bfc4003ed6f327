"""Processes that do not outlive the one that started them, even if that is killed."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[2]  # holds this package, and train.py

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


def train(arguments: Sequence[str], errors: IO[bytes], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """`train.py run`, as a person starts it who looks at no display.

    In a session of its own: Ctrl-C at the terminal is for its parent, which ends it itself.
    """
    return subprocess.Popen(
        bound([sys.executable, str(ROOT / "train.py"), "run", *arguments]),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        start_new_session=True,
        env={**environment, "TERM": "dumb"},
    )


def importing(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` of a child that imports this package, wherever it works."""
    path = os.pathsep.join(filter(None, [str(ROOT), environment.get("PYTHONPATH")]))
    return {**environment, "PYTHONPATH": path}
