"""Nothing goes on that was started by a process which is no more."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.flight.child import bound

STARTS = """
import subprocess
from pipeline.flight.child import bound
print(subprocess.Popen(bound(["sleep", "60"]), start_new_session=True).pid, flush=True)
input()
"""


def is_gone(process: int) -> bool:
    """Ended, whether or not somebody has asked how."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.skipif(sys.platform != "linux", reason="of Linux alone")
def test_who_is_killed_leaves_nobody_behind() -> None:
    with subprocess.Popen([sys.executable, "-c", STARTS], stdin=-1, stdout=-1, text=True) as starter:
        assert starter.stdout
        started = int(starter.stdout.readline())
        time.sleep(0.3)
        assert not is_gone(started)
        starter.kill()
    give_up = time.monotonic() + 10.0
    while not (ended := is_gone(started)) and time.monotonic() < give_up:
        time.sleep(0.01)
    if not ended:
        os.kill(started, signal.SIGKILL)
    assert ended


def test_a_bound_command_says_and_answers_what_it_would_unbound() -> None:
    command = [sys.executable, "-c", "import sys; print(sys.argv[1:]); sys.exit(3)", "--x", "a b"]
    done = subprocess.run(bound(command), capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (3, "['--x', 'a b']\n", "")
