"""The checkpoints of one running job: saved beside the training, sealed, thinned out, restored.

One worker thread does everything after the copy to host memory: Orbax, fsync, SEAL, name, retention. Orbax's own
asynchronous mode is not used: it blocked 15–25 ms where the copy takes 1–10, needed 0.4–0.5 s in place of 0.2 for 130
MB, and keeps a failed save's error until the next save, which it then does not do. Its durability hook is not needed
either: the number is given to a step after its SEAL, so no name that counts exists before every byte under it is on
the medium.
"""

import fcntl
import json
import shutil
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from pipeline.checkpoint import arrays, durable, layout, restore, seal
from pipeline.checkpoint.restore import Damage, Restored
from pipeline.config import BadInput, RunFailed
from pipeline.config.tree import Checkpoint

Event = tuple[str, dict[str, Any]]
_MB = 1e6
_OVERHEAD_BYTES = 4e6  # Orbax metadata, SEAL, directories: 0.1 MB measured for 100 arrays
_EWMA = 0.3  # weight of the newest measurement


class Store:
    """Saves and restores one run's state. Not for more than one calling thread.

    `on_event(name, fields)` is called from the caller's thread only, inside `restore`, `save`, `poll`, `wait` and
    `close`:

        sealed       step, bytes, seconds (start of save to sealed), blocking_s (of it, the caller stood still)
        save_failed  step, reason; the run goes on, the sealed steps stay, the next save tries again
        deleted      step: thinned out after a newer one was sealed
        delete_failed  step, reason; the newer step is sealed all the same
        quarantined  step, reason, path
        restored     step, verify_s, load_s

    Raises:
        BadInput: the directory cannot be written, another process writes there, or there is no room for a first
        checkpoint.
    """

    def __init__(
        self, directory: Path, quarantine: Path, config: Checkpoint, on_event: Callable[[str, dict[str, Any]], None]
    ) -> None:
        self._directory, self._quarantine = directory.absolute(), quarantine.absolute()
        self._config, self._on_event = config, on_event
        self._lock = self._prepare()
        self._sealed = layout.steps(self._directory)
        if not self._sealed and self._free_mb() < config.min_free_mb:
            self._lock.close()
            raise BadInput(
                f"checkpoint.min_free_mb: {config.min_free_mb:g}, but {self._directory} has "
                f"{self._free_mb():.0f} MB free; free some, or give --run_dir another disk"
            )
        self._host = arrays.HostCopy()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="sealer")
        self._saving: tuple[int, Future[list[Event]]] | None = None
        self._last_failed = False
        self._time_to_seal_s: float | None = None
        self._blocking_s: float | None = None

    # ---- what is there ----

    @property
    def sealed_steps(self) -> list[int]:
        """Steps known to be sealed, oldest first."""
        return list(self._sealed)

    @property
    def newest_sealed(self) -> int | None:
        return self._sealed[-1] if self._sealed else None

    @property
    def time_to_seal_s(self) -> float | None:
        """From the start of a save until it is sealed, moving average of the measured [s]; None before the first."""
        return self._time_to_seal_s

    @property
    def blocking_s(self) -> float | None:
        """How long a save holds up its caller, moving average of the measured [s]; None before the first."""
        return self._blocking_s

    # ---- restore ----

    def restore(self, like: Any) -> Restored | None:
        """The newest sealed step that is whole; damaged ones are moved to quarantine on the way.

        Args:
            like: pytree of `jax.ShapeDtypeStruct`.

        Returns:
            None only if no step was ever sealed here. A save that a kill cut short was never sealed: a run whose
            first save was cut short starts from step 0, and one that had a single sealed checkpoint never does.

        Raises:
            RunFailed: there were sealed checkpoints and none can be restored.
            BadInput: the newest is whole, but of another model.
        """
        arrays.orbax()
        for step in reversed(layout.steps(self._directory)):
            try:
                found = restore.load(self._directory, step, like)
            except Damage as damage:
                self._set_aside(step, damage)
            else:
                self._on_event("restored", {"step": step, "verify_s": found.verify_s, "load_s": found.load_s})
                return found
        if layout.was_sealed(self._directory, self._quarantine):
            raise RunFailed(
                f"{self._directory}: checkpoints were sealed here and none can be restored "
                f"(see REASON in {self._quarantine}/*); copy a good one back here, or start anew with another --run_dir"
            )
        return None

    def _set_aside(self, step: int, damage: Damage) -> None:
        layout.mark(self._directory)
        try:
            path = layout.to_quarantine(self._directory, self._quarantine, step, damage.reasons)
        except OSError as error:
            raise RunFailed(
                f"{self._directory}/{step}: damaged ({damage}) and cannot be moved to quarantine: {error}"
            ) from error
        self._sealed = [other for other in self._sealed if other != step]
        self._on_event("quarantined", {"step": step, "reason": str(damage), "path": str(path)})

    # ---- save ----

    def save(self, step: int, state: Any, meta: dict[str, Any], urgent: bool = False) -> bool:
        """Starts a save and returns when the state is copied: its buffers may be donated or overwritten at once.

        Args:
            state: pytree of arrays.
            meta: anything JSON; sealed with the state.
            urgent: wait for a save that is under way, where an ordinary save gives up.

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
        if step in self._sealed:
            self._last_failed = False
            return True
        if shortage := self._shortage(arrays.nbytes(state)):
            self._fail(step, shortage)
            return False
        arrays.orbax()
        text = json.dumps(meta).encode()
        start = time.perf_counter()
        host = self._host.take(state)
        blocking_s = time.perf_counter() - start
        self._blocking_s = _average(self._blocking_s, blocking_s)
        self._saving = step, self._worker.submit(self._write, step, host, text, start, blocking_s)
        return True

    def poll(self) -> None:
        """Reports what became of the save under way, if it is over. Costs 0.1 µs when there is nothing to report."""
        if self._saving is None or not self._saving[1].done():
            return
        (step, future), self._saving = self._saving, None
        try:
            events = future.result()
        except Exception as error:  # whatever stopped the worker, the run goes on and says so
            return self._fail(step, f"{type(error).__name__}: {str(error).splitlines()[0][:300] if str(error) else ''}")
        self._last_failed = False
        for name, fields in events:
            if name == "sealed":
                self._sealed = sorted({*self._sealed, step})
                self._time_to_seal_s = _average(self._time_to_seal_s, fields["seconds"])
            elif name == "deleted":
                self._sealed.remove(fields["step"])
            self._on_event(name, fields)

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
        """Waits for the save under way, reports it, and lets go of the directory."""
        self.wait(None)
        self._worker.shutdown()
        self._lock.close()

    def __enter__(self) -> "Store":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- in the worker's thread ----

    def _write(self, step: int, host: arrays.Named, meta: bytes, start: float, blocking_s: float) -> list[Event]:
        temporary, final = layout.saving(self._directory, step), layout.path(self._directory, step)
        try:
            leaves = arrays.fingerprints(host)
            arrays.write(temporary, host)
            (temporary / restore.META).write_bytes(meta)
            sealed = seal.write(temporary, step, leaves)
            if final.exists():  # renamed before, but its directory would not flush: nobody was told that it is sealed
                layout.delete(self._directory, step)
            durable.rename(temporary, final)
        except BaseException:
            layout.sweep(self._directory)  # a full disk must not stay full
            raise
        layout.mark(self._directory)
        seconds = time.perf_counter() - start
        done: list[Event] = [
            ("sealed", {"step": step, "bytes": sealed.size, "seconds": seconds, "blocking_s": blocking_s})
        ]
        return done + self._thin_out()

    def _thin_out(self) -> list[Event]:
        deleted: list[Event] = []
        for step in layout.steps(self._directory)[: -self._config.keep]:
            try:
                layout.delete(self._directory, step)
            except OSError as error:  # the new step is sealed all the same
                return [*deleted, ("delete_failed", {"step": step, "reason": str(error)})]
            deleted.append(("deleted", {"step": step}))
        return deleted

    # ---- the directory ----

    def _prepare(self) -> IO[bytes]:
        """Makes the directories, sweeps; returns the lock, which ends with the process or when it is closed."""
        try:
            for made in (self._directory, self._quarantine):
                made.mkdir(parents=True, exist_ok=True)
                durable.fsync(made.parent)
            lock = (self._directory / layout.LOCK).open("ab")  # a record lock: forked data workers do not inherit it
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            layout.sweep(self._directory)
            if layout.steps(self._directory):
                layout.mark(self._directory)
        except BlockingIOError as error:
            raise BadInput(
                f"{self._directory}: another process is training here; wait for it, or give another --run_dir"
            ) from error
        except OSError as error:
            raise BadInput(
                f"{self._directory}: cannot be written ({error.strerror}); give a --run_dir that can"
            ) from error
        return lock

    def _free_mb(self) -> float:
        return shutil.disk_usage(self._directory).free / _MB

    def _shortage(self, state_bytes: int) -> str | None:
        needed_mb = (1.05 * state_bytes + _OVERHEAD_BYTES) / _MB + self._config.min_free_mb
        if (free_mb := self._free_mb()) >= needed_mb:
            return None
        return (
            f"{free_mb:.0f} MB free in {self._directory}, {needed_mb:.0f} MB needed "
            f"({self._config.min_free_mb:g} of it checkpoint.min_free_mb); free some, or lower checkpoint.keep"
        )

    def _fail(self, step: int, reason: str) -> None:
        self._last_failed = True
        self._on_event("save_failed", {"step": step, "reason": reason})


def _average(before: float | None, measured: float) -> float:
    return measured if before is None else before + _EWMA * (measured - before)
