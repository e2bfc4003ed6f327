"""What happens to sealed steps later: copied to a second device, read again now and then, repaired from each other.

All of it in one thread, which is not the thread that saves: a second device that is slow, full, gone or hung delays
neither a save nor the training, nor for long a rollback in flight or the end of the process. A launch does without one
that is known to hang; one that begins to hang while it is asked holds that launch or rollback up.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from pipeline.checkpoint import mend, seal
from pipeline.checkpoint.place import Event, Place
from pipeline.checkpoint.seal import Damaged
from pipeline.config import BadInput
from pipeline.config.tree import Checkpoint

PATIENCE_S = 10.0  # at the end of the job, for the copy under way
# Before a restore, for whatever is under way. Nothing is at stake meanwhile, for what is in memory will be thrown away;
# and what takes so long is hung, and not a slow device that is about to repair the very step that is wanted.
SETTLE_S = 60.0


class Lost(Exception):
    """The second device cannot be used now; the message says why."""


class Stopped(Exception):
    """What is under way is to end."""


_outlasted: list["Keeper"] = []  # never let go: with one of its files every lock that this process has on it would go


class Keeper:
    """Mirror and scrub of one run's checkpoints.

    `sealed`, `poll`, `settle`, `events` and `close` are for the thread that owns the store. `second` and `repair` are
    for it too, after `settle`.
    """

    def __init__(self, home: Place, config: Checkpoint, claim: Callable[[], None], hangs: bool) -> None:
        self._home, self._config, self._claim = home, config, claim
        self._mirror: Place | None = None
        if config.mirror_dir:
            run = config.mirror_dir.absolute() / home.directory.parent.name
            self._mirror = Place(run / "checkpoints", run / "quarantine", "mirror")
        self._is_open = False
        self._hangs = hangs  # the second device, when last asked
        self._said_lost = False
        self._told: deque[Event] = deque()  # filled in either thread
        self._job: threading.Thread | None = None
        self._at = home  # whose device the job waits for
        self._stop = threading.Event()
        self._wanted: int | None = None  # step to be copied
        self._sealed = self._copied = 0  # so many steps; up to which of them they were copied
        self._read_s: dict[tuple[str, int], float] = {}  # when each copy of each step was last read
        self._scrubbed_s = time.monotonic()

    # ---- in the thread of the store ----

    def sealed(self, step: int, count: int = 1) -> None:
        """Takes note that `step` was sealed, the last of `count`: every `mirror_every`-th is copied."""
        self._sealed += count
        if self._mirror and self._sealed - self._copied >= self._config.mirror_every:
            self._wanted = step

    def poll(self) -> list[Event]:
        """What has happened since the last call; begins what is due."""
        done = self.events()
        if self._busy():
            return done
        if self._wanted is not None:
            step, self._wanted = self._wanted, None
            self._begin(self._copy, step, self._sealed)
        elif time.monotonic() - self._scrubbed_s >= self._config.scrub_every_s:
            self._scrubbed_s = time.monotonic()
            self._begin(self._scrub)
        return done

    def events(self) -> list[Event]:
        """What has happened since the last call; begins nothing."""
        return [self._told.popleft() for _ in range(len(self._told))]

    def settle(self) -> None:
        """Waits for what is under way, and ends it if that takes long; begins nothing.

        A second device that does not answer is waited for no longer, and `second` does without it. The run's own is:
        the restore needs it too, and a step must not go to quarantine while it is restored from.
        """
        enough_s, until_s = time.monotonic() + SETTLE_S / 10, time.monotonic() + SETTLE_S
        while self._busy() and (self._at is self._home or time.monotonic() < until_s):
            if time.monotonic() > enough_s:
                self._stop.set()
            self._wait(0.1)

    def close(self) -> list[Event]:
        """Ends the copies: those that are due get some seconds, and are taken up again at the next start. Lets go of
        both directories."""
        until_s, done = time.monotonic() + PATIENCE_S, list[Event]()
        self._scrubbed_s = until_s  # no more of that
        while (self._wanted is not None or self._busy()) and time.monotonic() < until_s:
            done += self.poll()
            self._wait(until_s - time.monotonic())
        self._stop.set()
        self._wait(1.0)
        if self._busy():  # what goes on needs the locks, and the end of the process lets go of them
            _outlasted.append(self)
        else:
            self._home.close()
            if self._mirror:
                self._mirror.close()
        return done + self.events()

    def second(self) -> Place | None:
        """The second device, or None: there is none, or it cannot be used, which is said once."""
        try:
            if self._mirror and (self._hangs or self._busy()):
                raise Lost(f"checkpoint.mirror_dir: {self._mirror.directory.parents[1]} does not answer; mount it anew")
            return self._opened()
        except (Lost, OSError) as error:
            self._lost(error)
            return None

    def repair(self, place: Place, step: int, damaged: list[Path]) -> None:
        """Makes `step` whole again in `place`, from what is left of it there and from the other device."""
        self._at = self._mirror or self._home
        try:
            other = self._opened() if place is self._home else self._home
        except (Lost, OSError) as error:
            self._lost(error)
            return
        if other is None:
            return
        begun_s = time.perf_counter()
        with other.holding(step) as there:
            if not there:
                return
            try:
                mend.rebuild(step, [*damaged, other.path(step)], place.directory, self._check)
            except (Damaged, OSError, Stopped) as error:
                self._told.append(place.event("repair_failed", step=step, reason=str(error) or "cut short"))
                return
        self._told.append(place.event("repaired", step=step, seconds=time.perf_counter() - begun_s))

    def _busy(self) -> bool:
        """Whether a job is under way."""
        if self._job and not self._job.is_alive():
            self._job = None
            self._stop.clear()
        return self._job is not None

    def _begin(self, work: Callable[..., None], *about: int) -> None:
        # The threads of an executor are waited for when the process ends, and one that hangs would be for ever.
        job = threading.Thread(target=self._work, args=(work, *about), name="keeper", daemon=True)
        try:
            job.start()
        except RuntimeError as error:  # no room for one now
            self._told.append(("keeper_failed", {"reason": str(error)}))
        else:
            self._job = job

    def _wait(self, seconds: float) -> None:
        if self._job:
            self._job.join(max(seconds, 0.0))

    # ---- in a thread of its own ----

    def _work(self, work: Callable[..., None], *about: int) -> None:
        try:
            work(*about)
        except Stopped:
            pass
        except Exception as error:  # whatever it was, training goes on and says so
            self._told.append(("keeper_failed", {"reason": f"{type(error).__name__}: {error}"}))

    def _copy(self, step: int, count: int) -> None:
        """The last of `count` steps that were sealed."""
        begun_s = time.perf_counter()
        assert self._mirror
        self._at = self._mirror
        try:
            mirror = self._opened()
            assert mirror
            with self._home.holding(step) as there:
                if not there:
                    return  # thinned out meanwhile: a newer one will be copied
                if step in mirror.steps() and (wrong := seal.inspect(mirror.path(step), step, cold=True)[1]):
                    self._told.append(mirror.set_aside(step, wrong))
                if step not in mirror.steps():
                    size = seal.read(self._home.path(step), step).size
                    shortage, room = mirror.make_room(size, self._config.keep, self._config.min_free_mb)
                    self._told.extend(room)
                    if shortage:
                        raise Lost(shortage)
                    mend.rebuild(step, [self._home.path(step)], mirror.directory, self._check)
        except Damaged:  # found sooner than by a scrub
            self._inspect(self._home, step)
        except (Lost, OSError) as error:
            self._lost(error)
        else:
            self._said_lost, self._copied = False, count
            self._told.append(("mirrored", {"step": step, "seconds": time.perf_counter() - begun_s}))
            self._told.extend(mirror.thin_out(self._config.keep, self._config.keep_orbits_s))

    def _scrub(self) -> None:
        """Reads the copy of a step that was not read for longest, the newest step first."""
        self._at = self._mirror or self._home
        places = [self._home] + ([self._mirror] if self._mirror and self._is_open else [])
        copies = [(place, step) for place in places for step in reversed(place.steps())]
        if copies:
            self._inspect(*min(copies, key=lambda copy: self._read_s.get((copy[0].name, copy[1]), -1.0)))

    def _inspect(self, place: Place, step: int) -> None:
        """Reads one copy of a step from the medium; a damaged one goes to quarantine and is made anew."""
        self._at, begun_s = place, time.perf_counter()
        with place.holding(step) as there:
            if not there:
                return
            try:
                reasons = seal.inspect(place.path(step), step, cold=True)[1]
                if reasons:
                    self._check()  # after `settle` or `close`, a restore or another process may be reading it
                    came = place.set_aside(step, reasons)
                else:
                    came = place.event("scrubbed", step=step, seconds=time.perf_counter() - begun_s)
            except OSError as error:  # the machine's trouble
                reasons, came = [], place.event("scrub_failed", step=step, reason=str(error))
        self._read_s[place.name, step] = time.monotonic()
        self._told.append(came)
        if reasons:
            self.repair(place, step, [Path(came[1]["path"])])

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
            self._is_open, self._hangs = True, False
            where = self._mirror.directory
            self._told.append(("mirror_opened", {"path": str(where)}))
            if os.stat(where).st_dev == os.stat(self._home.directory).st_dev:
                reason = f"{where} is on the run's own device: it guards against damage, not against the device's loss"
                self._told.append(("mirror_shares_device", {"reason": reason}))
        return self._mirror

    def _lost(self, error: Exception) -> None:
        """One line when a device is lost, and not one at every save."""
        if not self._said_lost:
            self._told.append(("mirror_failed", {"reason": str(error)}))
        self._said_lost = True

    def _check(self) -> None:
        if self._stop.is_set():
            raise Stopped
