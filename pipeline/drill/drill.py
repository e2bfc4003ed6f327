"""The drill itself: a run that nothing disturbs, then runs that are broken until the outages are used up."""

import random
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import BadInput, Config, RunFailed
from pipeline.drill.bit_flip import bit_flip, strike_live
from pipeline.drill.brown_out import BrownOut
from pipeline.drill.compare import differences
from pipeline.drill.control import Bench, control
from pipeline.drill.disk import Disk, NoDisk
from pipeline.drill.disk_full import disk_full
from pipeline.drill.outages import kill, power_cut
from pipeline.drill.run import Run
from pipeline.drill.setting import Setting
from pipeline.drill.tally import Tally
from pipeline.flight.budget import Budget
from pipeline.flight.display import Display
from pipeline.flight.governor import Governor
from pipeline.flight.mission import mission
from pipeline.flight.progress import Progress
from pipeline.flight.spacecraft import Spacecraft

NEED_DISK = ("power-cut", "disk-full")
ROOM_MB = 512  # of a disk, beside what must stay free and four times what the undisturbed run takes
LATE = 3  # runs done before a kind came that never has: it is drawn no more
IDLE_RUNS = 5  # so many runs on end without an outage, and there will never be one
BAD_INPUT = 2  # exit code

Outage = Callable[[Run], bool]


@dataclass(frozen=True)
class Orders:
    """What is asked of a drill."""

    config: Config
    arguments: Sequence[str]  # of `train.py run`
    kind: str
    outages: int
    seed: int
    work: Path  # empty


