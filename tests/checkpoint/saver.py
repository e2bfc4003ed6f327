"""Programs that save until something stops them; they report each sealed step on their standard output, unbuffered.

saver.py loop RUN [KILOBYTES [SECOND]]   saves steps as fast as they are sealed, with copies in the directory SECOND;
    reports these too
saver.py stock RUN   the same with stock Orbax, as its documentation has it: `result()` returned means saved
saver.py faults RUN   saves that fail, each at another place, one that does not, and the threads that are left
saver.py points RUN   reads numbers N from standard input; for each, saves in RUN/N and dies at its N-th file operation
"""

import os
import resource
import sys
import threading
from pathlib import Path

import numpy as np
from checkpoint_states import like, state_of

from pipeline.checkpoint import Store, arrays
from pipeline.config.tree import Checkpoint


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def report(name: str, fields: dict) -> None:
    if name in ("sealed", "save_failed", "mirrored", "mirror_failed"):
        say(name, fields.get("step", -1), fields.get("reason", ""))


def open_store(run: Path, second: Path | None = None) -> Store:
    config = Checkpoint(keep=2, min_free_mb=0, mirror_dir=second)
    return Store(run / "checkpoints", run / "quarantine", config, report)


def loop(run: Path, kilobytes: int, second: Path | None) -> None:
    with open_store(run, second) as store:
        restored = store.restore(like(state_of(0, kilobytes)))
        step = restored.step if restored else 0
        say("ready", step)
        while True:
            step += 1
            store.save(step, state_of(step, kilobytes), {"step": step})
            store.wait(None)


def stock(run: Path) -> None:
    from orbax.checkpoint import v1 as ocp

    with ocp.training.Checkpointer(run / "checkpoints") as checkpointer:
        step = 0
        say("ready", step)
        while True:
            step += 1
            checkpointer.save_checkpointables_async(step, {"state": arrays.HostCopy().take(state_of(step))}).result()
            say("sealed", step)


def faults(run: Path) -> None:
    """Directories that cannot be made, files that may not grow past so many bytes (a limit, as a full disk is one)."""
    wide = {f"layer{i}": np.full(1 << 14, i, np.float32) for i in range(40)}
    before = threading.active_count()
    with open_store(run) as store:
        for step in (1, 2):
            (run / "checkpoints" / f"{step}.saving.orbax-checkpoint-tmp").symlink_to("nowhere")
            store.save(step, wide, {}, urgent=True)
        most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        for step, bytes_ in enumerate((*[1] * 6, 1000, 60_000, most), start=3):
            store.wait(None)
            resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_, most))
            store.save(step, wide, {})
    say("left", threading.active_count() - before, *(thread.name for thread in threading.enumerate()))


def points(run: Path) -> None:
    """One process imports everything; each child starts from there, so that a kill point costs 0.2 s in place of 2."""
    arrays.orbax()
    say("ready", 0)
    for line in sys.stdin:
        if child := os.fork():
            os.waitpid(child, 0)
            say("done", int(line))
            continue
        store, left = open_store(run / line.strip()), int(line)

        def stop(event: str, _: object) -> None:
            nonlocal left
            if event in ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate"):
                left -= 1
                if left == 0:
                    os._exit(9)

        sys.addaudithook(stop)
        for step in (1, 2, 3, 4):
            store.save(step, state_of(step), {"step": step})
            store.wait(None)
        say("over", int(line))
        os._exit(0)


if __name__ == "__main__":
    kind, run = sys.argv[1], Path(sys.argv[2])
    if kind == "loop":
        loop(run, int(sys.argv[3]) if len(sys.argv) > 3 else 64, Path(sys.argv[4]) if len(sys.argv) > 4 else None)
    else:
        {"stock": stock, "points": points, "faults": faults}[kind](run)
