import os
from collections import namedtuple

import pytest
from checkpoint_states import like, seal_steps, state_of

from pipeline.checkpoint import Tag, layout, seal, verify
from pipeline.checkpoint.retention import kept
from pipeline.config import RunFailed

ORBIT_S, DAY_S = 5678.0, 86400.0


def tagged(count: int, every_s: float = 600.0) -> dict[int, Tag]:
    """Steps 10, 20, … saved every `every_s`, with a loss that is lowest early on."""
    return {
        10 * k: Tag(int(k * every_s / ORBIT_S) + 1, k * every_s, 3.0 + abs(k - 40) / 1000) for k in range(1, count + 1)
    }


def test_the_newest_one_of_each_orbit_of_a_day_and_the_best_stay() -> None:
    tags = tagged(400)
    stay = kept(tags, newest=3, orbits_s=DAY_S)
    assert {4000, 3990, 3980} <= stay
    assert 400 in stay, "the best by validation loss"
    extra = sorted(stay - {4000, 3990, 3980, 400})
    orbits = [tags[step].orbit for step in extra]
    assert len(set(orbits)) == len(orbits)
    assert len(extra) == pytest.approx(DAY_S / ORBIT_S, abs=1)
    assert all(tags[step + 10].orbit == tags[step].orbit + 1 for step in extra), "the last of its orbit"
    assert all(4000 * 60.0 - tags[step].mission_s <= DAY_S for step in extra)


def test_the_newest_stay_whatever_is_known_of_them() -> None:
    assert kept({}, 3, DAY_S) == set()
    assert kept({5: Tag()}, 3, DAY_S) == {5}
    assert kept({step: Tag() for step in range(10)}, 3, DAY_S) == {7, 8, 9}
    in_part = {1: Tag(1, 0.0), 2: Tag(1), 3: Tag(mission_s=0.0)}
    assert kept(in_part | {4: Tag()}, 1, DAY_S) == {4}
    assert kept(in_part | {4: Tag(2, DAY_S)}, 1, DAY_S) == {1, 4}
    assert kept({step: Tag(1, 1e9, float("nan")) for step in range(10)}, 0, 0.0) == {9}
    assert kept({1: Tag(loss=2.0), 2: Tag(loss=2.0), 3: Tag(), 4: Tag()}, 1, 0.0) == {1, 4}, "the earliest of equals"


def test_a_store_keeps_what_retention_says_also_after_a_restart(open_store) -> None:
    tags = {1: Tag(1, 100.0, 3.0), 2: Tag(1, 200.0, 2.0), 3: Tag(2, 6000.0, 2.5), 4: Tag(2, 6100.0, 2.6)}
    tags |= {step: Tag(3, 12000.0 + step, 2.7) for step in (5, 6, 7)}
    tags |= {8: Tag(18, 11800.0 + DAY_S, 2.7), 9: Tag(18, 11900.0 + DAY_S, 2.7)}
    seen = []
    for step, tag in tags.items():
        store = open_store(keep=2)
        store.restore(like(state_of(0, 8)))
        assert store.save(step, state_of(step, 8), {}, tag=tag)
        assert store.wait(60)
        seen.append(store.sealed_steps)
    assert seen[5] == [2, 4, 5, 6]
    assert seen[6] == [2, 4, 6, 7]
    assert seen[8] == [2, 7, 8, 9], "orbit 2 lies more than a day back"


def test_a_disk_that_runs_full_gets_back_what_was_kept_besides_the_newest(open_store, events, monkeypatch) -> None:
    store = open_store(keep=2, min_free_mb=0)
    for step in range(1, 6):
        assert store.save(step, state_of(step, 8), {}, tag=Tag(step, step * ORBIT_S))
        assert store.wait(60)
    assert store.sealed_steps == [1, 2, 3, 4, 5]
    usage = namedtuple("usage", "free")
    free = lambda path: usage(9e6 if not os.path.exists(f"{path}/1") else 0)  # noqa: E731
    monkeypatch.setattr("shutil.disk_usage", free)
    assert store.save(6, state_of(6, 8), {}, tag=Tag(6, 6 * ORBIT_S))
    assert store.wait(60)
    assert store.sealed_steps == [4, 5, 6]
    assert not events.of("save_failed")


def test_only_the_newest_are_kept_and_each_goes_after_a_newer_one_is_sealed(open_store, run_dir, events):
    store = open_store(keep=2)
    seal_steps(store, 1, 2, 3, 4)
    assert layout.steps(run_dir / "checkpoints") == store.sealed_steps == [3, 4]
    order = [(name, fields["step"]) for name, fields in events]
    assert order == [("sealed", 1), ("sealed", 2), ("sealed", 3), ("deleted", 1), ("sealed", 4), ("deleted", 2)]


def test_failed_saves_delete_nothing(open_store, run_dir, monkeypatch):
    store = open_store(keep=2)
    seal_steps(store, 1, 2)
    monkeypatch.setattr("pipeline.checkpoint.arrays.write", lambda *_: 1 / 0)
    for step in (3, 4, 5):
        store.save(step, state_of(step), {})
        assert not store.wait(60)
    assert layout.steps(run_dir / "checkpoints") == [1, 2]


