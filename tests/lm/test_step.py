"""What training computes must not depend on how the steps were grouped."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from planned_by_xla import planned
from variations import slow

from pipeline.config import Config
from pipeline.lm.precision import PRECISIONS, LossScale
from pipeline.lm.schedule import NEVER, Cooldown
from pipeline.lm.step import Metrics, TrainState, _loss_and_gradients, init_state, make_train_chunk

VOCAB = 61
UNDECIDED = Cooldown()


def tiny(**train: object) -> Config:
    return Config(
        model={"depth": 2, "width": 32, "heads": 4, "kv_heads": 2, "context": 16},
        train={"batch": 8, "precision": "fp32"} | train,
        optimizer={"warmup_steps": 3},
    )


def batches(steps: int, seed: int = 0) -> np.ndarray:
    """Text with something to learn: each token follows from the one before. Tests share programs where they ask for
    ten, of which a chunk may take fewer."""
    rng = np.random.default_rng(seed)
    first = rng.integers(0, VOCAB, (steps, 8, 1))
    return ((first + 7 * np.arange(17)) % VOCAB).astype(np.int32)


def run(config: Config, sizes: list[int], cooldown: Cooldown = UNDECIDED, capacity: int = 10) -> TrainState:
    state, chunk = init_state(config, VOCAB), make_train_chunk(config)
    data, at = batches(sum(sizes)), 0
    for size in sizes:
        padded = np.zeros((capacity, 8, 17), np.int32)
        padded[:size] = data[at : at + size]
        state, _ = chunk(state, padded, size, cooldown)
        at += size
    return state


def assert_same_bits(a: TrainState, b: TrainState) -> None:
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


@pytest.mark.parametrize(
    ("optimizer", "precision"),
    [
        ("muon", "fp32"),
        *slow(("adamw", "bf16"), ("muon", "mixed"), ("muon", "bf16"), ("adamw", "fp32"), ("adamw", "mixed")),
    ],
)
def test_chunk_boundaries_do_not_change_a_bit(optimizer: str, precision: str) -> None:
    config = tiny(precision=precision)
    config = config.model_copy(update={"optimizer": config.optimizer.model_copy(update={"name": optimizer})})
    cooldown = Cooldown(12, 20)
    assert_same_bits(run(config, [10, 10], cooldown), run(config, [1, 3, 7, 1, 6, 2], cooldown))


def test_deciding_the_cooldown_late_replays_the_same_bits() -> None:
    state, chunk, data = init_state(tiny(), VOCAB), make_train_chunk(tiny()), batches(20)
    state, _ = chunk(state, data[:10], 10, Cooldown(NEVER, NEVER))
    state, _ = chunk(state, data[10:], 10, Cooldown(12, 20))
    assert_same_bits(state, run(tiny(), [10, 10], Cooldown(12, 20)))


def test_microbatches_give_the_gradient_of_the_whole_batch() -> None:
    whole, split = (run(tiny(microbatch=rows), [3]) for rows in (None, 2))
    for x, y in zip(jax.tree.leaves(whole.params), jax.tree.leaves(split.params), strict=True):
        np.testing.assert_allclose(x, y, atol=2e-5)


@pytest.fixture(scope="module")
def fp32_losses() -> np.ndarray:
    return losses("fp32")


def losses(precision: str) -> np.ndarray:
    """Of 60 steps; from ln 61 = 4.1 to 0.02."""
    state, chunk, data = init_state(tiny(precision=precision), VOCAB), make_train_chunk(tiny(precision=precision)), []
    for tokens in batches(60).reshape(6, 10, 8, 17):
        state, metrics = chunk(state, tokens, 10, UNDECIDED)
        data.append(np.asarray(metrics.loss))
    return np.concatenate(data)


@pytest.mark.parametrize("precision", ["fp8", *slow("bf16", "mixed", "fp16")])
def test_every_precision_learns_as_fp32_does(precision: str, fp32_losses: np.ndarray) -> None:
    """Measured: within 0.006 nats at every tenth step."""
    assert fp32_losses[-1] < 0.1
    np.testing.assert_allclose(losses(precision), fp32_losses, atol=0.05)


@pytest.mark.slow
def test_gradients_lie_where_8_bits_hold_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a mean over a real batch would vanish: a factor of 2^-16 stands for it. Measured: 0.20 and 1.0."""
    trained, tokens = run(tiny(), [10, 10]).params, batches(1)[0]

    def through_layers(precision: str) -> np.ndarray:
        """Gradients of the first layer, that have come through all products."""
        config = tiny(precision=precision)
        _, grads = jax.jit(lambda params: _loss_and_gradients(config, params, tokens, None))(trained)
        return np.concatenate([np.ravel(grads["blocks"][name][0]) for name in ("q", "v", "gate", "up")])

    def error() -> float:
        exact, in_8_bits = through_layers("fp32"), through_layers("fp8")
        return float(np.linalg.norm(in_8_bits - exact) / np.linalg.norm(exact))

    assert error() < 0.3
    monkeypatch.setitem(PRECISIONS, "fp8", PRECISIONS["fp8"]._replace(of_sum=2.0**-16))
    assert error() > 0.5


