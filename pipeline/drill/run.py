"""One run under the drill: started, broken, started again; what it reported, and whether that was there afterwards."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.checkpoint import durable, verify
from pipeline.config import RunFailed
from pipeline.drill.damage import Wound
from pipeline.drill.disk import Disk
from pipeline.drill.launch import Launch
from pipeline.drill.phase import phase
from pipeline.drill.setting import Setting
from pipeline.drill.wounds import Wounds
from pipeline.flight.recorded import LEDGER


@dataclass(frozen=True)
class Strike:
    """An outage, until a launch has got over it."""

    step: int  # reached when it came
    wall: float  # [s since 1970]
    trained: bool  # whether the launch had taken a step
    first_step_wall: float


class Run:
    """`at` is the directory in which it lives, `disk` if that is one that can be cut off, `mirror` a second device."""

    def __init__(
        self, setting: Setting, at: Path, name: str, disk: Disk | None = None, mirror: Path | None = None
    ) -> None:
        self.setting, self.tally, self.dice = setting, setting.tally, setting.dice
        self.directory, self.corpus, self.disk = at / name, at / "corpus", disk
        self.mirror = mirror
        self.log = setting.work / f"{name}.log"
        self.wounds = Wounds(self.directory, setting.work / f"{name}.copies")
        self.not_before_s = 0.0  # until when the satellite is known to have been dark [mission s]
        self.launch: Launch | None = None
        self.done = False  # a launch has said so; the next one only looks
        self.sealed: dict[int, float] = {}  # steps reported sealed and not deleted; when their state was copied [wall]
        self._launches = 0
        self._pending: list[Strike] = []
        self._ever_sealed = False
        self._compiled = False  # whether the programs of a launch are kept
        self._trained = self._warm = False  # this launch has taken a step; found the programs of another
        self._resumed_step, self._first_step_wall = 0, 0.0
        self._phase, self._phase_since = "", 0.0

    # ---- launches ----

    def start(self) -> Launch:
        """The launch at work; a new one, if there is none."""
        if self.launch and self.launch.alive:
            return self.launch
        self._trained, self._phase = False, ""
        places = ["--run_dir", self.directory, "--corpus.cache_dir", self.corpus]
        places += ["--checkpoint.mirror_dir", self.mirror or "null"]
        dark = ["--mission.not_before_s", self.not_before_s] if self.not_before_s else []
        arguments = [*self.setting.arguments, *map(str, (*places, *dark))]
        self._warm = self._compiled
        self._launches += 1
        self.launch = Launch(arguments, self.directory / LEDGER, self.log, self.setting.environment, self._note)
        return self.launch

    def take_programs(self, other: Path) -> None:
        """What another run has compiled in its directory, and as durably as if this one had."""
        durable.make(self.directory)
        shutil.copytree(other / "cache", self.directory / "cache")
        durable.fsync_tree(self.directory)
        self._compiled = True

    def forget(self, folder: Path) -> None:
        """Removes what a launch makes again: its corpus or its programs."""
        shutil.rmtree(folder, ignore_errors=True)
        self._compiled = False  # such a start is no restart

    def wait(self, until: Callable[[], bool]) -> bool:
        """Until `until()`; False if the run was done first.

        Raises:
            RunFailed: the launch ended otherwise, or hangs.
        """
        while not self.start().wait(until):
            if not self._mended():
                self.require_done()
                return False
        return True

    def happened(self, event: str) -> bool:
        """Whether the launch at work has written such an event."""
        return self.launch is not None and self.launch.happened(event)

    @property
    def events(self) -> list[dict[str, Any]]:
        return self.launch.events if self.launch else []

    def require_done(self) -> None:
        assert self.launch is not None
        if self.launch.process.returncode:
            said = self.launch.said().strip().splitlines() or ["nothing"]
            raise RunFailed(f"{self.directory}: exit {self.launch.process.returncode}, said: {said[-1]}")

    def finish(self) -> None:
        """Lets the run go to its end, and over every outage."""
        if self.done and not self._pending:
            return

        def over() -> bool:
            self.phase()
            return False

        self.wait(over)
        self._judge()

    # ---- what is seen ----

    @property
    def newest(self) -> int | None:
        return max(self.sealed, default=None)

    @property
    def at_end(self) -> bool:
        """Whether it has taken its last step: what is left is to be got over, not to be broken again and again."""
        last = self.setting.undisturbed.last_step
        return self.done or (last is not None and self.step >= last)

    @property
    def step(self) -> int:
        """The last step that the launch at work has shown."""
        return self.events[-1]["step"] if self.events else self._resumed_step

    def phase(self) -> str:
        """What the launch at work is doing; remembers how long the phase before took."""
        assert self.launch is not None
        every, last = self.setting.config.train.eval_every, self.setting.undisturbed.last_step
        pid, at = self.launch.process.pid, self.launch.at
        seen = phase(pid, self.directory, self.corpus, at, self.step, every, last)
        if seen != self._phase:
            now = time.monotonic()
            if self._phase:
                self.setting.lengths_s[self._phase] = now - self._phase_since
            self._phase, self._phase_since = seen, now
        return seen

    def _note(self, event: dict[str, Any]) -> None:
        name = event["event"]
        if event.get("place"):
            return  # of the second device
        if name == "sealed":
            self._ever_sealed = True
            self.sealed[event["checkpoint"]] = event["wall"] - event["seconds"]
            self.wounds.whole_again(event["checkpoint"])
        elif name == "deleted":
            self.sealed.pop(event["checkpoint"], None)
        elif name == "quarantined":
            self._quarantined(event["checkpoint"])
        elif name == "repaired":
            self.sealed[event["checkpoint"]] = self._copied_wall(event["checkpoint"])
            self.wounds.whole_again(event["checkpoint"])
        elif name in ("launch", "resume"):
            self._resumed(event)
        elif name == "first_step":
            self._first_step(event)
        elif name == "done":
            self.done = True
            self._got_over()

    def _quarantined(self, step: int) -> None:
        if self.sealed.pop(step, None) is not None:
            self._lost(step, "quarantined, though nothing had damaged it")

    def _resumed(self, event: dict[str, Any]) -> None:
        self._resumed_step = event["step"]
        if event["event"] == "launch" and self._ever_sealed:
            self.tally.failures.append(f"{self.directory}: started from step 0, though steps had been sealed")
        if self.newest is not None and event["step"] < self.newest:
            self._lost(self.newest, f"a launch went on from step {event['step']}")
        if event["event"] == "resume" and self.wounds.open(event["step"]):
            self.tally.failures.append(f"{self.directory}: resumed from step {event['step']}, which was damaged")
        if event["mission_s"] < self.not_before_s:
            self.tally.failures.append(f"{self.directory}: mission time did not go on while the satellite was dark")

    def _first_step(self, event: dict[str, Any]) -> None:
        assert self.launch is not None
        if self._pending and self._warm:
            self.tally.restart_s.append(time.monotonic() - self.launch.began_s)
            self.tally.restart_parts.append(event["seconds"])
        self._trained = self._compiled = True
        self._first_step_wall = event["wall"]
        self._got_over()

    def _got_over(self) -> None:
        for strike in self._pending:
            lost = strike.step - self._resumed_step if strike.trained else 0
            self.tally.lost_steps.append(max(lost, 0))
            # From the copy of the state that it went on from, or, if that is of an earlier launch, from its first step.
            began = max(self._copied_wall(self._resumed_step), strike.first_step_wall)
            self.tally.lost_seconds.append(max(strike.wall - began, 0.0) if lost > 0 else 0.0)
            self.tally.resumed += 1
        self._pending.clear()

    def _copied_wall(self, step: int) -> float:
        """When the state of a sealed step was copied; or sealed, where a kill kept that from being reported [wall]."""
        if step in self.sealed:
            return self.sealed[step]
        with suppress(OSError):
            return (self.directory / "checkpoints" / str(step) / "SEAL").stat().st_mtime
        return 0.0

    def _lost(self, step: int, how: str) -> None:
        self.tally.sealed_lost += 1
        self.tally.failures.append(f"{self.directory}: step {step} was sealed and is lost: {how}")
        self.sealed = {other: wall for other, wall in self.sealed.items() if other < step}

    # ---- outages ----

    def kill(self, kind: str) -> bool:
        """SIGKILL, counted as an outage of that kind; False if the run was done before."""
        return self._strike(kind, lambda: None, lambda: None)

    def cut(self, kind: str) -> bool:
        """The power of the disk goes, and with it the process; the power comes back."""
        assert self.disk is not None
        return self._strike(kind, self.disk.cut, self.disk.remount)

    def lose_power(self, kind: str) -> bool:
        """As near to a loss of power as the place allows."""
        return self.cut(kind) if self.disk else self.kill(kind)

    def _strike(self, kind: str, before: Callable[[], None], after: Callable[[], None]) -> bool:
        assert self.launch is not None
        self.launch.look()
        seen = self.phase()
        if not self.launch.alive:
            self.require_done()
            return False
        before()
        self.launch.kill()
        self.stopped(kind, seen)
        after()
        self._check_sealed()
        return True

    def stopped(self, kind: str, phase_name: str = "closing") -> None:
        """The launch is no more: an outage, until another launch has got over it."""
        self._judge()
        self._pending.append(Strike(self.step, time.time(), self._trained, self._first_step_wall))
        self.count(kind, phase_name)

    def count(self, kind: str, phase_name: str) -> None:
        self.tally.outages += 1
        self.tally.kinds[kind] += 1
        self.tally.phases[phase_name] += 1

    def _check_sealed(self) -> None:
        """Every step that was reported sealed and not deleted is there, whole, or a newer one is."""
        if self.newest is None:
            return
        found = dict(verify(self.directory)) if (self.directory / "checkpoints").exists() else {}
        for step, problems in found.items():
            if step in self.sealed and problems:
                self._lost(step, problems[0])
        if self.newest is not None and max(found, default=-1) < self.newest:
            self._lost(self.newest, "it is not there")
        # Older ones may have been thinned out, and the outage have come before that was reported.
        self.sealed = {step: wall for step, wall in self.sealed.items() if step in found}

    # ---- damage ----

    def wounded(self, made: Wound, step: int | None) -> None:
        """Takes note of damage to a file of a sealed step, or of none: nobody has to find it whole from now on."""
        self.wounds.add(made, step, self._launches)
        if step is not None:
            self.sealed.pop(step, None)

    def _mended(self) -> bool:
        """Whether the launch rightly stopped for damage, and the ground has put that right."""
        assert self.launch is not None
        put_back = self.wounds.mend(self.launch.said(), nothing_left=not self.sealed)
        if put_back is None:
            return False
        self.sealed |= {step: self._copied_wall(step) for step in put_back}
        self.tally.refused += 1
        return True

    def _judge(self) -> None:
        if self._trained:
            self.tally.corruptions.repaired += self.wounds.judge(self._launches)

    @contextmanager
    def closing(self) -> Iterator["Run"]:
        """Ends the launch at work, whatever happens."""
        try:
            yield self
        finally:
            if self.launch and self.launch.alive:
                self.launch.kill()
