"""The power goes: a real ext4 on a loop device is shut down without flushing its journal, remounted and read.

The control arm saves with stock Orbax under the same cuts and must lose what it acknowledged; if it does not, the cut
is no cut.
"""

import fcntl
import os
import random
import shutil
import struct
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from checkpoint_states import Saver, like, same, state_of

EXT4_IOC_SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, 2


def run(*command):
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True).stdout.strip()


class Disk:
    """ext4 in a file, on a loop device."""

    def __init__(self, folder: Path) -> None:
        self.at, image = folder / "disk", folder / "image"
        self.at.mkdir()
        with image.open("wb") as file:
            file.truncate(128 << 20)
        run("mkfs.ext4", "-q", "-F", image)
        self.device = run("losetup", "-f", "--show", image)
        self.mounted = False

    def mount(self) -> None:
        run("mount", self.device, self.at)
        self.mounted = True

    def cut(self) -> None:
        """From this instant nothing reaches the medium, and what was in memory is lost."""
        at = os.open(self.at, os.O_RDONLY)
        fcntl.ioctl(at, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        os.close(at)

    def unmount(self) -> None:
        for _ in range(50):  # the killed process may still be letting go
            if subprocess.run(["umount", self.at], capture_output=True, check=False).returncode == 0:
                self.mounted = False
                return
            time.sleep(0.1)
        raise AssertionError("the disk stays busy")


@pytest.fixture
def disk(tmp_path):
    if os.geteuid() != 0 or not shutil.which("mkfs.ext4") or not shutil.which("losetup"):
        pytest.skip("a power cut needs root, mkfs.ext4 and losetup")
    try:
        made = Disk(tmp_path)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no loop device: {error.stderr.strip()}")
    try:
        try:
            made.mount()
        except subprocess.CalledProcessError as error:
            pytest.skip(f"this machine mounts no ext4: {error.stderr.strip()}")
        yield made
    finally:
        if made.mounted:
            made.unmount()
        run("losetup", "-d", made.device)


def cut_power(disk, dice, *arguments, word="sealed"):
    """Runs a saver to a random instant after its first report, cuts, remounts; the last step that it acknowledged."""
    saver = Saver(*arguments)
    saver.until("ready")
    told = int(saver.until(word)[1])
    time.sleep(dice.uniform(0, 0.5))
    disk.cut()
    told = max([told, *saver.kill(word)])
    disk.unmount()
    disk.mount()
    return told


def cuts(disk, open_store, events, count, seed):
    dice, told = random.Random(seed), 0
    for _ in range(count):
        told = max(told, cut_power(disk, dice, "loop", disk.at / "run", 256))
        with open_store(disk.at / "run", min_free_mb=0) as store:
            restored = store.restore(like(state_of(0, 256)))
        assert restored.step >= told
        assert same(restored.state, state_of(restored.step, 256))
    assert not events.of("quarantined")


def control_lost(disk, count, seed):
    """Of `count` cuts, in how many stock Orbax lost the step that it had acknowledged last."""
    from orbax.checkpoint import v1 as ocp

    dice, lost = random.Random(seed), 0
    for attempt in range(count):
        directory = disk.at / f"stock{attempt}"
        told = cut_power(disk, dice, "stock", directory)
        try:
            found = ocp.load_checkpointables(directory / "checkpoints" / str(told))["state"]
            lost += not np.array_equal(found["params.embed"], state_of(told)["params"]["embed"])
        except Exception:
            lost += 1
        shutil.rmtree(directory, ignore_errors=True)
    return lost


def test_power_cut_loses_no_sealed_step_where_stock_orbax_loses_its_last(disk, open_store, events):
    cuts(disk, open_store, events, count=2, seed=1)
    assert control_lost(disk, count=2, seed=2) > 0


def test_power_cut_of_the_second_device_loses_no_step_that_was_said_to_be_copied(disk, tmp_path, open_store):
    """The first device is lost altogether: what the second was said to hold is all there is."""
    dice = random.Random(5)
    for attempt in range(2):
        run = tmp_path / f"run{attempt}"
        told = cut_power(disk, dice, "loop", run, 256, disk.at, word="mirrored")
        shutil.rmtree(run)
        with open_store(run, mirror_dir=disk.at, min_free_mb=0) as store:
            restored = store.restore(like(state_of(0, 256)))
        assert restored.step >= told
        assert same(restored.state, state_of(restored.step, 256))


@pytest.mark.slow
def test_power_cut_loses_no_sealed_step_twenty_times(disk, open_store, events, record_property):
    cuts(disk, open_store, events, count=20, seed=3)
    lost = control_lost(disk, count=10, seed=4)
    record_property("control_lost", lost)
    assert lost > 0