def test_an_overflow_of_fp16_halves_the_scale_and_is_no_skipped_update() -> None:
    config = tiny(precision="fp16")
    fresh, chunk = init_state(config, VOCAB), make_train_chunk(config)
    huge = fresh.loss_scale._replace(scale=jnp.float32(2.0**40))
    before = jax.tree.map(np.array, fresh.params)
    state, metrics = chunk(fresh._replace(loss_scale=huge), batches(10), 1, UNDECIDED)
    assert float(state.loss_scale.scale) == 2.0**24  # halved, and within its limit
    assert (int(state.skipped), int(state.skipped_in_a_row), float(metrics.grad_norm[0])) == (0, 0, 0.0)
    for x, y in zip(jax.tree.leaves(before), jax.tree.leaves(state.params), strict=True):
        assert np.array_equal(x, y)


def test_the_scale_of_fp16_grows_again_and_survives_chunk_boundaries() -> None:
    config = tiny(precision="fp16")

    def grown(sizes: list[int]) -> TrainState:
        state, chunk = init_state(config, VOCAB), make_train_chunk(config)
        state, at = state._replace(loss_scale=LossScale(jnp.float32(8.0), jnp.int32(1995))), 0
        for size in sizes:
            padded = np.zeros((10, 8, 17), np.int32)
            padded[:size] = batches(10)[at : at + size]
            state, at = chunk(state, padded, size, UNDECIDED)[0], at + size
        return state

    whole = grown([10])
    assert (float(whole.loss_scale.scale), int(whole.loss_scale.good_steps)) == (16.0, 5)
    assert_same_bits(whole, grown([3, 6, 1]))


def test_a_loss_that_is_not_finite_is_skipped_in_fp16_too() -> None:
    config = tiny(precision="fp16")
    state, chunk = init_state(config, VOCAB), make_train_chunk(config)
    sick = state._replace(params=state.params | {"norm": state.params["norm"].at[0].set(jnp.nan)})
    after, _ = chunk(sick, batches(10), 2, UNDECIDED)
    assert (int(after.skipped), int(after.skipped_in_a_row)) == (2, 2)


def test_the_loop_of_a_chunk_waits_for_no_host() -> None:
    """Nothing but the batch goes to the device, and nothing comes back before the chunk is done."""
    config = tiny()
    state, chunk = init_state(config, VOCAB), make_train_chunk(config)
    tokens, steps, cooldown = jax.device_put((batches(10), np.int32(4), Cooldown(*map(np.int32, UNDECIDED))))
    program = chunk.lower(state, tokens, steps, cooldown).compile()
    text = program.as_text()
    assert "while" in text
    for host in ("infeed", "outfeed", "send(", "recv(", "callback"):
        assert host not in text
    with jax.transfer_guard("disallow"):
        state, _ = jax.block_until_ready(chunk(state, tokens, steps, cooldown))


