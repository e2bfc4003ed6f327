"""The control arms: the same outages on another way of saving, which must lose what it acknowledged.

An injector that such a way of saving survives has broken nothing. Stock Orbax, without flush and seal, loses its last
checkpoint in a power cut, takes flipped bits for good, and ends the training on a full disk. It survives SIGKILL; there
the control is what most training scripts do, one file written anew in place.
"""

import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.config import RunFailed
from pipeline.drill import saver
from pipeline.drill.damage import files, wound
from pipeline.drill.disk import Disk
from pipeline.drill.tally import Control
from pipeline.flight.child import bound, importing

PATIENCE_S = 120.0
HANG_S = 900.0  # a large state on a slow disk takes minutes
STOCK, OVERWRITE = "stock", "overwrite"
ARMS = {STOCK: "stock Orbax, no flush, no seal", OVERWRITE: "one file written anew in place"}
MOST_FAULTS = 20  # where an arm has lost nothing yet: a kill may miss the moment of writing a few times
SMALLEST_BYTES = 16 << 20  # a state smaller than this is written too quickly to be caught at it


class Bench:
    """Where control arms run: `at` is a free directory, on `disk` if there is one."""

    def __init__(
        self, at: Path, disk: Disk | None, dice: random.Random, environment: Mapping[str, str], state_bytes: int
    ) -> None:
        self.at, self.disk, self.dice = at, disk, dice
        self.size = max(state_bytes, SMALLEST_BYTES)
        self._environment = {**importing(environment), "JAX_PLATFORMS": "cpu"}

    @contextmanager
    def saver(self, arm: str) -> Iterator["Saver"]:
        """A program that saves into an empty directory; ended and swept away afterwards."""
        shutil.rmtree(self.at, ignore_errors=True)
        started = Saver(arm, self.at, self.size, self._environment)
        try:
            yield started
        finally:
            started.kill()
            shutil.rmtree(self.at, ignore_errors=True)

    def saved(self, arm: str) -> tuple[int, Path]:
        """A step that is saved, and the directory that holds it, which is made once."""
        directory = self.at.with_name(f"{self.at.name}-{arm}")
        if not directory.exists():
            with self.saver(arm) as program:
                program.until("sealed", 1)
                program.kill()
                shutil.copytree(self.at, directory)
        return max(int(path.name) for path in directory.iterdir() if path.name.isdigit()), directory

    def holds(self, arm: str, step: int) -> bool:
        """Whether that step, or a later one, can be restored to the bit."""
        found = saver.restored(arm, self.at)
        return found is not None and self.is_right(found, step)

    def is_right(self, found: tuple[int, Any], step: int) -> bool:
        """Whether what was restored is of that step or a later one, and what the program saves there."""
        return found[0] >= step and saver.same(found[1], saver.state(found[0], self.size))


class Saver:
    """saver.py in a process of its own."""

    def __init__(self, arm: str, directory: Path, size: int, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            bound([sys.executable, "-m", saver.__name__, arm, str(directory), str(size)]),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
            env=environment,
        )
        self.sealed = 0  # the last step that it acknowledged
        self._over = False

    def until(self, word: str, step: int) -> None:
        """Reads what it says until it says `word` of a step from `step` on.

        Raises:
            RunFailed: it ended first, or hangs.
        """
        assert self._process.stdout is not None
        with self._no_longer_than(HANG_S):
            for line in self._process.stdout:
                said, number = line.split()
                if said == "sealed":
                    self.sealed = int(number)
                if said == word and int(number) >= step:
                    return
        raise RunFailed("the control arm ended by itself, or hung; see its program, pipeline/drill/saver.py")

    def kill(self) -> None:
        """SIGKILL, if it has not ended; what it had acknowledged and was not yet read is read."""
        if not self._over:
            self._process.kill()
            self.drain()

    def ended(self) -> bool:
        """Whether it ends by itself, in a while."""
        with self._no_longer_than(PATIENCE_S):
            self.drain()
        return self._process.returncode != -signal.SIGKILL

    @contextmanager
    def _no_longer_than(self, seconds: float) -> Iterator[None]:
        """Then it is killed."""
        watch = threading.Timer(seconds, self._process.kill)
        watch.daemon = True
        watch.start()
        try:
            yield
        finally:  # on Ctrl-C too: the drill would wait for the thread
            watch.cancel()

    def drain(self) -> None:
        assert self._process.stdout is not None
        rest = [line.split() for line in self._process.stdout]
        self.sealed = max([self.sealed, *(int(line[1]) for line in rest if line[0] == "sealed")])
        self._process.wait(PATIENCE_S)
        self._process.stdout.close()
        self._over = True


def control(kinds: Iterable[str], faults: int, bench: Bench) -> list[Control]:
    """The control arms of kinds of outages, and what each lost of the steps that it had acknowledged.

    Args:
        faults: for each arm; one that has lost nothing by then gets more, up to MOST_FAULTS.

    Raises:
        RunFailed: a program ends by itself.
    """
    power = "power-cut" if bench.disk else "kill"  # what a brown-out does here
    names: dict[str, list[str]] = {}
    for kind in kinds:
        names.setdefault(power if kind == "brown-out" else kind, []).append(kind)
    found = []
    for name, stands_for in names.items():
        arm, fault = FAULTS[name]
        tried = lost = 0
        while tried < faults or (not lost and tried < MOST_FAULTS):
            tried, lost = tried + 1, lost + fault(bench, arm)
        found.append(Control(", ".join(stands_for), ARMS[arm], tried, lost))
    return found


def _killed(bench: Bench, arm: str) -> bool:
    with bench.saver(arm) as program:
        program.until("saving", bench.dice.randint(2, 4))
        began = time.monotonic()
        program.until("sealed", 0)
        length_s = time.monotonic() - began
        program.until("saving", 0)
        time.sleep(bench.dice.uniform(0.0, length_s))
        program.kill()
        return not bench.holds(arm, program.sealed)


def _cut(bench: Bench, arm: str) -> bool:
    assert bench.disk is not None
    with bench.saver(arm) as program:
        program.until("sealed", 1)
        time.sleep(bench.dice.uniform(0.0, 0.5))
        bench.disk.cut()
        program.kill()
        bench.disk.remount()
        return not bench.holds(arm, program.sealed)


def _flipped(bench: Bench, arm: str) -> bool:
    """Whether a flipped bit is restored as if it had always been so."""
    step, directory = bench.saved(arm)
    shutil.copytree(directory, bench.at)
    candidates = files(bench.at / str(step))
    sizes = [path.stat().st_size for path in candidates]
    made = wound(bench.dice.choices(candidates, sizes)[0], bench.dice, ("one bit",))
    found = saver.restored(arm, bench.at)
    taken = not made.harmless and found is not None and not bench.is_right(found, step)
    shutil.rmtree(bench.at)
    return taken


def _full(bench: Bench, arm: str) -> bool:
    """Whether the training ends."""
    assert bench.disk is not None
    with bench.saver(arm) as program:
        program.until("sealed", 1)
        with bench.disk.full():
            return program.ended()


FAULTS: dict[str, tuple[str, Callable[[Bench, str], bool]]] = {
    "kill": (OVERWRITE, _killed),
    "power-cut": (STOCK, _cut),
    "bit-flip": (STOCK, _flipped),
    "disk-full": (STOCK, _full),
}