def test_deletion_cut_half_way_is_swept_at_start_and_is_no_damage(open_store, run_dir, monkeypatch, events):
    store = open_store(keep=2)
    seal_steps(store, 1, 2)
    monkeypatch.setattr("shutil.rmtree", lambda path: (path / "SEAL").unlink())
    seal_steps(store, 3)
    assert (run_dir / "checkpoints" / "1.deleted").exists()
    monkeypatch.undo()
    store = open_store(keep=2)
    assert not (run_dir / "checkpoints" / "1.deleted").exists()
    assert store.restore(like(state_of(3))).step == 3
    assert not events.of("quarantined")


def test_what_could_not_be_removed_goes_with_the_next_save_and_what_is_being_mended_stays(open_store, run_dir):
    store = open_store(keep=2)
    seal_steps(store, 1, kilobytes=8)
    left = [run_dir / "checkpoints" / name for name in ("0.deleted", "7.mending")]
    for path in left:
        (path / "state").mkdir(parents=True)
    seal_steps(store, 2, kilobytes=8)
    assert [path.exists() for path in left] == [False, True]


def test_what_could_not_be_removed_goes_before_any_step_to_make_room(open_store, run_dir, monkeypatch):
    store = open_store(keep=2, min_free_mb=0)
    seal_steps(store, 1, 2, kilobytes=8)
    left, studied = run_dir / "checkpoints/0.deleted", run_dir / "quarantine/0/state"
    left.mkdir()
    studied.mkdir(parents=True)
    usage = namedtuple("usage", "free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(0 if left.exists() else 9e6))
    assert store._home.make_room(8192, 1, 0.0) == (None, [])
    assert not left.exists()
    assert studied.exists()
    assert layout.steps(run_dir / "checkpoints") == [1, 2]


def test_leftovers_of_any_kind_stop_no_launch(open_store, run_dir, tmp_path, events):
    """A step that was moved elsewhere and linked goes like any other; a file is no folder."""
    with open_store() as store:
        seal_steps(store, 1, kilobytes=8)
    (run_dir / "checkpoints/1").rename(tmp_path / "moved")
    (run_dir / "checkpoints/1").symlink_to(tmp_path / "moved")
    (run_dir / "checkpoints/9.mending").write_bytes(b"")
    store = open_store(keep=2)
    assert not (run_dir / "checkpoints/9.mending").exists()
    assert store.restore(like(state_of(0, 8))).step == 1
    seal_steps(store, 2, 3, kilobytes=8)
    assert not events.of("delete_failed")
    assert layout.steps(run_dir / "checkpoints") == [2, 3]
    assert (tmp_path / "moved/SEAL").exists(), "what is linked to is not ours"


def test_deletion_that_fails_leaves_the_new_step_sealed_and_says_so(open_store, monkeypatch, events):
    store = open_store(keep=2)
    seal_steps(store, 1, 2)

    def refuse(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("pipeline.checkpoint.layout.take_out", refuse)
    seal_steps(store, 3)
    assert store.newest_sealed == 3
    assert events.of("delete_failed")[0]["step"] == 1


def test_what_is_not_ours_in_the_directory_stays(open_store, run_dir):
    foreign = [run_dir / "checkpoints" / name for name in ("notes.txt", "007", "12.old", "x.saving")]
    for path in foreign:
        path.mkdir(parents=True)
    store = open_store(keep=2)
    seal_steps(store, 1, 2, 3)
    assert all(path.exists() for path in foreign)
    assert store.sealed_steps == [2, 3]


def test_second_process_on_the_same_run_is_refused(open_store, run_dir):
    import subprocess
    import sys

    seal_steps(open_store(), 1)
    (run_dir / "checkpoints" / "2.saving").mkdir()
    code = (
        "import sys; from pathlib import Path\n"
        "from pipeline.checkpoint import Store; from pipeline.config.tree import Checkpoint\n"
        "run = Path(sys.argv[1]); Store(run / 'checkpoints', run / 'quarantine', Checkpoint(), print)"
    )
    done = subprocess.run([sys.executable, "-c", code, run_dir], capture_output=True, text=True, check=False)
    assert f"{RunFailed.__name__}: {run_dir}/checkpoints: another process is training here" in done.stderr
    assert (run_dir / "checkpoints" / "2.saving").exists()


def test_a_step_that_is_thinned_out_while_it_is_verified_is_not_called_damaged(open_store, run_dir, monkeypatch):
    store = open_store(keep=3)
    seal_steps(store, 1, 2, 3, kilobytes=8)
    inspect, saved = seal.inspect, [4]

    def beside(path, step, **how):
        for more in saved:
            saved.remove(more)
            seal_steps(store, more, kilobytes=8)
        return inspect(path, step, **how)

    monkeypatch.setattr(seal, "inspect", beside)
    assert verify(run_dir) == [(2, []), (3, [])]
    (run_dir / "checkpoints/3/SEAL").unlink()
    assert verify(run_dir)[1] == (3, ["SEAL: missing"]), "which nobody has taken out"
