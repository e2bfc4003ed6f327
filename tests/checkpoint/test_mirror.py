"""A second device: what it gives back, and that nothing which happens to it stops a save."""

import os
import shutil
import subprocess
import sys
import time

import pytest
from checkpoint_states import like, same, seal_steps, state_of
from test_damage import files_of, flip
from test_disk import fill, needs_root, small_disk  # noqa: F401

from pipeline.checkpoint import Store, Tag, layout, mend, verify
from pipeline.checkpoint.seal import Damaged
from pipeline.config import RunFailed
from pipeline.config.tree import Checkpoint

LIKE = like(state_of(0, 8))


@pytest.fixture
def second(tmp_path):
    """The directory of a second device."""
    (tmp_path / "second").mkdir()
    return tmp_path / "second"


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """A run with steps 1, 2 and 3 sealed, and each copied to a second device: checked here, lent out below."""
    folder = tmp_path_factory.mktemp("copied")
    (folder / "second").mkdir()
    config = Checkpoint(mirror_dir=folder / "second")
    with Store(folder / "run/checkpoints", folder / "run/quarantine", config, lambda name, fields: None) as store:
        for step in (1, 2, 3):
            seal_steps(store, step, kilobytes=8)
            until(store, lambda step=step: layout.steps(folder / "second/run/checkpoints")[-1:] == [step])
    return folder


@pytest.fixture
def mirrored(copied, second, run_dir):
    """Its steps, to be damaged; the copies are in `second`."""
    shutil.copytree(copied / "run", run_dir)
    shutil.copytree(copied / "second", second, dirs_exist_ok=True)
    return run_dir / "checkpoints"


def until(store, happened):
    deadline = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < deadline
        store.poll()
        time.sleep(0.005)


def test_a_copy_is_byte_for_byte_the_sealed_step_and_valid_by_itself(mirrored, second, run_dir):
    for step in ("1", "2", "3"):
        for path in files_of(mirrored / step):
            assert (
                second / "run/checkpoints" / step / path.relative_to(mirrored / step)
            ).read_bytes() == path.read_bytes()
    assert verify(second / "run") == verify(run_dir) == [(1, []), (2, []), (3, [])]


def test_a_damaged_step_is_quarantined_then_repaired_from_the_copy(mirrored, open_store, second, run_dir, events):
    flip(max(files_of(mirrored / "3"), key=lambda path: path.stat().st_size), 12345)
    restored = open_store(mirror_dir=second).restore(LIKE)
    assert restored.step == 3
    assert same(restored.state, state_of(3, 8))
    told = [name for name, _ in events if name in ("quarantined", "repaired", "restored")]
    assert told == ["quarantined", "repaired", "restored"]
    assert (run_dir / "quarantine/3/REASON").read_text().strip()
    assert verify(run_dir) == [(1, []), (2, []), (3, [])]


def test_without_the_copy_the_same_damage_costs_the_step(mirrored, open_store):
    """The control: the damage above is damage."""
    flip(max(files_of(mirrored / "3"), key=lambda path: path.stat().st_size), 12345)
    assert open_store().restore(LIKE).step == 2


def test_two_damaged_copies_still_make_a_whole_one(mirrored, open_store, second, events):
    names = [path.relative_to(mirrored / "3") for path in files_of(mirrored / "3") if path.stat().st_size]
    for i, name in enumerate(names):
        flip((mirrored / "3" if i % 2 else second / "run/checkpoints/3") / name, 3)
    assert same(open_store(mirror_dir=second).restore(LIKE).state, state_of(3, 8))
    assert not events.of("repair_failed")


def test_the_same_file_damaged_in_both_copies_goes_on_from_an_older_step(mirrored, open_store, second, events):
    for place in (mirrored, second / "run/checkpoints"):
        flip(place / "3/meta.json", 3)
    assert open_store(mirror_dir=second).restore(LIKE).step == 2
    assert events.of("repair_failed")[0]["reason"] == "meta.json: whole in no copy"


