"""One device's share of a run's checkpoints: sealed steps, quarantine, and the lock of who writes there."""

import fcntl
import json
import shutil
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from pipeline.checkpoint import durable, layout
from pipeline.checkpoint.retention import UNTAGGED, Tag, kept

Event = tuple[str, dict[str, Any]]
TAG = "tag.json"
_MB = 1e6
_OVERHEAD_BYTES = 4e6  # Orbax metadata, SEAL, directories: 0.1 MB measured for 100 arrays


class Place:
    """A directory of steps, as `layout` names them, and its quarantine.

    Two threads work on it: one adds steps and thins them out, the other copies and checks those that are there. What
    one of them holds, the other does not delete.
    """

    def __init__(self, directory: Path, quarantine: Path, name: str) -> None:
        """`name` tells this place from another in events; that of the run itself goes without saying."""
        self.name = name
        self.directory, self.quarantine = directory.absolute(), quarantine.absolute()
        self._lock: IO[bytes] | None = None
        self._guard = threading.Lock()
        self._held: set[int] = set()

    def open(self) -> None:
        """Makes the directories, takes the lock, which ends with the process at the latest, and sweeps.

        Raises:
            BlockingIOError: another process writes here.
            OSError: it cannot be written.
        """
        for made in (self.directory, self.quarantine):
            durable.make(made)
        lock = (self.directory / layout.LOCK).open("ab")  # a record lock: forked data workers do not inherit it
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            layout.sweep(self.directory)
            if self.steps():
                layout.mark(self.directory)
        except BaseException:
            lock.close()
            raise
        self._lock = lock

    def close(self) -> None:
        if self._lock:
            self._lock.close()

    # ---- what is there ----

    def steps(self) -> list[int]:
        """Sealed steps, oldest first."""
        return layout.steps(self.directory)

    def path(self, step: int) -> Path:
        return layout.path(self.directory, step)

    def was_sealed(self) -> bool:
        return layout.was_sealed(self.directory, self.quarantine)

    def tag(self, step: int) -> dict[str, Any]:
        """What was saved of a step beside its state and meta; {} where it cannot be read."""
        try:
            content = json.loads((self.path(step) / TAG).read_bytes())
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def free_mb(self) -> float:
        return shutil.disk_usage(self.directory).free / _MB

    def shortage(self, size: int, min_free_mb: float) -> str | None:
        """Why `size` [bytes] more would not fit; None when they do."""
        needed_mb = (1.05 * size + _OVERHEAD_BYTES) / _MB + min_free_mb
        if (free_mb := self.free_mb()) >= needed_mb:
            return None
        return (
            f"{free_mb:.0f} MB free in {self.directory}, {needed_mb:.0f} MB needed "
            f"({min_free_mb:g} of it checkpoint.min_free_mb); free some, or lower checkpoint.keep"
        )

    # ---- what changes it ----

    @contextmanager
    def holding(self, step: int) -> Iterator[bool]:
        """While it lasts nobody deletes `step`; False if the step is not there."""
        with self._guard:
            there = self.path(step).is_dir()
            if there:
                self._held.add(step)
        try:
            yield there
        finally:
            with self._guard:
                self._held.discard(step)

    def set_aside(self, step: int, reasons: Iterable[str]) -> Event:
        """Moves a damaged step to quarantine.

        Raises:
            OSError: it cannot be moved.
        """
        layout.mark(self.directory)
        reasons = list(reasons)
        path = layout.to_quarantine(self.directory, self.quarantine, step, reasons)
        return self.event("quarantined", step=step, reason=summary(reasons), path=str(path))

    def thin_out(self, newest: int, orbits_s: float, pressed: bool = False) -> list[Event]:
        """Deletes the steps that retention lets go, but for one that is being read: that goes the next time, as does
        what could not be removed.

        Args:
            newest, orbits_s: as for `retention.kept`.
            pressed: for room, all but the newest go.
        """
        done: list[Event] = []
        layout.sweep(self.directory, layout.DELETED)
        steps = self.steps()
        stay = kept({step: UNTAGGED if pressed else _tag(self.tag(step)) for step in steps}, newest, orbits_s)
        for step in [step for step in steps if step not in stay]:
            try:
                with self._guard:
                    if step in self._held:
                        continue
                    gone = layout.take_out(self.directory, step)
                layout.remove(gone)
            except OSError as error:  # the new step is sealed all the same
                return [*done, self.event("delete_failed", step=step, reason=str(error))]
            done.append(self.event("deleted", step=step))
        return done

    def make_room(self, size: int, newest: int, min_free_mb: float) -> tuple[str | None, list[Event]]:
        """Room for `size` [bytes] more: if need be, what could not be removed before goes, then what is quarantined for
        study, then all steps but the newest.

        Returns:
            Why there is no room even so, or None; and what was done.
        """
        done: list[Event] = []
        if self.shortage(size, min_free_mb):
            layout.sweep(self.directory, layout.DELETED)
        if self.shortage(size, min_free_mb):
            with suppress(OSError):
                if count := layout.empty(self.quarantine):
                    done.append(self.event("quarantine_emptied", steps=count))
        if self.shortage(size, min_free_mb):
            done += self.thin_out(newest, 0.0, pressed=True)
        return self.shortage(size, min_free_mb), done

    def event(self, name: str, **fields: Any) -> Event:
        return name, fields | ({} if self.name == "run" else {"place": self.name})


def summary(reasons: list[str]) -> str:
    return "; ".join(reasons[:3]) + (f"; and {len(reasons) - 3} more" if len(reasons) > 3 else "")


def _tag(content: Mapping[str, Any]) -> Tag:
    values = {name: content.get(name) for name in Tag._fields}
    known = {name: value for name, value in values.items() if isinstance(value, int | float)}
    return Tag(**known)  # type: ignore[arg-type]
