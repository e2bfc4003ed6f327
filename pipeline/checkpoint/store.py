"""The checkpoints of one running job: saved beside the training, sealed, thinned out, restored.

One worker thread does everything after the copy (to host memory; on a GPU, within its own): Orbax, fsync, SEAL, name,
retention. Orbax's own asynchronous mode is not used: it blocked 15–25 ms where the copy takes 1–10, needed 0.4–0.5 s in
place of 0.2 for 130 MB, and keeps a failed save's error until the next save, which it then does not do. Its durability
hook is not needed either: the number is given to a step after its SEAL, so no name that counts exists before every byte
under it is on the medium. A second thread, the keeper's, sees to what was sealed before.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from pipeline.checkpoint import arrays, durable, layout, restore, seal
from pipeline.checkpoint.endurance import Allowance
from pipeline.checkpoint.keeper import Keeper
from pipeline.checkpoint.place import TAG, Event, Place
from pipeline.checkpoint.recovery import recover
from pipeline.checkpoint.restore import Check, Restored
from pipeline.checkpoint.retention import UNTAGGED, Tag
from pipeline.config import BadInput, RunFailed, stopped_by
from pipeline.config.tree import Checkpoint

_EWMA = 0.3  # weight of the newest measurement
_GB = 1e9


class Store:
    """Saves and restores one run's state. Not for more than one calling thread.

    `on_event(name, fields)` is called from the caller's thread only, inside `restore`, `save`, `affords`, `poll`,
    `wait` and `close`. Fields of a step on the second device have `place: mirror` besides.

        sealed         step, bytes, seconds (start of save to sealed), blocking_s (of it, the caller stood still)
        save_failed    step, reason; the run goes on, the sealed steps stay, the next save tries again
        save_skipped   reason, next_s: the write budget is spent; once, until there is credit again
        deleted        step: thinned out after a newer one was sealed
        delete_failed  step, reason; the newer step is sealed all the same
        quarantined    step, reason, path
        quarantine_emptied  steps: of so many, all but the reasons went, to make room for a save
        repaired       step, seconds: made whole again with the other device's copy
        repair_failed  step, reason
        restored       step, verify_s, load_s
        mirror_opened  path
        mirror_shares_device  reason; once: it guards against damage, and not against the loss of the device
        mirror_failed  reason; once, until the device is usable again
        mirrored       step, seconds
        scrubbed       step, seconds: read again, and whole
        scrub_failed   step, reason: the machine's trouble, or damage that could not be moved away
        keeper_failed  reason

    `claim()` is called before the second device is used, in any thread; it raises BadInput where that is another's. One
    that `mirror_hangs` is asked for nothing in the caller's thread until it has answered the thread that copies.

    Raises:
        BadInput: the directory cannot be written, or its disk is too small.
        RunFailed: it cannot be written now, another process writes there, or there is no room for a first checkpoint.
    """

    def __init__(
        self,
        directory: Path,
        quarantine: Path,
        config: Checkpoint,
        on_event: Callable[[str, dict[str, Any]], None],
        claim: Callable[[], None] = lambda: None,
        mirror_hangs: bool = False,
    ) -> None:
        self._home = Place(directory, quarantine, "run")
        self._config, self._on_event = config, on_event
        self._open()
        self._sealed = self._home.steps()
        if not self._sealed and (free_mb := self._home.free_mb()) < config.min_free_mb:
            self._home.close()
            never = config.min_free_mb > shutil.disk_usage(self._home.directory).total / 1e6
            raise (BadInput if never else RunFailed)(
                f"checkpoint.min_free_mb: {config.min_free_mb:g}, but {self._home.directory} has "
                f"{free_mb:.0f} MB free; free some, or give --run_dir another disk"
            )
        self._host = arrays.HostCopy()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="sealer")
        self._keeper = Keeper(self._home, config, claim, mirror_hangs)
        self._saving: tuple[int, Future[list[Event]]] | None = None
        self._last_failed = False
        self._time_to_seal_s: float | None = None
        self._blocking_s: float | None = None
        self._budget_bytes = _GB * (config.write_budget_gb_day or 0.0)
        self._allowance: Allowance | None = None
        self._size = 0  # of a save [bytes]
        self._said_skipped = False
        self._reached = -1  # the newest step that was sealed, even if it was lost since

    # ---- what is there ----

    @property
    def sealed_steps(self) -> list[int]:
        """Steps known to be sealed, oldest first."""
        return list(self._sealed)

    @property
    def newest_sealed(self) -> int | None:
        return self._sealed[-1] if self._sealed else None

    @property
    def wants_save(self) -> bool:
        """The newest sealed step was lost to damage, and more work is at risk than was meant to be. Until the next save
        is tried, successful or not."""
        return self._reached > max(self._sealed, default=-1)

    @property
    def time_to_seal_s(self) -> float | None:
        """From the start of a save until it is sealed, moving average of the measured [s]; None before the first.

        A restored run goes on from what was measured before.
        """
        return self._time_to_seal_s

    @property
    def blocking_s(self) -> float | None:
        """How long a save holds up its caller, moving average of the measured [s]; None before the first."""
        return self._blocking_s

    # ---- restore ----

    def restore(self, like: Any, check: Check | None = None) -> Restored | None:
        """The newest sealed step that is whole, on either device; damaged ones are moved to quarantine on the way, and
        made anew from the other device where it has them.

        Args:
            like: pytree of `jax.ShapeDtypeStruct`.
            check: what is wrong with a step that is whole, once it is on the device: then it is damaged too.

        Returns:
            None only if no step was ever sealed here. A save that a kill cut short was never sealed: a run whose
            first save was cut short starts from step 0, and one that had a single sealed checkpoint never does.

        Raises:
            RunFailed: there were sealed checkpoints and none can be restored.
            BadInput: the newest is whole, but of another model.
        """
        arrays.orbax()
        self.wait(None)
        self._keeper.settle()
        mirror = self._keeper.second()
        self._tell(self._keeper.events())
        copied = mirror.steps() if mirror else []
        load = partial(restore.load, like=like, check=check)
        found = recover(self._home, mirror, self._keeper, load, self._tell)
        if found is None:
            return None
        restored, place = found
        self._size = arrays.nbytes(like)
        self._reached = restored.step
        self._recall(place.tag(restored.step))
        if uncopied := [step for step in self._sealed if step > max(copied, default=-1)]:
            self._keeper.sealed(uncopied[-1], len(uncopied))
        return restored

    def _recall(self, saved: dict[str, Any]) -> None:
        """What an earlier process measured and spent."""
        self._blocking_s = self._blocking_s or saved.get("blocking_s")
        self._time_to_seal_s = self._time_to_seal_s or saved.get("time_to_seal_s")
        if self._budget_bytes and self._allowance is None and {"credit_bytes", "mission_s"} <= saved.keys():
            self._allowance = Allowance(self._budget_bytes, saved["credit_bytes"], saved["mission_s"])

    # ---- save ----

    def save(self, step: int, state: Any, meta: dict[str, Any], urgent: bool = False, tag: Tag = UNTAGGED) -> bool:
        """Starts a save and returns when the state is copied: its buffers may be donated or overwritten at once.

        Args:
            state: pytree of arrays.
            meta: anything JSON; sealed with the state.
            urgent: wait for a save that is under way, where an ordinary save gives up.
            tag: what retention and the write budget go by.

        Returns:
            Whether `step` is now on its way, or sealed already (a step is never written twice: what a step computes
            is determined by its number). False: another save is under way, or the disk is too full (then a
            `save_failed` event says so).
        """
        self.poll()
        if self._saving and urgent:
            self.wait(None)
        if self._saving:
            return False
        self._reached = -1
        if step in self._sealed:
            self._last_failed = False
            return True
        self._size = arrays.nbytes(state)
        if shortage := self._shortage(self._size):
            self._fail(step, shortage)
            return False
        arrays.orbax()
        about = tag._asdict() | self._charge(tag.mission_s)
        about |= {"blocking_s": self._blocking_s, "time_to_seal_s": self._time_to_seal_s}
        files = {restore.META: json.dumps(meta).encode(), TAG: json.dumps(about).encode()}
        start = time.perf_counter()
        fetch = self._host.begin(state)
        blocking_s = time.perf_counter() - start
        self._blocking_s = _average(self._blocking_s, blocking_s)
        self._saving = step, self._worker.submit(self._write, step, fetch, files, start, blocking_s)
        return True

    def affords(self, mission_s: float) -> bool:
        """Whether `checkpoint.write_budget_gb_day` has room for a save that may as well be made later."""
        wait_s = self._allowance.wait_s(self._size, mission_s) if self._allowance else 0.0
        if wait_s and not self._said_skipped:
            budget = f"checkpoint.write_budget_gb_day: {self._config.write_budget_gb_day:g}: spent"
            self._on_event("save_skipped", {"reason": budget, "next_s": wait_s})
        self._said_skipped = bool(wait_s)
        return not wait_s

    def poll(self) -> None:
        """Reports what became of saves, copies and scrubs that are over, and begins those that are due. Costs 0.3 µs
        when there is nothing to report."""
        if self._saving and self._saving[1].done():
            (step, future), self._saving = self._saving, None
            try:
                events = future.result()
            except Exception as error:  # whatever stopped the worker, the run goes on and says so
                self._fail(step, f"{type(error).__name__}: {arrays.brief(error)}")
            else:
                self._last_failed = False
                self._tell(events)
        self._tell(self._keeper.poll())

    def wait(self, timeout_s: float | None) -> bool:
        """Waits until the save under way is over, at most `timeout_s` [s] (None: as long as it takes).

        Returns:
            Whether what was last asked to be saved is sealed; false too if it failed.
        """
        if self._saving:
            try:
                self._saving[1].exception(timeout_s)
            except TimeoutError:
                return False
        self.poll()
        return not self._last_failed

    def close(self) -> None:
        """Waits for the save under way (for ever on a disk that hangs: there is no other to save it to), reports it,
        and lets go of the directory, unless something is still at work there: then the end of the process does."""
        self.wait(None)
        self._worker.shutdown()
        self._tell(self._keeper.close())

    def __enter__(self) -> "Store":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- in the worker's thread ----

    def _write(
        self,
        step: int,
        fetch: Callable[[], arrays.Named],
        files: dict[str, bytes],
        start: float,
        blocking_s: float,
    ) -> list[Event]:
        directory, final = self._home.directory, self._home.path(step)
        temporary = layout.saving(directory, step)
        try:
            host = fetch()
            leaves = arrays.fingerprints(host)
            arrays.write(temporary, host)
            for name, content in files.items():
                (temporary / name).write_bytes(content)
            sealed = seal.write(temporary, step, leaves)
            if final.exists():  # renamed before, but its directory would not flush: nobody was told that it is sealed
                shutil.rmtree(layout.take_out(directory, step))
            durable.rename(temporary, final)
        except BaseException:
            layout.sweep(directory, f"{temporary.name}*")  # Orbax adds to the name; a full disk must not stay full
            raise
        layout.mark(directory)
        seconds = time.perf_counter() - start
        done = self._home.event("sealed", step=step, bytes=sealed.size, seconds=seconds, blocking_s=blocking_s)
        return [done, *self._home.thin_out(self._config.keep, self._config.keep_orbits_s)]

    # ---- in the caller's ----

    def _tell(self, events: Iterable[Event]) -> None:
        for name, fields in events:
            if "place" not in fields:
                self._note(name, fields)
            self._on_event(name, fields)

    def _note(self, name: str, fields: dict[str, Any]) -> None:
        """What an event about the run's own steps changes here."""
        step: Any = fields.get("step")
        if name in ("sealed", "repaired"):
            self._sealed = sorted({*self._sealed, step})
        if name == "sealed":
            self._reached = fields["step"]
            self._time_to_seal_s = _average(self._time_to_seal_s, fields["seconds"])
            self._keeper.sealed(fields["step"])
        elif name in ("deleted", "quarantined"):
            self._sealed = [other for other in self._sealed if other != step]

    def _open(self) -> None:
        try:
            self._home.open()
        except BlockingIOError as error:
            raise RunFailed(
                f"{self._home.directory}: another process is training here; wait for it, or give another --run_dir"
            ) from error
        except OSError as error:
            what = f"{self._home.directory}: cannot be written"
            raise stopped_by(error, what, "give a --run_dir that can") from error

    def _shortage(self, size: int) -> str | None:
        """Why a save of `size` [bytes] does not fit; None when it does."""
        shortage, done = self._home.make_room(size, self._config.keep, self._config.min_free_mb)
        self._tell(done)
        return shortage

    def _charge(self, mission_s: float | None) -> dict[str, float]:
        """Charges a save to the write budget; what is left of it, to be saved too: a restart must not refill it."""
        if not self._budget_bytes or mission_s is None:
            return {}
        before = self._allowance or Allowance.full(self._budget_bytes, mission_s)
        self._allowance = before.charge(self._size, mission_s)
        return {"credit_bytes": self._allowance.credit_bytes}

    def _fail(self, step: int, reason: str) -> None:
        self._last_failed = True
        self._on_event("save_failed", {"step": step, "reason": reason})


def _average(before: float | None, measured: float) -> float:
    return measured if before is None else before + _EWMA * (measured - before)
