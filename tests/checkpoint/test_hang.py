"""Copies and scrubs that hang, or take longer than the job: what goes on without them, and what they do then."""

import gc
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from checkpoint_states import like, seal_steps, state_of
from test_mirror import copied, mirrored, second, until  # noqa: F401
from test_scrub import rot

from pipeline.checkpoint import Store, layout, mend, seal
from pipeline.config.tree import Checkpoint

LIKE = like(state_of(0, 8))


def test_a_device_that_hangs_delays_no_save(open_store, second, monkeypatch):  # noqa: F811
    hang = threading.Event()
    rebuild = mend.rebuild
    monkeypatch.setattr(mend, "rebuild", lambda *args: (hang.wait(60), rebuild(*args))[1])
    store = open_store(mirror_dir=second, keep=2)
    began = time.monotonic()
    seal_steps(store, 1, 2, 3, 4, kilobytes=8)
    assert time.monotonic() - began < 10
    assert store.sealed_steps == [1, 3, 4], "what is being copied is not deleted"
    hang.set()


def test_the_end_of_the_job_ends_a_slow_copy_and_the_next_start_takes_it_up(open_store, second, monkeypatch, events):  # noqa: F811
    monkeypatch.setattr("pipeline.checkpoint.keeper.PATIENCE_S", 0.2)
    real = mend._copied

    def slow(*args):
        time.sleep(0.3)
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(mend, "_copied", slow)
        with open_store(mirror_dir=second) as store:
            seal_steps(store, 1, kilobytes=8)
        assert layout.steps(second / "run/checkpoints") == []
        time.sleep(0.5)
    store = open_store(mirror_dir=second)
    assert store.restore(LIKE).step == 1
    until(store, lambda: events.of("mirrored"))
    assert [path.name for path in (second / "run/checkpoints").iterdir() if not path.name.startswith(".")] == ["1"]


def test_a_process_ends_and_with_its_own_code_although_its_second_device_hangs(second, tmp_path):  # noqa: F811
    code = (
        "import sys; from pathlib import Path\n"
        "from checkpoint_states import seal_steps\n"
        "from pipeline.checkpoint import Store, keeper; from pipeline.config.tree import Checkpoint\n"
        "keeper.PATIENCE_S, run = 0.2, Path(sys.argv[1])\n"
        "with Store(run / 'checkpoints', run / 'quarantine', Checkpoint(mirror_dir=sys.argv[2]), print) as store:\n"
        "    seal_steps(store, 1, kilobytes=8)\n"
        "sys.exit(75)"
    )
    (second / "run/checkpoints").mkdir(parents=True)
    os.mkfifo(second / "run/checkpoints/.lock")  # to open it waits for a reader, for ever
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    command = [sys.executable, "-c", code, tmp_path / "run", second]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, env={**os.environ, "PYTHONPATH": path}
    )
    assert (done.returncode, done.stderr) == (75, "")


def test_a_restore_does_without_a_device_that_hangs(open_store, second, monkeypatch, events):  # noqa: F811
    monkeypatch.setattr("pipeline.checkpoint.keeper.SETTLE_S", 0.4)
    hang, rebuild = threading.Event(), mend.rebuild
    monkeypatch.setattr(mend, "rebuild", lambda *args: (hang.wait(60), rebuild(*args))[1])
    store = open_store(mirror_dir=second)
    try:
        seal_steps(store, 1, kilobytes=8)
        began = time.monotonic()
        assert store.restore(LIKE).step == 1
        assert time.monotonic() - began < 20
        (said,) = events.of("mirror_failed")
        assert said["reason"] == f"checkpoint.mirror_dir: {second} does not answer; mount it anew"
    finally:
        hang.set()
    until(store, lambda: events.of("mirrored"))


def test_a_restore_cuts_a_slow_copy_short_and_the_copy_is_made_after_it(open_store, second, monkeypatch, events):  # noqa: F811
    monkeypatch.setattr("pipeline.checkpoint.keeper.SETTLE_S", 5.0)
    started, real = threading.Event(), mend._copied

    def slow(source, file, wanted, check):
        started.set()
        while True:
            check()
            time.sleep(0.01)

    store = open_store(mirror_dir=second)
    with monkeypatch.context() as patch:
        patch.setattr(mend, "_copied", slow)
        seal_steps(store, 1, kilobytes=8)
        until(store, started.is_set)
        patch.setattr(mend, "_copied", real)
        assert store.restore(LIKE).step == 1
    until(store, lambda: events.of("mirrored"))
    assert not events.of("mirror_failed")