def test_the_state_is_given_away_and_not_copied() -> None:
    config = tiny()
    state, chunk = init_state(config, VOCAB), make_train_chunk(config)
    program = chunk.lower(state, batches(10), 1, UNDECIDED).compile()
    held = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    assert program.memory_analysis().alias_size_in_bytes >= held


@pytest.mark.parametrize("on_cpu", [True, False])
def test_a_non_finite_gradient_is_skipped_and_counted(on_cpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.lm.settle.on_cpu", lambda: on_cpu)
    config = tiny()
    state, chunk = init_state(config, VOCAB), make_train_chunk(config)
    sick = state._replace(params=state.params | {"norm": state.params["norm"].at[0].set(jnp.nan)})
    before = jax.tree.map(lambda leaf: np.array(leaf), (sick.params, sick.opt_state))
    after, metrics = chunk(sick, batches(10), 4, Cooldown())
    assert isinstance(metrics, Metrics)
    assert (int(after.skipped), int(after.skipped_in_a_row), int(after.step)) == (4, 4, 4)
    assert metrics.skipped[:4].tolist() == [1] * 4
    for x, y in zip(jax.tree.leaves(before), jax.tree.leaves((after.params, after.opt_state)), strict=True):
        assert np.array_equal(x, y, equal_nan=True)


def test_one_good_update_resets_the_count_in_a_row() -> None:
    state, chunk = init_state(tiny(), VOCAB), make_train_chunk(tiny())
    state, _ = chunk(state._replace(skipped_in_a_row=jnp.int32(3), skipped=jnp.int32(3)), batches(10), 1, Cooldown())
    assert (int(state.skipped), int(state.skipped_in_a_row)) == (3, 0)


@pytest.mark.parametrize("remat", ["block", *slow("dots")])
def test_rematerialisation_gives_the_same_gradients(remat: str) -> None:
    plain = tiny()
    less = plain.model_copy(update={"model": plain.model.model_copy(update={"remat": remat})})
    for x, y in zip(*(jax.tree.leaves(run(c, [3]).params) for c in (plain, less)), strict=True):
        np.testing.assert_allclose(x, y, atol=2e-5)


@pytest.mark.slow
def test_rematerialisation_keeps_less_from_policy_to_policy() -> None:
    def kept(remat: str) -> int:
        model = {"depth": 6, "width": 64, "context": 64, "remat": remat}
        config = Config(model=model, train={"batch": 16, "precision": "fp32"}, optimizer={"name": "adamw"})
        state = jax.eval_shape(lambda: init_state(config, VOCAB))
        tokens = jax.ShapeDtypeStruct((1, 16, 65), np.int32)
        program = planned(make_train_chunk(config).lower(state, tokens, 1, UNDECIDED))
        return program.memory_analysis().temp_size_in_bytes

    none, dots, block = kept("none"), kept("dots"), kept("block")
    assert none > 1.2 * dots > 1.2 * 1.2 * block


@pytest.mark.parametrize(("precision", "remat"), [("mixed", "block"), *slow(("mixed", "none"), ("bf16", "none"))])
def test_a_single_layer_trains_in_16_bits_too(precision: str, remat: str) -> None:
    """XLA dissolves a loop of one; on a CPU it then met a product of bf16 that it does not have."""
    model = {"depth": 1, "width": 32, "heads": 2, "context": 32, "remat": remat}
    config = Config(model=model, train={"batch": 8, "precision": precision, "device": "cpu"})
    tokens = np.random.default_rng(0).integers(0, 65, (1, 8, 33)).astype(np.int32)
    state, metrics = make_train_chunk(config)(init_state(config, 65), tokens, 1, Cooldown())
    assert np.isfinite(metrics.loss).all()
    assert int(state.skipped) == 0