def test_all_lost_in_the_run_directory_the_copies_serve_and_are_taken_home(mirrored, open_store, second, run_dir):
    shutil.rmtree(run_dir)
    store = open_store(mirror_dir=second)
    assert same(store.restore(LIKE).state, state_of(3, 8))
    assert store.sealed_steps == layout.steps(mirrored) == [3]
    seal_steps(store, 4, kilobytes=8)
    assert open_store(mirror_dir=second).restore(LIKE).step == 4


def test_all_lost_on_both_devices_stops_and_never_starts_from_step_zero(mirrored, open_store, second, run_dir):
    shutil.rmtree(run_dir)
    for step in (1, 2, 3):
        (second / f"run/checkpoints/{step}/SEAL").unlink()
    with pytest.raises(RunFailed, match="none can be restored"):
        open_store(mirror_dir=second).restore(LIKE)


def test_only_every_nth_sealed_step_is_copied_also_across_restarts(open_store, second):
    for step in range(1, 8):
        with open_store(mirror_dir=second, mirror_every=3, keep=3) as store:
            store.restore(LIKE)
            seal_steps(store, step, kilobytes=8)
    assert layout.steps(second / "run/checkpoints") == [3, 6]


def test_a_step_that_was_not_copied_before_the_process_died_is_copied_by_the_next(open_store, second, events):
    with open_store() as store:
        seal_steps(store, 1, 2, kilobytes=8)
    store = open_store(mirror_dir=second)
    assert store.restore(LIKE).step == 2
    until(store, lambda: events.of("mirrored"))
    assert layout.steps(second / "run/checkpoints") == [2]


