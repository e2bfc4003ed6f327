"""A folder that one process at a time writes into, also where the one before has removed it."""

import fcntl
import os
import threading
from pathlib import Path

import pytest

from pipeline.ground.held import held


def test_who_waits_for_a_folder_that_is_removed_holds_the_new_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, there, leave = tmp_path / "deep" / "out", threading.Event(), threading.Event()

    def wait() -> None:
        with held(folder):
            there.set()
            leave.wait(30.0)

    second = threading.Thread(target=wait)
    with held(folder):
        second.start()
        assert not there.wait(0.3)
        folder.rmdir()
    assert there.wait(30.0)
    assert capsys.readouterr().err == f"{folder}: waits for another process that writes there\n"
    handle = os.open(folder, os.O_RDONLY)
    with pytest.raises(BlockingIOError):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    leave.set()
    second.join()
    fcntl.flock(handle, fcntl.LOCK_EX)
    os.close(handle)
