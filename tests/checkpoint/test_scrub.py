"""Sealed steps are read again while the job runs; what has rotted is repaired, or known before it is needed."""

import shutil
import threading
import time

import pytest
from checkpoint_states import like, same, seal_steps, state_of
from test_damage import files_of, flip
from test_mirror import copied, mirrored, second, until  # noqa: F401

from pipeline.checkpoint import seal, verify

LIKE = like(state_of(0, 8))


def rot(step):
    flip(max(files_of(step), key=lambda path: path.stat().st_size), 4242)


def test_every_step_on_both_devices_is_read_in_turn(mirrored, second, open_store, events):  # noqa: F811
    store = open_store(mirror_dir=second, scrub_every_s=0.01)
    store.restore(LIKE)
    until(store, lambda: len(events.of("scrubbed")) >= 12)
    read = [(event["step"], event.get("place", "run")) for event in events.of("scrubbed")]
    assert sorted(read[:6]) == sorted((step, place) for step in (1, 2, 3) for place in ("run", "mirror"))
    assert read[0] == (3, "run"), "the newest first"
    assert read[6:12] == read[:6]


def test_scrubs_are_as_far_apart_as_asked(mirrored, open_store, events):  # noqa: F811
    store = open_store(scrub_every_s=0.3)
    began = time.monotonic()
    until(store, lambda: time.monotonic() - began > 1.0)
    assert 1 <= len(events.of("scrubbed")) <= 3


@pytest.mark.parametrize("where", ["run", "mirror"])
def test_rot_on_either_device_is_repaired_from_the_other(where, mirrored, second, open_store, run_dir, events):  # noqa: F811
    store = open_store(mirror_dir=second, scrub_every_s=0.01)
    assert store.restore(LIKE).step == 3
    rot((run_dir if where == "run" else second / "run") / "checkpoints/2")
    until(store, lambda: events.of("repaired"))
    assert [event.get("place", "run") for event in events.of("quarantined") + events.of("repaired")] == [where] * 2
    assert verify(run_dir) == verify(second / "run") == [(1, []), (2, []), (3, [])]
    assert store.sealed_steps == [1, 2, 3]
    assert not store.wants_save


def test_rot_without_a_copy_is_quarantined_and_a_save_is_asked_for_once(mirrored, open_store, run_dir, events):  # noqa: F811
    store = open_store(scrub_every_s=0.01)
    store.restore(LIKE)
    rot(run_dir / "checkpoints/1")
    until(store, lambda: events.of("quarantined"))
    assert (store.sealed_steps, store.wants_save) == ([2, 3], False), "an older one is no hurry"
    rot(run_dir / "checkpoints/3")
    until(store, lambda: len(events.of("quarantined")) == 2)
    assert (store.sealed_steps, store.wants_save) == ([2], True)
    seal_steps(store, 4, kilobytes=8)
    assert (store.sealed_steps, store.wants_save) == ([2, 4], False)
    assert (run_dir / "quarantine/3/REASON").exists()


def test_a_medium_that_rots_under_the_page_cache_is_what_is_read(mirrored, open_store, events, monkeypatch):  # noqa: F811
    """The copy in memory is right for as long as it stays there."""
    asked = []
    monkeypatch.setattr("os.posix_fadvise", lambda *args: asked.append(args[-1]))
    store = open_store(scrub_every_s=0.01)
    until(store, lambda: events.of("scrubbed"))
    assert len(asked) >= len(files_of(mirrored / "3")) - 1


def test_damage_met_while_copying_is_found_there_and_then(mirrored, second, open_store, run_dir, events):  # noqa: F811
    shutil.rmtree(second / "run")
    store = open_store(mirror_dir=second)
    assert store.restore(LIKE).step == 3
    rot(run_dir / "checkpoints/3")
    until(store, lambda: events.of("quarantined"))
    assert not (second / "run/checkpoints/3").exists()
    assert store.wants_save


def test_trouble_of_the_machine_is_said_and_moves_nothing(mirrored, open_store, run_dir, events, monkeypatch):  # noqa: F811
    def too_many(*_, **__):
        raise OSError(24, "Too many open files", "x")

    store = open_store(scrub_every_s=0.01)
    with monkeypatch.context() as patch:
        patch.setattr(seal, "_open", too_many)
        until(store, lambda: events.of("scrub_failed"))
    assert "Too many open files" in events.of("scrub_failed")[0]["reason"]
    assert verify(run_dir) == [(1, []), (2, []), (3, [])]


def test_a_step_being_read_is_not_deleted_under_the_reader(mirrored, open_store, events, monkeypatch):  # noqa: F811
    inspect, reading, go_on = seal.inspect, threading.Event(), threading.Event()

    def slow(*args, **kwargs):
        reading.set()
        go_on.wait(30)
        return inspect(*args, **kwargs)

    store = open_store(scrub_every_s=0.01, keep=2)
    monkeypatch.setattr(seal, "inspect", slow)
    until(store, reading.is_set)  # of step 3
    seal_steps(store, 4, 5, 6, kilobytes=8)
    assert store.sealed_steps == [3, 5, 6]
    go_on.set()
    until(store, lambda: events.of("scrubbed"))
    seal_steps(store, 7, kilobytes=8)
    assert store.sealed_steps == [6, 7]
    assert not events.of("quarantined")


def test_a_rolled_back_store_restores_beside_its_keeper(mirrored, second, open_store, events):  # noqa: F811
    """A running job that restores waits for the copy under way, and goes on saving."""
    store = open_store(mirror_dir=second, scrub_every_s=0.001)
    for step in (4, 5, 6):
        seal_steps(store, step, kilobytes=8)
        restored = store.restore(LIKE)
        assert restored.step == step
        assert same(restored.state, state_of(step, 8))
    assert not events.of("keeper_failed")
