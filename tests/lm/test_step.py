"""What training computes must not depend on how the steps were grouped."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipeline.config import Config
from pipeline.lm.schedule import NEVER, Cooldown
from pipeline.lm.step import Metrics, TrainState, init_state, make_evaluate, make_train_chunk

VOCAB = 61
UNDECIDED = Cooldown()


def tiny(**train: object) -> Config:
    return Config(
        model={"depth": 2, "width": 32, "heads": 4, "kv_heads": 2, "context": 16},
        train={"batch": 8, "precision": "fp32"} | train,
        optimizer={"warmup_steps": 3},
    )


def batches(steps: int, seed: int = 0) -> np.ndarray:
    """Text with something to learn: each token follows from the one before."""
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


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
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


def test_bf16_learns_as_fp32_does() -> None:
    evaluate = make_evaluate(tiny())
    losses = [
        float(evaluate(run(tiny(precision=precision), [10] * 10).params, batches(1, seed=1)[0]).mean())
        for precision in ("fp32", "bf16")
    ]
    assert losses[0] < 1.0  # from ln 61 = 4.1: it learns
    assert abs(losses[0] - losses[1]) < 0.1


def test_a_non_finite_gradient_is_skipped_and_counted() -> None:
    config = tiny()
    state, chunk = init_state(config, VOCAB), make_train_chunk(config)
    sick = state._replace(params=state.params | {"norm": state.params["norm"].at[0].set(jnp.nan)})
    before = jax.tree.map(lambda leaf: np.array(leaf), (sick.params, sick.opt_state))
    after, metrics = chunk(sick, batches(4), 4, Cooldown())
    assert isinstance(metrics, Metrics)
    assert (int(after.skipped), int(after.skipped_in_a_row), int(after.step)) == (4, 4, 4)
    assert metrics.skipped.tolist() == [1] * 4
    for x, y in zip(jax.tree.leaves(before), jax.tree.leaves((after.params, after.opt_state)), strict=True):
        assert np.array_equal(x, y, equal_nan=True)


def test_one_good_update_resets_the_count_in_a_row() -> None:
    state, chunk = init_state(tiny(), VOCAB), make_train_chunk(tiny())
    state, _ = chunk(state._replace(skipped_in_a_row=jnp.int32(3), skipped=jnp.int32(3)), batches(1), 1, Cooldown())
    assert (int(state.skipped), int(state.skipped_in_a_row)) == (3, 0)


def test_block_rematerialisation_gives_the_same_gradients() -> None:
    plain = tiny()
    remat = plain.model_copy(update={"model": plain.model.model_copy(update={"remat": "block"})})
    for x, y in zip(*(jax.tree.leaves(run(c, [3]).params) for c in (plain, remat)), strict=True):
        np.testing.assert_allclose(x, y, atol=2e-5)
