from checkpoint_states import like, seal_steps, state_of

from pipeline.checkpoint import layout
from pipeline.config import BadInput


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
    assert f"{BadInput.__name__}: {run_dir}/checkpoints: another process is training here" in done.stderr
    assert (run_dir / "checkpoints" / "2.saving").exists()
