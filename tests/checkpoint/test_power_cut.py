"""The power goes: a real ext4 on a loop device is shut down without flushing its journal, remounted and read.

The control arm saves with stock Orbax under the same cuts and must lose what it acknowledged; if it does not, the cut
is no cut.
"""

import random
import shutil
import time

import numpy as np
import pytest
from checkpoint_states import Saver, like, same, state_of

from pipeline.drill.disk import Disk, NoDisk


@pytest.fixture
def disk(tmp_path):
    try:
        made = Disk(tmp_path, 128)
    except NoDisk as lack:
        pytest.skip(str(lack))
    with made:
        yield made


def cut_power(disk, dice, *arguments, word="sealed"):
    """Runs a saver to a random instant after its first report, cuts, remounts; the last step that it acknowledged."""
    saver = Saver(*arguments)
    saver.until("ready")
    told = int(saver.until(word)[1])
    time.sleep(dice.uniform(0, 0.5))
    disk.cut()
    told = max([told, *saver.kill(word)])
    disk.remount()
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
