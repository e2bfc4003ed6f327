"""A save that fails costs that save, one line, and nothing that stays behind."""

from checkpoint_states import Saver, seal_steps


def test_failed_saves_say_why_in_one_line_each_and_hold_up_neither_the_next_one_nor_the_exit(run_dir):
    """Orbax's threads would wait five minutes for a directory that could not be made, and the process for them; and
    they and TensorStore's would print up to 440 lines besides."""
    said, complained = Saver("faults", run_dir).end()
    assert complained == ""
    *saves, left = said
    assert [line.split()[1] for line in saves] == [str(step) for step in range(1, 12)]
    assert all(line.startswith("save_failed") and "File exists" in line for line in saves[:2])
    assert all(line.startswith("save_failed") and "File too large" in line for line in saves[2:10])
    assert saves[10].startswith("sealed")
    assert left.split()[1] == "0", left


def test_what_a_failed_save_left_of_a_step_is_swept_without_a_word_when_it_is_saved_again(open_store, caplog):
    store = open_store()
    left = store._home.directory / "1.saving.orbax-checkpoint-tmp"
    (left / "arrays").mkdir(parents=True)
    seal_steps(store, 1)
    assert store.sealed_steps == [1]
    assert not left.exists()
    assert caplog.messages == []


def test_sealed_steps_leave_nothing_in_orbax(open_store):
    from orbax.checkpoint._src.futures import signaling_client

    signals = signaling_client.get_signaling_client()._data
    before = set(signals)
    seal_steps(open_store(), 1, 2)
    assert set(signals) == before
