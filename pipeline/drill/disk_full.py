"""The disk fills up to the last block while the run trains, and some time later has room again."""

import time

from pipeline.drill.launch import Launch
from pipeline.drill.outages import reach_training
from pipeline.drill.run import Run

SAYS, RESUMES, CANNOT_END = "save failed", "resumes at step", "could not be sealed"
KILLED = 0.4  # share of the outages in which the run is killed besides, and must start on the full disk
LONGER_S = 1.0


def disk_full(run: Run) -> bool:
    """Training goes on, the last sealed step stays, the run says so, and seals again when there is room.

    False if the run was done before the disk was full.
    """
    assert run.disk is not None
    if not (reach_training(run) and run.wait(lambda: run.newest is not None)):
        return False
    launch, began = run.start(), time.time()
    with run.disk.full():
        if not launch.wait(lambda: SAYS in launch.said()) and not _gave_up(launch):
            run.require_done()
            return False
        until = time.monotonic() + run.dice.uniform(0.0, LONGER_S)
        if not launch.wait(lambda: time.monotonic() >= until) and not _gave_up(launch):
            run.require_done()
            return False
        killed = not _gave_up(launch) and run.dice.random() < KILLED and run.kill("disk-full")
        if killed:
            launch = run.start()
            if not launch.wait(lambda: RESUMES in launch.said()):
                run.require_done()
        ended = time.time()
    before = run.newest or 0
    # At its last save it may give up a moment after there was room again.
    sealed = not _gave_up(launch) and run.wait(lambda: (run.newest or 0) > before)
    if not sealed and _gave_up(launch):
        launch.wait(lambda: False)
        run.stopped("disk-full")
    elif not killed:
        _recovered(run, began, ended)
    return True


def _gave_up(launch: Launch) -> bool:
    """Whether it came to its end on the full disk, and rightly did not call itself done."""
    return CANNOT_END in launch.said()


def _recovered(run: Run, began: float, ended: float) -> None:
    """The ledger tells what happened on the full disk, now that a newer step is sealed."""
    meanwhile = [event["event"] for event in run.events if began < event["wall"] < ended]
    if not set(meanwhile) - {"save_failed"}:
        run.tally.failures.append(f"{run.directory}: nothing was done while the disk was full")
    run.count("disk-full", "training")
    run.tally.resumed += 1
    run.tally.lost_steps.append(0)
    run.tally.lost_seconds.append(0.0)
