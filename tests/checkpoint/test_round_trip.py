import json
import time
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from checkpoint_states import like, same, seal_steps, state_of
from flax import nnx

from pipeline.checkpoint import arrays, restore
from pipeline.config import BadInput, RunFailed


def training_state():
    """Parameters as Flax NNX holds them, Optax state, and every dtype that a run saves."""

    class Net(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            self.inner = nnx.List([nnx.Linear(8, 16, rngs=rngs), nnx.Linear(16, 8, rngs=rngs)])
            self.scale = nnx.Param(jnp.linspace(0, 1, 7).astype(jnp.bfloat16))

    params = nnx.state(Net(nnx.Rngs(0)), nnx.Param)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3))
    return {
        "params": params,
        "opt": optimizer.init(params),
        "step": jnp.int32(12345),
        "key": jax.random.key_data(jax.random.key(7)),
        "odd": {"empty": jnp.zeros((0, 3)), "scalar": jnp.float32(np.nan), "huge": jnp.uint32(2**32 - 1), "none": None},
    }


def test_every_bit_and_container_of_a_training_state_comes_back(open_store):
    state = training_state()
    meta = {"tokens": 2**60, "cooldown": None, "lr": 0.1, "clock": [1.5, "x"]}
    with open_store() as store:
        assert store.save(3, state, meta)
        assert store.wait(60)
        assert store.newest_sealed == 3
    restored = open_store().restore(like(state))
    assert (restored.step, restored.meta) == (3, meta)
    assert same(restored.state, state)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(restored.state))


@pytest.fixture
def far_and_slow(monkeypatch):
    """As if the state were on a GPU, whose copy to the host takes half a second. Returns how many copies were made."""
    gather, made = arrays.HostCopy._gather, []

    def slow(self, likes, pieces):
        time.sleep(0.5)
        made.append(likes)
        return gather(self, likes, pieces)

    monkeypatch.setattr(arrays, "has_room", lambda state: True)
    monkeypatch.setattr(arrays.HostCopy, "_gather", slow)
    return made


def test_a_state_on_a_gpu_may_be_donated_before_it_has_come_to_the_host(open_store, far_and_slow, events):
    state, expected = jax.device_put(state_of(1)), state_of(1)
    with open_store() as store:
        assert store.save(1, state, {})
        assert not far_and_slow, "the caller goes on before the host has it"
        jax.jit(lambda tree: jax.tree.map(lambda x: x + 1, tree), donate_argnums=0)(state)
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))
        assert not store.save(2, jax.device_put(state_of(2)), {}), "one save at a time"
        assert store.wait(60)
        assert same(store.restore(like(expected)).state, expected)
    sealed = next(fields for name, fields in events if name == "sealed")
    assert sealed["blocking_s"] < 0.4 < sealed["seconds"]


@pytest.mark.parametrize(
    ("stats", "room"),
    [
        ({"bytes_limit": 1000, "peak_bytes_in_use": 600}, True),
        ({"bytes_limit": 1000, "peak_bytes_in_use": 601}, False),
        (None, False),
    ],
)
def test_a_state_is_copied_on_a_gpu_only_where_there_was_always_room(stats, room):
    class Gpu:
        def memory_stats(self):
            return stats

    leaf = SimpleNamespace(size=100, dtype=np.dtype(np.float32), devices=lambda: {Gpu()})
    assert arrays.has_room({"w": leaf}) is room


@pytest.mark.parametrize("most_bytes", [1, 12, 1 << 24])
def test_what_comes_in_pieces_is_whole_and_its_own(monkeypatch, most_bytes):
    monkeypatch.setattr(arrays, "has_room", lambda state: True)
    monkeypatch.setattr(arrays, "PIECE", most_bytes)
    host = arrays.HostCopy()
    for shift in (0, 1):  # into the same memory again
        state = jax.tree.map(lambda x, shift=shift: jnp.asarray(x + shift), training_state())
        fetch, expected = host.begin(state), jax.device_get(arrays.named(state))
        jax.tree.map(lambda x: x.delete(), state)
        got = fetch()
        assert got.keys() == expected.keys()
        for name, array in got.items():
            assert (array.shape, array.dtype) == (expected[name].shape, expected[name].dtype)
            assert array.tobytes() == expected[name].tobytes()


