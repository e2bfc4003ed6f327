import os
import random
import shutil

import pytest
from checkpoint_states import like, same, seal_steps, state_of

from pipeline.checkpoint import metas, restore, seal, verify
from pipeline.config import RunFailed


@pytest.fixture
def sealed(open_store, run_dir, tmp_path):
    """A run with steps 1 and 2 sealed, and a way to put step 2 back as it was."""
    with open_store() as store:
        seal_steps(store, 1, 2, kilobytes=8)
    shutil.copytree(run_dir / "checkpoints", tmp_path / "good")

    def reset():
        shutil.rmtree(run_dir)
        shutil.copytree(tmp_path / "good", run_dir / "checkpoints")
        return run_dir / "checkpoints" / "2"

    return reset


@pytest.mark.parametrize("text", ["[1]", "{", "[" * 200_000, '{"step": ' + "9" * 5000 + "}"])
def test_what_was_sealed_and_says_nothing_is_passed_over(text, sealed, run_dir):
    """Whoever can write a checkpoint can seal anything at all."""
    step = sealed()
    leaves = seal.read(step, 2).leaves
    (step / "meta.json").write_text(text)
    (step / seal.NAME).unlink()
    seal.write(step, 2, leaves)
    assert len(list(metas(run_dir / "checkpoints"))) == 1


def files_of(step):
    return sorted(path for path in step.rglob("*") if path.is_file())


def flip(path, bit):
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def damages(step, dice, per_file):
    """(what, do it) for every file: flipped, truncated, emptied, grown, deleted, a link in its place."""
    for path in files_of(step):
        name, size = path.relative_to(step), path.stat().st_size
        for _ in range(per_file if size else 0):
            bit = dice.randrange(size * 8)
            yield f"{name} bit {bit}", lambda step, name=name, bit=bit: flip(step / name, bit)
        if size:
            yield f"{name} truncated", lambda step, name=name, size=size: os.truncate(step / name, dice.randrange(size))
            yield f"{name} emptied", lambda step, name=name: os.truncate(step / name, 0)
        yield f"{name} grown", lambda step, name=name, size=size: os.truncate(step / name, size + 1)
        yield f"{name} deleted", lambda step, name=name: (step / name).unlink()
        yield (
            f"{name} linked",
            lambda step, name=name: ((step / name).rename(step.parent / "x"), (step / name).symlink_to("../x")),
        )


def check_all(reset, run_dir, open_store, events, per_file, full):
    dice = random.Random(1)
    for what, damage in list(damages(reset(), dice, per_file)):
        damage(reset())
        assert dict(verify(run_dir))[2], what
        if not full and dice.random() > 0.15:
            continue
        with pytest.raises(restore.Damage):
            restore.load(run_dir / "checkpoints", 2, like(state_of(1, 8)))
        assert restore.load(run_dir / "checkpoints", 1, like(state_of(1, 8))).step == 1, what
        events.clear()
        restored = open_store().restore(like(state_of(1, 8)))
        assert restored.step == 1, what
        assert same(restored.state, state_of(1, 8)), what
        assert [fields["step"] for fields in events.of("quarantined")] == [2], what
        assert (run_dir / "quarantine" / "2" / "REASON").read_text().strip(), what
        assert not (run_dir / "checkpoints" / "2").exists(), what


def test_damage_anywhere_in_a_checkpoint_is_found_quarantined_and_the_older_step_restored(
    sealed, run_dir, open_store, events
):
    check_all(sealed, run_dir, open_store, events, per_file=3, full=False)


@pytest.mark.slow
def test_damage_anywhere_in_a_checkpoint_is_found_many_times(sealed, run_dir, open_store, events):
    check_all(sealed, run_dir, open_store, events, per_file=100, full=True)


