"""Killed at any instant, a run loses nothing that it had reported sealed."""

import random
import shutil
import time

import pytest
from checkpoint_states import Saver, like, same, state_of

from pipeline.checkpoint import layout, verify


def kill_at_random(run_dir, open_store, events, kills, seed):
    dice, sealed = random.Random(seed), 0
    for _ in range(kills):
        saver = Saver("loop", run_dir, 1024)
        assert int(saver.until("ready")[1]) >= sealed
        time.sleep(dice.uniform(0, 0.6))
        sealed = max([sealed, *saver.kill()])
        with open_store(run_dir) as store:
            restored = store.restore(like(state_of(0, 1024)))
        assert (restored.step if restored else 0) >= sealed
        if restored:
            sealed = restored.step
            assert restored.meta == {"step": sealed}
            assert same(restored.state, state_of(sealed, 1024))
    assert sealed > 0
    assert not events.of("quarantined")


def test_sigkill_while_saving_loses_no_sealed_step(run_dir, open_store, events):
    kill_at_random(run_dir, open_store, events, kills=4, seed=1)


@pytest.mark.slow
def test_sigkill_while_saving_loses_no_sealed_step_forty_times(run_dir, open_store, events):
    kill_at_random(run_dir, open_store, events, kills=40, seed=2)


def test_sigkill_leaves_only_whole_copies_on_the_second_device(run_dir, tmp_path, open_store):
    """Whatever the instant, what has a number there is whole; what has none is swept by the next start."""
    dice, second, copied = random.Random(3), tmp_path / "second", 0
    second.mkdir()
    for _ in range(4):
        saver = Saver("loop", run_dir, 1024, second)
        saver.until("mirrored")
        time.sleep(dice.uniform(0, 0.3))
        saver.kill()
        found = verify(second / "run")
        assert found
        assert all(not problems for _, problems in found)
        assert found[-1][0] > copied
        copied = found[-1][0]
    shutil.rmtree(run_dir)
    with open_store(run_dir, mirror_dir=second) as store:
        restored = store.restore(like(state_of(0, 1024)))
    assert restored.step == copied
    assert same(restored.state, state_of(copied, 1024))


def at_every_file_operation(run_dir, open_store, events, stride):
    """Two saves, then two that also delete: killed before each of their file operations in turn."""
    saver, point, unsealed = Saver("points", run_dir), 1, 0
    saver.until("ready")
    while True:
        saver.process.stdin.write(f"{point}\n")
        saver.process.stdin.flush()
        told = 0
        while (line := saver.until("sealed", "done", "over"))[0] == "sealed":
            told = int(line[1])
        if line[0] == "over":
            break
        with open_store(run_dir / str(point), keep=2) as store:
            restored = store.restore(like(state_of(0)))
            left = sorted(path.name for path in (run_dir / str(point) / "checkpoints").iterdir())
        found = restored.step if restored else 0
        assert found in (told, told + 1), point  # a kill between the name and the report leaves one more
        assert not found or same(restored.state, state_of(found)), point
        assert [name for name in left if not name.startswith(".")] == [str(step) for step in store.sealed_steps], left
        unsealed += not found
        point += stride
    saver.kill()
    assert unsealed > 0  # some kills came before the first seal: those runs rightly start anew
    assert not events.of("quarantined")
    return point


def test_kill_at_file_operations_of_a_save_leaves_the_last_sealed_step(run_dir, open_store, events):
    assert at_every_file_operation(run_dir, open_store, events, stride=11) > 60


@pytest.mark.slow
def test_kill_at_every_file_operation_of_a_save_leaves_the_last_sealed_step(run_dir, open_store, events):
    at_every_file_operation(run_dir, open_store, events, stride=1)


def test_kill_before_the_first_seal_is_a_fresh_run_and_leaves_no_litter(run_dir, open_store):
    for name in ("5.saving", "5.saving.orbax-checkpoint-tmp"):
        (run_dir / "checkpoints" / name / "state").mkdir(parents=True)
    store = open_store()
    assert store.restore({}) is None
    assert layout.steps(run_dir / "checkpoints") == []
    assert [path.name for path in (run_dir / "checkpoints").iterdir()] == [".lock"]