def test_a_piece_comes_through_memory_that_does_not_move():
    assert arrays.fetched(jnp.ones(3)).sharding.memory_kind == "pinned_host"


def test_a_state_on_a_cpu_is_copied_to_the_host_at_once():
    assert not arrays.has_room(jax.device_put(state_of(1)))
    assert not arrays.has_room(state_of(1))


def test_a_state_that_does_not_come_to_the_host_is_a_save_that_failed(open_store, far_and_slow, monkeypatch, events):
    def lost(self, likes, pieces):
        raise jax.errors.JaxRuntimeError("INTERNAL: the GPU has fallen off the bus")

    monkeypatch.setattr(arrays.HostCopy, "_gather", lost)
    store = open_store()
    assert store.save(1, jax.device_put(state_of(1)), {})
    assert not store.wait(60)
    assert "fallen off the bus" in next(fields["reason"] for name, fields in events if name == "save_failed")


def test_restored_arrays_go_where_the_shardings_say_and_can_be_donated(open_store):
    where = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    state = {"w": jnp.arange(1 << 20, dtype=jnp.float32)}
    store = open_store()
    store.save(1, state, {})
    store.wait(60)
    asked = {"w": jax.ShapeDtypeStruct((1 << 20,), jnp.float32, sharding=where)}
    restored = store.restore(asked).state["w"]
    assert restored.sharding == where
    moved = jax.jit(lambda x: x + 1, donate_argnums=0)(restored)
    np.testing.assert_array_equal(moved, np.arange(1 << 20, dtype=np.float32) + 1)
    assert same(store.restore(asked).state, state)


def test_state_donated_right_after_save_does_not_leak_into_the_checkpoint(open_store):
    update = jax.jit(lambda tree: jax.tree.map(lambda x: x + 1, tree), donate_argnums=0)
    state = update({f"w{i}": jnp.zeros(1 << 18, jnp.float32) for i in range(8)})
    store = open_store(keep=20)
    for step in range(1, 9):
        assert store.save(step, state, {})
        for _ in range(5):
            state = update(state)
        jax.block_until_ready(state)
        assert store.wait(60)
        expected = 1 + 5 * (step - 1)
        restored = store.restore(like(state)).state
        assert all(np.all(np.asarray(leaf) == expected) for leaf in restored.values())


def test_host_arrays_overwritten_right_after_save_do_not_leak_into_the_checkpoint(open_store):
    state = state_of(1, kilobytes=4096)
    expected = state_of(1, kilobytes=4096)
    store = open_store()
    store.save(1, state, {})
    for array in state["params"].values():
        array[:] = np.nan
    store.wait(60)
    assert same(store.restore(like(expected)).state, expected)


def test_checkpoint_of_another_model_is_refused_by_name_and_not_quarantined(open_store, run_dir):
    store = open_store()
    seal_steps(store, 1)
    other = like(state_of(1))
    other["params"]["embed"] = jax.ShapeDtypeStruct((5,), jnp.float32)
    with pytest.raises(BadInput, match=r"another model: params.embed is float32\[16384\] there and float32\[5\] here"):
        store.restore(other)
    del other["params"]["embed"]
    with pytest.raises(BadInput, match=r"params.embed is float32\[16384\] there and absent here"):
        store.restore(other)
    assert not list((run_dir / "quarantine").iterdir())