def test_a_scrub_that_outlasts_the_job_keeps_the_lock_and_moves_nothing(
    mirrored,  # noqa: F811
    open_store,
    run_dir,
    events,
    monkeypatch,
):
    """Nobody would be told of it, and another process may be reading that step."""
    monkeypatch.setattr("pipeline.checkpoint.keeper.PATIENCE_S", 0.1)
    inspect, found, go_on = seal.inspect, threading.Event(), threading.Event()

    def slow(*args, **kwargs):
        wrong = inspect(*args, **kwargs)
        found.set()
        go_on.wait(30)
        return wrong

    def other_process() -> bytes:
        lock = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'ab'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
        return subprocess.run([sys.executable, "-c", lock, mirrored / ".lock"], capture_output=True, check=False).stderr

    rot(mirrored / "3")
    store = Store(mirrored, run_dir / "quarantine", Checkpoint(scrub_every_s=0.01), events)
    monkeypatch.setattr(seal, "inspect", slow)
    until(store, found.is_set)
    (job,) = [thread for thread in threading.enumerate() if thread.name == "keeper"]
    store.close()
    refused = other_process()
    go_on.set()
    job.join(30)
    assert b"BlockingIOError" in refused
    assert not events
    assert layout.steps(mirrored) == [1, 2, 3]

    open_store()  # in the same process, which lost its lock with the file that the first one had open
    del store, job
    gc.collect()
    assert b"BlockingIOError" in other_process()


def test_a_job_for_which_there_is_no_thread_is_said_and_tried_again(open_store, second, monkeypatch, events):  # noqa: F811
    def none_left(*_):
        raise RuntimeError("can't start new thread")

    store = open_store(mirror_dir=second)
    seal_steps(store, 1, kilobytes=8)
    until(store, lambda: events.of("mirrored"))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none_left)
        store._tell([("sealed", {"step": 1, "seconds": 0.1})])
        store.poll()
        store.poll()
    assert events.of("keeper_failed") == [{"reason": "can't start new thread"}]
    seal_steps(store, 2, kilobytes=8)
    until(store, lambda: len(events.of("mirrored")) == 2)


def test_damage_is_told_although_its_repair_hangs(mirrored, second, open_store, events, monkeypatch):  # noqa: F811
    monkeypatch.setattr("pipeline.checkpoint.keeper.PATIENCE_S", 0.1)
    mending, hang = threading.Event(), threading.Event()
    monkeypatch.setattr(mend, "rebuild", lambda *args: (mending.set(), hang.wait(30)))
    store = open_store(mirror_dir=second, scrub_every_s=0.01)
    assert store.restore(LIKE).step == 3
    rot(mirrored / "3")
    until(store, lambda: events.of("quarantined"))
    assert mending.wait(30)
    assert store.sealed_steps == [1, 2]
    assert store.wants_save, "or a notice would be answered with a step that is gone"
    store.close()
    hang.set()
    assert [event["step"] for event in events.of("quarantined")] == [3]


def test_a_restore_waits_for_a_scrub_of_the_steps_that_it_restores_from(mirrored, open_store, events, monkeypatch):  # noqa: F811
    monkeypatch.setattr("pipeline.checkpoint.keeper.SETTLE_S", 0.1)
    inspect, found = seal.inspect, threading.Event()

    def slow(*args, cold=False):
        wrong = inspect(*args, cold=cold)
        if cold:
            found.set()
            time.sleep(0.5)
        return wrong

    rot(mirrored / "3")
    store = open_store(scrub_every_s=0.01)
    monkeypatch.setattr(seal, "inspect", slow)
    until(store, found.is_set)
    (job,) = [thread for thread in threading.enumerate() if thread.name == "keeper"]
    at_work = []
    monkeypatch.setattr("pipeline.checkpoint.store.recover", lambda *_: at_work.append(job.is_alive()))
    store.restore(LIKE)
    assert at_work == [False]