def test_any_flipped_bit_of_the_seal_itself_is_found(sealed, run_dir):
    seal = sealed() / "SEAL"
    good = seal.read_bytes()
    for bit in random.Random(2).sample(range(len(good) * 8), 500) + list(range((len(good) - 34) * 8, len(good) * 8)):
        flip(seal, bit)
        assert dict(verify(run_dir))[2], bit
        seal.write_bytes(good)
    assert not dict(verify(run_dir))[2]


def test_missing_seal_under_a_number_is_damage_and_not_an_unfinished_save(sealed, open_store, events):
    (sealed() / "SEAL").unlink()
    assert open_store().restore(like(state_of(1, 8))).step == 1
    assert events.of("quarantined")[0]["reason"] == "SEAL: missing"


def test_all_checkpoints_damaged_stops_and_never_starts_from_step_zero(sealed, open_store, run_dir, events):
    for step in (sealed(), run_dir / "checkpoints" / "1"):
        flip(files_of(step)[0], 3)
    for _ in range(2):  # and the next start, and the one after the operator cleared the quarantine, says the same
        with pytest.raises(RunFailed, match=r"none can be restored .*quarantine.*; copy a good one back"):
            open_store().restore(like(state_of(1, 8)))
    assert len(events.of("quarantined")) == 2
    shutil.rmtree(run_dir / "quarantine")
    with pytest.raises(RunFailed, match="none can be restored"):
        open_store().restore(like(state_of(1, 8)))


def test_nothing_left_under_a_run_that_had_a_seal_is_not_a_fresh_run(sealed, open_store, run_dir):
    sealed()
    shutil.rmtree(run_dir / "checkpoints" / "1")
    shutil.rmtree(run_dir / "checkpoints" / "2")
    with pytest.raises(RunFailed, match="none can be restored"):
        open_store().restore(like(state_of(1, 8)))


def test_good_copy_put_back_after_all_were_lost_is_restored(sealed, open_store, run_dir, tmp_path):
    step = sealed()
    flip(files_of(step)[0], 3)
    flip(files_of(run_dir / "checkpoints" / "1")[0], 3)
    with pytest.raises(RunFailed):
        open_store().restore(like(state_of(1, 8)))
    shutil.copytree(tmp_path / "good" / "2", step)
    assert open_store().restore(like(state_of(1, 8))).step == 2


def test_quarantined_step_is_saved_again_and_a_second_quarantine_keeps_both(sealed, open_store, run_dir, events):
    step = sealed()
    for _ in range(2):
        flip(files_of(step)[0], 3)
        store = open_store()
        assert store.restore(like(state_of(1, 8))).step == 1
        seal_steps(store, 2, kilobytes=8)
        assert store.sealed_steps == [1, 2]
    assert sorted(path.name for path in (run_dir / "quarantine").iterdir()) == ["2", "2.1"]
    assert open_store().restore(like(state_of(1, 8))).step == 2


def test_array_changed_in_memory_between_copy_and_file_is_found_at_restore(open_store, monkeypatch, events):
    """The file is sealed with the wrong content, so that only the fingerprint taken before Orbax can tell."""
    from pipeline.checkpoint import arrays

    store = open_store()
    seal_steps(store, 1)
    write = arrays.write

    def struck(directory, named):
        named["params.norm"].view("uint32")[5] ^= 1
        write(directory, named)

    monkeypatch.setattr(arrays, "write", struck)
    seal_steps(store, 2)
    assert store.restore(like(state_of(1))).step == 1
    assert events.of("quarantined")[0]["reason"] == "params.norm: the array differs from what was saved"


def test_trouble_of_the_machine_is_not_taken_for_damage(sealed, open_store, run_dir, monkeypatch):
    sealed()
    store = open_store()

    def too_many(*_, **__):
        raise OSError(24, "Too many open files", "x")

    for what in ("pipeline.checkpoint.seal._open", "os.scandir"):  # to read a file, to list a directory
        with monkeypatch.context() as patch:
            patch.setattr(what, too_many)
            with pytest.raises(RunFailed, match="Too many open files"):
                store.restore(like(state_of(1, 8)))
        assert (run_dir / "checkpoints" / "2").exists()
