"""A full disk costs no line, and no line is written twice or out of order."""

import json
import os
import select
import signal
import threading
import time
from pathlib import Path

import pytest

from pipeline.flight.appender import Appender
from pipeline.flight.ledger import Ledger
from pipeline.ground.tail import Tail

FULL = Path("/dev/full")  # the kernel's own: every write is refused with ENOSPC

pytestmark = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")


def give_room(appender: Appender, path: Path) -> None:
    """From now on its file takes what is written, as a disk that has been cleared."""
    made = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(made, appender._file)
    os.close(made)


def test_what_a_full_disk_refused_is_written_first_when_there_is_room(tmp_path: Path) -> None:
    appender = Appender(FULL)
    for number in range(5):
        appender.write(f"{number}\n".encode())
    give_room(appender, tmp_path / "file")
    appender.write(b"5\n")
    appender.close()
    assert (tmp_path / "file").read_text() == "0\n1\n2\n3\n4\n5\n"


def test_what_a_full_disk_refused_last_is_written_at_the_end_if_there_is_room_by_then(tmp_path: Path) -> None:
    appender = Appender(FULL)
    appender.write(b"done\n")
    give_room(appender, tmp_path / "file")
    appender.close()
    assert (tmp_path / "file").read_text() == "done\n"


def test_a_ledger_on_a_full_disk_stops_nobody_and_has_every_line_in_the_end(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append("launch")
    os.dup2(os.open(FULL, os.O_WRONLY), ledger._file._file)
    for reason in ("a", "b"):
        ledger.append("save_failed", reason=reason)
    assert [event["event"] for event in Tail(tmp_path / "ledger.jsonl").read()] == ["launch"]
    give_room(ledger._file, tmp_path / "ledger.jsonl")
    ledger.append("sealed", checkpoint=3)
    ledger.close()
    events = list(Tail(tmp_path / "ledger.jsonl").read())
    assert [event.get("reason") for event in events] == [None, "a", "b", None]
    assert events[-1]["checkpoint"] == 3


def test_other_trouble_of_the_disk_is_not_passed_over(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    os.dup2(os.open(tmp_path / "ledger.jsonl", os.O_RDONLY), ledger._file._file)
    with pytest.raises(OSError, match=f"Bad file descriptor: '{tmp_path}/ledger.jsonl'"):
        ledger.append("step", **json.loads("{}"))


def test_a_ctrl_c_in_the_middle_of_a_write_has_nothing_written_twice(tmp_path: Path) -> None:
    path, data = tmp_path / "pipe", os.urandom(200_000)
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    appender, read = Appender(path), []

    def interrupt_and_read() -> None:
        select.select([reader], [], [])
        time.sleep(0.2)  # by now the pipe is full
        os.kill(os.getpid(), signal.SIGINT)
        interrupted.wait()
        os.set_blocking(reader, True)
        while piece := os.read(reader, 1 << 16):
            read.append(piece)

    interrupted = threading.Event()
    thread = threading.Thread(target=interrupt_and_read, daemon=True)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background ignores it
    try:
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            appender.write(data)
    finally:
        signal.signal(signal.SIGINT, before)
    interrupted.set()
    appender.close()
    thread.join(10.0)
    assert b"".join(read) == data
