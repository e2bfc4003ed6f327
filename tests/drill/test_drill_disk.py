"""The disk does what is said of it, and leaves nothing mounted behind."""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from drilling import ROOT, TINY

from pipeline.checkpoint import durable, layout
from pipeline.config import load
from pipeline.drill import disk as disk_module
from pipeline.drill.damage import DELETED, IN_PLACE, wound
from pipeline.drill.disk import Disk, NoDisk
from pipeline.drill.run import Run
from pipeline.drill.setting import Setting
from pipeline.drill.tally import Tally
from pipeline.drill.wounds import Wounds


def write(path: Path, flush: bool) -> None:
    with path.open("wb") as file:
        file.write(b"x" * 100_000)
        if flush:
            os.fsync(file.fileno())


def mounts() -> str:
    return Path("/proc/mounts").read_text()


def test_a_cut_takes_what_was_not_flushed_and_leaves_what_was(disk: Disk) -> None:
    write(disk.at / "flushed", flush=True)
    folder = os.open(disk.at, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)
    write(disk.at / "not", flush=False)
    disk.cut()
    with pytest.raises(OSError, match=r"Input/output error|shutdown"):
        write(disk.at / "late", flush=True)
    disk.remount()
    assert (disk.at / "flushed").read_bytes() == b"x" * 100_000
    assert not (disk.at / "not").exists() or (disk.at / "not").stat().st_size == 0
    write(disk.at / "late", flush=True)


def test_a_full_disk_takes_nothing_and_then_has_room_again(disk: Disk) -> None:
    write(disk.at / "before", flush=True)
    with disk.full(), pytest.raises(OSError, match="No space left"):
        write(disk.at / "more", flush=True)
    write(disk.at / "after", flush=True)
    assert (disk.at / "before").stat().st_size == 100_000


@pytest.mark.parametrize("way", [*IN_PLACE, DELETED])
def test_neither_damage_nor_what_mends_it_is_undone_by_a_cut(disk: Disk, tmp_path: Path, way: str) -> None:
    run, dice = disk.at / "run", random.Random(7)
    seal = layout.path(run / "checkpoints", 3) / "SEAL"
    seal.parent.mkdir(parents=True)
    write(seal, flush=True)
    durable.fsync_tree(disk.at)
    wounds = Wounds(run, tmp_path / "copies")
    assert wounds.keep_copy(3)
    wounds.add(wound(seal, dice, (way,)), 3, launch=1)
    disk.cut()
    disk.remount()
    assert not seal.exists() if way == DELETED else seal.read_bytes() != b"x" * 100_000
    assert wounds.mend("none can be restored", nothing_left=True) == [3]
    disk.cut()
    disk.remount()
    assert seal.read_bytes() == b"x" * 100_000


def test_programs_that_a_run_has_from_another_outlive_a_cut(disk: Disk, tmp_path: Path) -> None:
    """Else a start that compiles is taken for one that does not."""
    setting = Setting(load(["--budget.steps", "1"]), [], {}, tmp_path, Tally(), random.Random(1))
    run, other = Run(setting, disk.at, "run", disk), tmp_path / "other"
    (other / "cache" / "xla").mkdir(parents=True)
    write(other / "cache" / "xla" / "program", flush=False)
    run.take_programs(other)
    disk.cut()
    disk.remount()
    assert (run.directory / "cache" / "xla" / "program").read_bytes() == b"x" * 100_000


def test_nothing_stays_mounted_after_an_error(tmp_path: Path) -> None:
    class Trouble(Exception):
        pass

    try:
        disk = Disk(tmp_path / "made", 16)
    except NoDisk as lack:
        pytest.skip(str(lack))
    with suppress(Trouble), disk:
        disk.cut()
        raise Trouble
    assert str(disk.at) not in mounts()
    assert list((tmp_path / "made").iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_drill_that_is_interrupted_unmounts_its_disk_and_ends_its_runs(
    number: int, disk: Disk, tmp_path: Path
) -> None:
    """`disk` is asked for only to skip where there can be none."""
    work = tmp_path / "work"
    arguments = [*TINY, "--kind", "power-cut", "--outages", "1", "--work-dir", str(work)]
    process = subprocess.Popen([sys.executable, str(ROOT / "train.py"), "drill", *arguments], stderr=subprocess.DEVNULL)
    give_up = time.monotonic() + 300
    while not (work / "disk" / "run1" / "ledger.jsonl").exists() and time.monotonic() < give_up:
        assert process.poll() is None
        time.sleep(0.05)
    assert str(work) in mounts()
    process.send_signal(number)
    assert process.wait(60) == 130
    assert str(work) not in mounts()
    assert not (work / "disk.ext4").exists()
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert f"--run_dir {work}" not in running


def test_without_root_the_kinds_that_need_a_disk_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "needs root" in (disk_module.lacking() or "")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", "/nowhere")
    assert "needs mkfs.ext4" in (disk_module.lacking() or "")
