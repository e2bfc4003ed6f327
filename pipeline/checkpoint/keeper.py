"""What happens to sealed steps later: copied to a second device, read again now and then, repaired from each other.

All of it in one thread, which is not the thread that saves: a second device that is slow, full, gone or hung delays
neither a save nor the training.
"""

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

from pipeline.checkpoint import mend, seal
from pipeline.checkpoint.place import Event, Place
from pipeline.checkpoint.seal import Damaged
from pipeline.config import BadInput
from pipeline.config.tree import Checkpoint

PATIENCE_S = 10.0  # at the end of the job, for the copy under way


class Lost(Exception):
    """The second device cannot be used now; the message says why."""


class Stopped(Exception):
    """The job ends, and the copy under way with it."""


class Keeper:
    """Mirror and scrub of one run's checkpoints.

    `sealed`, `poll`, `settle` and `close` are for the thread that owns the store. `second` and `repair` are for it too,
    after `settle`.
    """

    def __init__(self, home: Place, config: Checkpoint, claim: Callable[[], None]) -> None:
        self._home, self._config, self._claim = home, config, claim
        self._mirror: Place | None = None
        if config.mirror_dir:
            run = config.mirror_dir.absolute() / home.directory.parent.name
            self._mirror = Place(run / "checkpoints", run / "quarantine", "mirror")
        self._is_open = False
        self._opening: list[Event] = []
        self._said_lost = False
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="keeper")
        self._job: Future[list[Event]] | None = None
        self._stop = threading.Event()
        self._wanted: int | None = None  # step to be copied
        self._uncopied = self._copying = 0  # sealed since the last that was copied, and when that copy began
        self._read_s: dict[tuple[str, int], float] = {}  # when each copy of each step was last read
        self._scrubbed_s = time.monotonic()

    # ---- in the thread of the store ----

    def sealed(self, step: int, count: int = 1) -> None:
        """Takes note that `step` was sealed, the last of `count`: every `mirror_every`-th is copied."""
        self._uncopied += count
        if self._mirror and self._uncopied >= self._config.mirror_every:
            self._wanted = step

    def poll(self) -> list[Event]:
        """What happened since the last call; begins what is due."""
        done = self._collect() if self._job and self._job.done() else []
        if self._opening:
            done, self._opening = self._opening + done, []
        if self._job is None:
            if self._wanted is not None:
                step, self._wanted, self._copying = self._wanted, None, self._uncopied
                self._job = self._worker.submit(self._copy, step)
            elif time.monotonic() - self._scrubbed_s >= self._config.scrub_every_s:
                self._scrubbed_s = time.monotonic()
                self._job = self._worker.submit(self._scrub)
        return done

    def settle(self) -> list[Event]:
        """Waits for what is under way; begins nothing."""
        return self._collect() if self._job else []

    def close(self) -> list[Event]:
        """Ends the copies: those that are due get some seconds, and are taken up again at the next start."""
        until_s, done = time.monotonic() + PATIENCE_S, []
        self._scrubbed_s = until_s  # no more of that
        while (self._wanted is not None or self._job) and time.monotonic() < until_s:
            done += self.poll()
            if self._job:
                wait([self._job], until_s - time.monotonic())
        self._stop.set()
        self._worker.shutdown(wait=False, cancel_futures=True)
        if self._mirror and (self._job is None or self._job.done()):
            self._mirror.close()
        return done

    def second(self) -> tuple[Place | None, list[Event]]:
        """The second device, or None: there is none, or it cannot be used, which is said once."""
        try:
            mirror = self._opened()
        except (Lost, OSError) as error:
            return None, self._lost(error)
        said, self._opening = self._opening, []
        return mirror, said

    def repair(self, place: Place, step: int, damaged: list[Path]) -> list[Event]:
        """Makes `step` whole again in `place`, from what is left of it there and from the other device."""
        try:
            other = self._opened() if place is self._home else self._home
        except (Lost, OSError) as error:
            return self._lost(error)
        if other is None:
            return []
        begun_s = time.perf_counter()
        with other.holding(step) as there:
            if not there:
                return []
            try:
                mend.rebuild(step, [*damaged, other.path(step)], place.directory, self._check)
            except (Damaged, OSError, Stopped) as error:
                return [place.event("repair_failed", step=step, reason=str(error) or "the job ends")]
        return [place.event("repaired", step=step, seconds=time.perf_counter() - begun_s)]

    def _collect(self) -> list[Event]:
        assert self._job
        try:
            events = self._job.result()
        except Exception as error:  # whatever it was, training goes on and says so
            events = [("keeper_failed", {"reason": f"{type(error).__name__}: {error}"})]
        if events and events[0][0] == "mirrored":
            self._uncopied -= self._copying
        self._job = None
        return events

    # ---- in a thread of its own ----

    def _copy(self, step: int) -> list[Event]:
        begun_s, made = time.perf_counter(), list[Event]()
        try:
            mirror = self._opened()
            assert mirror
            with self._home.holding(step) as there:
                if not there:
                    return []  # thinned out meanwhile: a newer one will be copied
                if step in mirror.steps() and (wrong := seal.inspect(mirror.path(step), step, cold=True)[1]):
                    made.append(mirror.set_aside(step, wrong))
                if step not in mirror.steps():
                    size = seal.read(self._home.path(step), step).size
                    shortage, room = mirror.make_room(size, self._config.keep, self._config.min_free_mb)
                    made += room
                    if shortage:
                        raise Lost(shortage)
                    mend.rebuild(step, [self._home.path(step)], mirror.directory, self._check)
        except Stopped:
            return []
        except Damaged:  # found sooner than by a scrub
            return self._inspect(self._home, step)
        except (Lost, OSError) as error:
            return [*made, *self._lost(error)]
        self._said_lost = False
        seconds = time.perf_counter() - begun_s
        thinned = mirror.thin_out(self._config.keep, self._config.keep_orbits_s)
        return [("mirrored", {"step": step, "seconds": seconds}), *made, *thinned]

    def _scrub(self) -> list[Event]:
        """Reads the copy of a step that was not read for longest, the newest step first."""
        places = [self._home] + ([self._mirror] if self._mirror and self._is_open else [])
        copies = [(place, step) for place in places for step in reversed(place.steps())]
        if not copies:
            return []
        return self._inspect(*min(copies, key=lambda copy: self._read_s.get((copy[0].name, copy[1]), -1.0)))

    def _inspect(self, place: Place, step: int) -> list[Event]:
        """Reads one copy of a step from the medium; a damaged one goes to quarantine and is made anew."""
        begun_s = time.perf_counter()
        with place.holding(step) as there:
            if not there:
                return []
            self._read_s[place.name, step] = time.monotonic()
            try:
                reasons = seal.inspect(place.path(step), step, cold=True)[1]
                if not reasons:
                    return [place.event("scrubbed", step=step, seconds=time.perf_counter() - begun_s)]
                aside = place.set_aside(step, reasons)
            except OSError as error:  # the machine's trouble
                return [place.event("scrub_failed", step=step, reason=str(error))]
        return [aside, *self.repair(place, step, [Path(aside[1]["path"])])]

    # ---- in either ----

    def _opened(self) -> Place | None:
        """The second device, made ready when first needed: it may come and go."""
        if self._mirror is None:
            return None
        root = self._mirror.directory.parents[1]
        if not root.is_dir():
            raise Lost(f"checkpoint.mirror_dir: {root} is not there; mount it")
        if self._is_open and not self._mirror.directory.is_dir():  # another device is in its place
            self._mirror.close()
            self._is_open = False
        if not self._is_open:
            try:
                self._claim()
                self._mirror.open()
            except BlockingIOError as error:
                raise Lost(f"checkpoint.mirror_dir: another process mirrors in {self._mirror.directory}") from error
            except BadInput as error:
                raise Lost(str(error)) from error
            self._is_open = True
            where = self._mirror.directory
            self._opening = [("mirror_opened", {"path": str(where)})]
            if os.stat(where).st_dev == os.stat(self._home.directory).st_dev:
                reason = f"{where} is on the run's own device: it guards against damage, not against the device's loss"
                self._opening.append(("mirror_shares_device", {"reason": reason}))
        return self._mirror

    def _lost(self, error: Exception) -> list[Event]:
        """One line when a device is lost, and not one at every save."""
        if self._said_lost:
            return []
        self._said_lost = True
        return [("mirror_failed", {"reason": str(error)})]

    def _check(self) -> None:
        if self._stop.is_set():
            raise Stopped