@pytest.mark.parametrize("error", [ValueError("no such codec"), MemoryError()], ids=["with words", "without"])
def test_whole_checkpoint_that_orbax_cannot_read_is_not_called_damaged(open_store, run_dir, monkeypatch, error):
    store = open_store()
    seal_steps(store, 1)

    def fails(*_):
        raise error

    monkeypatch.setattr("pipeline.checkpoint.arrays.read", fails)
    with pytest.raises(RunFailed, match="whole, but Orbax cannot read it"):
        store.restore(like(state_of(1)))
    assert (run_dir / "checkpoints" / "1" / "SEAL").exists()


def test_a_device_that_is_at_fault_costs_no_checkpoint(open_store, run_dir, events):
    seal_steps(open_store(), 1, 2, 3)
    with pytest.raises(RunFailed, match=r"checkpoints/3: whole, .* the device may be at fault"):
        open_store().restore(like(state_of(3)), lambda restored: "params differ")
    assert not events.of("quarantined")
    sealed_wrong = open_store().restore(like(state_of(3)), lambda restored: "params differ" * (restored.step == 3))
    assert sealed_wrong.step == 2, "the device is sound, so it was that step"
    assert [event["step"] for event in events.of("quarantined")] == [3]


def test_copy_on_another_machine_restores_and_is_readable_without_writing(open_store, run_dir, tmp_path):
    import shutil

    with open_store() as store:
        seal_steps(store, 1, 2)
    shutil.copytree(run_dir, tmp_path / "ground", copy_function=shutil.copyfile)
    shutil.rmtree(run_dir)
    before = sorted((tmp_path / "ground").rglob("*"))
    assert same(restore.load(tmp_path / "ground" / "checkpoints", 2, like(state_of(2))).state, state_of(2))
    assert sorted((tmp_path / "ground").rglob("*")) == before
    assert open_store(tmp_path / "ground").restore(like(state_of(2))).step == 2


def test_save_under_way_makes_an_ordinary_save_give_up_and_an_urgent_one_wait(open_store, monkeypatch):
    from pipeline.checkpoint import arrays

    write = arrays.write
    monkeypatch.setattr(arrays, "write", lambda *args: (time.sleep(0.3), write(*args)))
    store = open_store()
    assert store.save(1, state_of(1), {})
    assert not store.save(2, state_of(2), {})
    assert not store.wait(0.01)
    assert store.save(3, state_of(3), {}, urgent=True)
    assert store.sealed_steps == [1]
    assert store.wait(60)
    assert store.sealed_steps == [1, 3]
    assert store.time_to_seal_s > 0.3 > store.blocking_s > 0


def test_step_is_reported_sealed_only_by_poll_and_never_before_its_seal_is_on_disk(open_store, events, run_dir):
    store = open_store()
    store.save(1, state_of(1), {})
    while not events.of("sealed"):
        assert store.newest_sealed is None
        store.poll()
    assert store.newest_sealed == 1
    assert (run_dir / "checkpoints" / "1" / "SEAL").exists()
    assert events.of("sealed")[0]["bytes"] > 4 * 64 * 1024


def test_saving_a_sealed_step_again_writes_nothing(open_store, run_dir):
    store = open_store()
    seal_steps(store, 1)
    seal = (run_dir / "checkpoints" / "1" / "SEAL").stat()
    assert store.save(1, state_of(1), {}, urgent=True)
    assert store.wait(60)
    assert (run_dir / "checkpoints" / "1" / "SEAL").stat() == seal


def test_poll_stays_under_fifty_microseconds(open_store):
    store = open_store()
    start = time.perf_counter()
    for _ in range(2000):
        store.poll()
    assert (time.perf_counter() - start) / 2000 < 50e-6


def test_stock_orbax_reads_a_sealed_step(open_store, run_dir):
    from orbax.checkpoint import v1 as ocp

    seal_steps(open_store(), 7)
    arrays = ocp.load_checkpointables(run_dir / "checkpoints" / "7")["state"]
    np.testing.assert_array_equal(arrays["params.embed"], state_of(7)["params"]["embed"])
    assert json.loads((run_dir / "checkpoints" / "7" / "meta.json").read_text()) == {"step": 7}