def test_copies_are_thinned_out_like_the_steps_they_are_of(open_store, second):
    with open_store(mirror_dir=second, keep=2) as store:
        for step in range(1, 7):
            assert store.save(step, state_of(step, 8), {}, tag=Tag((step + 1) // 2, 600.0 * step, 3.0 - step % 4))
            assert store.wait(60)
            until(store, lambda step=step: step in layout.steps(second / "run/checkpoints"))
    assert layout.steps(second / "run/checkpoints") == store.sealed_steps == [2, 3, 4, 5, 6]


# ---- what may happen to the device ----


def test_an_absent_device_is_said_once_and_used_when_it_comes(open_store, second, events):
    second.rename(second.parent / "away")
    store = open_store(mirror_dir=second)
    assert store.restore(LIKE) is None
    seal_steps(store, 1, 2, kilobytes=8)
    assert [event["reason"] for event in events.of("mirror_failed")] == [
        f"checkpoint.mirror_dir: {second} is not there; mount it"
    ]
    (second.parent / "away").rename(second)
    seal_steps(store, 3, kilobytes=8)
    until(store, lambda: 3 in layout.steps(second / "run/checkpoints"))


def test_a_device_that_goes_away_costs_no_save_and_no_restore(mirrored, open_store, second, events):
    with open_store(mirror_dir=second) as store:
        assert store.restore(LIKE).step == 3
        second.rename(second.parent / "away")
        seal_steps(store, 4, 5, kilobytes=8)
    assert len(events.of("mirror_failed")) == 1
    assert open_store(mirror_dir=second).restore(LIKE).step == 5


def test_another_device_in_its_place_is_used_at_once(mirrored, open_store, second):
    store = open_store(mirror_dir=second)
    assert store.restore(LIKE).step == 3
    second.rename(second.parent / "away")
    second.mkdir()
    seal_steps(store, 4, kilobytes=8)
    until(store, lambda: layout.steps(second / "run/checkpoints") == [4])


def test_a_copy_that_is_there_and_damaged_is_made_anew(mirrored, open_store, second, events):
    copy = second / "run/checkpoints/3"
    flip(copy / "meta.json", 9)
    shutil.rmtree(mirrored / "3")
    (copy / "SEAL").write_bytes(b"")  # so that it cannot serve
    store = open_store(mirror_dir=second)
    assert store.restore(LIKE).step == 2
    seal_steps(store, 3, kilobytes=8)
    until(store, lambda: events.of("mirrored"))
    assert not dict(verify(second / "run"))[3]


@needs_root
def test_a_directory_on_the_runs_own_device_is_no_second_device_and_that_is_said(
    small_disk,  # noqa: F811
    second,
    open_store,
    events,
):
    open_store(mirror_dir=small_disk, min_free_mb=1).restore(LIKE)
    assert [name for name, _ in events] == ["mirror_opened"]
    open_store(mirror_dir=second, min_free_mb=1).restore(LIKE)
    assert [name for name, _ in events[1:]] == ["mirror_opened", "mirror_shares_device"]


@needs_root
def test_a_full_device_costs_no_save_and_is_said_and_used_again(small_disk, open_store, run_dir, events):  # noqa: F811
    store = open_store(mirror_dir=small_disk, min_free_mb=1, keep=2)
    seal_steps(store, 1)
    until(store, lambda: events.of("mirrored"))
    filler = fill(small_disk, leave_mb=3)
    seal_steps(store, 2, 3)
    until(store, lambda: events.of("mirror_failed"))
    assert "3 MB free" in events.of("mirror_failed")[0]["reason"]
    assert layout.steps(small_disk / "run/checkpoints") == [1], "the last copy stays"
    filler.unlink()
    seal_steps(store, 4)
    until(store, lambda: len(events.of("mirrored")) == 2)
    assert layout.steps(run_dir / "checkpoints") == [3, 4]


@needs_root
def test_a_read_only_device_costs_no_save(small_disk, open_store, events):  # noqa: F811
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    store = open_store(mirror_dir=small_disk, min_free_mb=1)
    seal_steps(store, 1, 2)
    until(store, lambda: events.of("mirror_failed"))
    assert "Read-only file system" in events.of("mirror_failed")[0]["reason"]


def test_a_second_run_of_the_same_name_does_not_mix_its_steps_in(mirrored, second, open_store, events):
    code = (
        "import sys; from pathlib import Path\n"
        "from pipeline.checkpoint import Store; from pipeline.config.tree import Checkpoint\n"
        "run = Path(sys.argv[1])\n"
        "with Store(run / 'checkpoints', run / 'quarantine', Checkpoint(mirror_dir=sys.argv[2]), print) as store:\n"
        "    store.restore({})"
    )
    store = open_store(mirror_dir=second)
    store.restore(LIKE)
    other = second.parent / "other" / "run"
    done = subprocess.run([sys.executable, "-c", code, other, second], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "mirror_failed" in done.stdout
    assert "another process mirrors" in done.stdout


# ---- the copy itself ----


def test_a_write_that_reads_back_otherwise_never_gets_its_number(mirrored, tmp_path, monkeypatch):
    fsync_tree = mend.durable.fsync_tree

    def struck(directory):
        fsync_tree(directory)
        flip(directory / "meta.json", 3)

    monkeypatch.setattr(mend.durable, "fsync_tree", struck)
    with pytest.raises(OSError, match="reads back otherwise"):
        mend.rebuild(3, [mirrored / "3"], tmp_path)
    assert not (tmp_path / "3").exists()
    assert not (tmp_path / "3.mending").exists()


def test_copies_of_two_saves_of_one_step_are_not_mixed(open_store, tmp_path):
    """Sealed twice, after a quarantine: the same arrays, but Orbax writes times into its metadata."""
    for name in "ab":
        with open_store(tmp_path / name) as store:
            seal_steps(store, 1, kilobytes=8)
    copies = [tmp_path / name / "checkpoints/1" for name in "ab"]
    flip(copies[0] / "_CHECKPOINT_METADATA", 3)
    mend.rebuild(1, copies, tmp_path)
    assert (tmp_path / "1/SEAL").read_bytes() == (copies[1] / "SEAL").read_bytes()
    flip(copies[1] / "_CHECKPOINT_METADATA", 3)
    shutil.rmtree(tmp_path / "1")
    with pytest.raises(Damaged, match="_CHECKPOINT_METADATA: whole in no copy"):
        mend.rebuild(1, copies, tmp_path)


def test_a_link_in_a_copy_is_not_followed(mirrored, second, open_store, tmp_path):
    outside = tmp_path / "outside"
    shutil.copyfile(mirrored / "3/meta.json", outside)
    for place in (mirrored, second / "run/checkpoints"):
        (place / "3/meta.json").unlink()
        os.symlink(outside, place / "3/meta.json")
    assert open_store(mirror_dir=second).restore(LIKE).step == 2
