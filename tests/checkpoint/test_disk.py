"""Disks that are full, read-only or absent, for real."""

import os
import resource
import subprocess
from pathlib import Path

import pytest
from checkpoint_states import like, same, seal_steps, state_of
from limited import limited

from pipeline.checkpoint import layout
from pipeline.config import BadInput, RunFailed

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 16 MB."""
    at = tmp_path / "disk"
    at.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", at], capture_output=True, check=False
    ).returncode:
        pytest.skip("this machine lets nobody mount a tmpfs")
    yield at
    subprocess.run(["umount", at], check=True)


def fill(disk: Path, leave_mb: float) -> Path:
    filler = disk / "filler"
    free = os.statvfs(disk)
    filler.write_bytes(bytes(max(0, int(free.f_bavail * free.f_frsize - leave_mb * 1e6))))
    return filler


@needs_root
def test_disk_that_fills_during_a_save_costs_that_save_alone(small_disk, open_store, events, monkeypatch):
    store = open_store(small_disk, min_free_mb=0)
    seal_steps(store, 1, kilobytes=256)
    filler = fill(small_disk, leave_mb=0.7)
    monkeypatch.setattr(store, "_shortage", lambda _: None)  # as if the room had gone after the check
    assert store.save(2, state_of(2, 256), {})
    assert not store.wait(60)
    assert "RESOURCE_EXHAUSTED" in events.of("save_failed")[0]["reason"] or "No space" in str(events)
    assert sorted(path.name for path in (small_disk / "checkpoints").iterdir()) == [".lock", ".sealed_once", "1"]
    assert store.sealed_steps == [1]
    filler.unlink()
    seal_steps(store, 3, kilobytes=256)
    assert same(open_store(small_disk, min_free_mb=0).restore(like(state_of(3, 256))).state, state_of(3, 256))


@needs_root
def test_disk_known_to_be_full_is_not_written_and_the_next_save_tries_again(small_disk, open_store, events):
    store = open_store(small_disk, min_free_mb=1)
    seal_steps(store, 1)
    filler = fill(small_disk, leave_mb=0.5)
    for step in (2, 3):
        assert not store.save(step, state_of(step), {}, urgent=True)
        assert not store.wait(60)
    assert [fields["step"] for fields in events.of("save_failed")] == [2, 3]
    assert "0 MB free" in events.of("save_failed")[0]["reason"]
    assert "checkpoint.min_free_mb" in events.of("save_failed")[0]["reason"]
    filler.unlink()
    seal_steps(store, 4)
    assert store.sealed_steps == [1, 4]


@needs_root
def test_run_with_a_checkpoint_resumes_on_a_full_disk_and_one_without_is_refused(small_disk, open_store):
    fill(small_disk, leave_mb=2)
    with pytest.raises(RunFailed, match=r"checkpoint.min_free_mb: 10, but .* has 2 MB free; free some"):
        open_store(small_disk, min_free_mb=10)
    (small_disk / "filler").unlink()
    seal_steps(open_store(small_disk, min_free_mb=1), 1)
    fill(small_disk, leave_mb=0)
    assert open_store(small_disk, min_free_mb=10).restore(like(state_of(1))).step == 1


@needs_root
def test_damaged_step_on_a_full_disk_is_still_passed_over(small_disk, open_store):
    seal_steps(open_store(small_disk, min_free_mb=1), 1, 2)
    fill(small_disk, leave_mb=0)
    (small_disk / "checkpoints" / "2" / "SEAL").unlink()
    fill(small_disk, leave_mb=0)
    assert open_store(small_disk, min_free_mb=1).restore(like(state_of(1))).step == 1


@needs_root
def test_quarantined_steps_give_way_to_a_save_on_a_full_disk_and_leave_their_reasons(small_disk, open_store, events):
    seal_steps(open_store(small_disk, min_free_mb=1), 1, 2, kilobytes=512)
    (small_disk / "checkpoints" / "2" / "SEAL").unlink()
    store = open_store(small_disk, min_free_mb=1)
    assert store.restore(like(state_of(1, 512))).step == 1
    fill(small_disk, leave_mb=6.5)  # a save needs 7.2 MB
    seal_steps(store, 3, kilobytes=512)
    assert events.of("quarantine_emptied") == [{"steps": 1}]
    assert [path.name for path in (small_disk / "quarantine" / "2").iterdir()] == ["REASON"]
    assert store.sealed_steps == [1, 3]
    assert not events.of("save_failed")


@needs_root
def test_read_only_disk_is_bad_input_with_the_fix(small_disk, open_store):
    with open_store(small_disk, min_free_mb=1) as store:
        seal_steps(store, 1)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    for directory in (small_disk, small_disk / "new"):
        with pytest.raises(BadInput, match=r"cannot be written \(Read-only file system\); give a --run_dir that can"):
            open_store(directory)


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_directory_without_permission_is_bad_input(tmp_path, open_store):
    tmp_path.chmod(0o500)
    with pytest.raises(BadInput, match="cannot be written"):
        open_store(tmp_path / "run")
    tmp_path.chmod(0o700)


def test_file_where_the_run_should_be_is_bad_input(tmp_path, open_store):
    (tmp_path / "run").write_text("")
    with pytest.raises(BadInput, match=r"cannot be written \(Not a directory\)"):
        open_store(tmp_path / "run")


def test_fault_that_may_pass_is_no_bad_input_on_a_first_launch(run_dir, open_store):
    """A supervisor tries again after it; of bad input it waits for the ground."""
    refused = pytest.raises(RunFailed, match=r"cannot be written \(Too many open files\); try again, or")
    with limited(resource.RLIMIT_NOFILE, 0), refused:
        open_store()
    seal_steps(open_store(), 1)


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_medium_that_refuses_to_flush_never_gives_a_sealed_step(call, open_store, run_dir, events, monkeypatch):
    store = open_store()
    seal_steps(store, 1)
    real, count = getattr(os, call), [0]

    def failing(at):
        def instead(*args):
            count[0] += 1
            if count[0] == at:
                raise OSError(5, "Input/output error")
            return real(*args)

        return instead

    at = 0
    while True:
        at, count[0] = at + 1, 0
        with monkeypatch.context() as patch:
            patch.setattr(f"pipeline.checkpoint.durable.os.{call}", failing(at))
            store.save(10 + at, state_of(10 + at), {})
            sealed = store.wait(60)
        assert sealed == (store.newest_sealed == 10 + at)
        assert sealed or "Input/output error" in events.of("save_failed")[-1]["reason"]
        if count[0] < at:
            break
    assert at > (10 if call == "fsync" else 2)
    assert store.restore(like(state_of(1))).step == layout.steps(run_dir / "checkpoints")[-1]
    assert not events.of("quarantined")