def drill(orders: Orders, environment: Mapping[str, str], display: Display) -> Tally:
    """Breaks runs of the configuration until the outages are used up; what that cost.

    Args:
        environment: of the processes that are started.

    Raises:
        BadInput: the kind cannot be had with this configuration, or on this machine.
        RunFailed: the run that nothing disturbs fails, or a control arm cannot be had.
    """
    if orders.config.mission.clock == "real" and orders.kind in ("brown-out", "mixed"):
        raise BadInput(f"mission.clock: real, but {orders.kind} needs mission time to be modelled; give simulated")
    has_disk = _can_have_disk(orders, display)
    counted = counted_in_steps(orders.config) if orders.kind in ("brown-out", "mixed") else []
    if counted:
        display.say(f"a satellite that was dark has less of its budget left: drilled with {' '.join(counted)}")
    tally, dice = Tally(), random.Random(orders.seed)
    setting = Setting(orders.config, [*orders.arguments, *counted], environment, orders.work, tally, dice)
    display.show("the run that nothing disturbs")
    _fly_undisturbed(setting)
    with ExitStack() as stack:
        disk = stack.enter_context(Disk(orders.work, _disk_mb(setting))) if has_disk else None
        outages = _outages(orders.kind, setting, disk)
        at = disk.at if disk else orders.work
        bench = Bench(
            at / "control", disk, dice, environment, _size(setting.undisturbed.directory / "checkpoints") // 2
        )
        display.show("the control arms")
        tally.controls = control(outages, min(10, max(2, orders.outages // 5)), bench)
        try:
            if orders.kind == "bit-flip":
                display.show("flips in a live run")
                strike_live(orders.config, orders.work, orders.outages, orders.seed, tally)
            _break(setting, disk, outages, orders.outages, display)
        except RunFailed as failure:
            tally.failures.append(str(failure))
        if disk and tally.failures:  # the disk goes, the evidence stays
            shutil.copytree(disk.at, orders.work / "evidence", ignore=shutil.ignore_patterns("control*", "lost+found"))
    return tally


def counted_in_steps(config: Config) -> list[str]:
    """Arguments that give a budget of orbits, energy or date as the steps that it buys if nothing goes wrong; modelled.

    A satellite that was dark for an hour has an hour less: such a run rightly ends otherwise than an undisturbed one.
    """
    limits = config.budget
    if limits.orbits is None and limits.wh is None and limits.until is None:
        return []
    craft = Spacecraft(config, mission(config), {})
    steps = Budget(config, craft, Governor(config, craft), 0.0).expectation(Progress())["steps"]
    nulls = [word for key in ("orbits", "wh", "until") for word in (f"--budget.{key}", "null")]
    return [*nulls, "--budget.steps", str(steps)]


def _can_have_disk(orders: Orders, display: Display) -> bool:
    if orders.kind in ("kill", "bit-flip"):
        return False
    try:
        Disk(orders.work, 16).close()
    except NoDisk as lack:
        if orders.kind in NEED_DISK:
            raise BadInput(f"--kind: {orders.kind}: {lack}") from lack
        display.say(f"no power cuts and no full disks here: {lack}")
        return False
    return True


def _fly_undisturbed(setting: Setting) -> None:
    """Flies the run that nothing disturbs, and puts what it told into the setting."""
    run, told = Run(setting, setting.work, "undisturbed"), setting.undisturbed
    with run.closing():
        try:
            run.finish()
        except RunFailed as failure:
            if run.launch and run.launch.process.returncode == BAD_INPUT:
                raise BadInput(run.launch.said().strip().removeprefix("train.py run: ")) from failure
            raise
    told.directory, told.last_step = run.directory, run.step
    told.charge = [(event["mission_s"], event["charge"]) for event in run.events if "charge" in event]


def _outages(kind: str, setting: Setting, disk: Disk | None) -> dict[str, Outage]:
    """The kinds to draw from."""
    every: dict[str, Callable[[], Outage]] = {
        "kill": lambda: kill,
        "bit-flip": lambda: bit_flip,
        "brown-out": lambda: BrownOut(setting),
    }
    if disk:
        every |= {"power-cut": lambda: power_cut, "disk-full": lambda: disk_full}
    return {name: make() for name, make in every.items() if kind in (name, "mixed")}


def _break(setting: Setting, disk: Disk | None, outages: Mapping[str, Outage], wanted: int, display: Display) -> None:
    """Run after run, each to its end, until the outages are used up.

    Raises:
        RunFailed: a run that should go on does not.
    """
    tally, idle = setting.tally, 0
    drawn: Counter[str] = Counter()
    at = disk.at if disk else setting.work
    while tally.outages < wanted:
        # Every second run has a second device beside it, and may mend itself.
        mirror = setting.work / "mirror" if tally.runs % 2 else None
        setting.work.joinpath("mirror").mkdir(exist_ok=True)
        before, run = tally.outages, Run(setting, at, f"run{tally.runs + 1}", disk, mirror)
        # 8 s of a processor less; of the outages that are to come in compilation, every second takes them away again.
        run.take_programs(setting.undisturbed.directory)
        with run.closing():
            while not run.at_end and tally.outages < wanted:
                left = [name for name in outages if tally.kinds[name] or drawn[name] < LATE] or [*outages]
                fewest = min(tally.kinds[name] for name in left)
                kind = setting.dice.choice([name for name in left if tally.kinds[name] == fewest])
                drawn[kind] += 1
                if not outages[kind](run):
                    break
                display.show(
                    f"outage {tally.outages:,}/{wanted:,}  {kind} at step {run.step:,} of run {tally.runs + 1}  "
                    f"{tally.resumed:,} resumed  {tally.sealed_lost} sealed lost"
                )
            run.finish()
        tally.runs += 1
        if changed := differences(run.directory, setting.undisturbed.directory):
            tally.failures.append(f"{run.directory}: not the bits of the undisturbed run: {', '.join(changed[:5])}")
        else:
            tally.identical += 1
            shutil.rmtree(run.directory)
            shutil.rmtree(setting.work / "mirror")
        idle = idle + 1 if tally.outages == before else 0
        if idle == max(IDLE_RUNS, LATE * len(outages)):
            raise RunFailed(f"{idle} runs on end were done before an outage came; give them more steps")
    for kind in (name for name in outages if not tally.kinds[name] and drawn[name] >= LATE):
        display.say(f"no {kind}: {LATE} times the run was done before it came; give it more steps")


def _disk_mb(setting: Setting) -> int:
    return int(ROOM_MB + setting.config.checkpoint.min_free_mb + 4 * _size(setting.work) / 1e6)


def _size(directory: Path) -> int:
    """Of all files under it [bytes]."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
