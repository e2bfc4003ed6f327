"""What a GPU is given to compute instead of what a CPU is: here on a CPU, which gets the same numbers from it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from variations import slow

from pipeline.config import Config
from pipeline.lm import embedding, loss
from pipeline.lm.model import MOST_UNROLLED
from pipeline.lm.schedule import Cooldown
from pipeline.lm.step import init_state, train_chunk

VOCABULARY = 3000  # large: its rows are summed in blocks


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    return lambda: monkeypatch.setattr(jax, "default_backend", lambda: "gpu")


def tokens_of(*shape: int, vocab_size: int = VOCABULARY) -> np.ndarray:
    """Some come often, as in a text, and most never."""
    return np.minimum(np.random.default_rng(0).zipf(1.3, shape) - 1, vocab_size - 1).astype(np.int32)


@pytest.mark.parametrize(("depth", "remat"), [(3, "block"), *slow((3, "none"), (MOST_UNROLLED["gpu"] + 1, "none"))])
def test_a_step_is_that_of_a_cpu(gpu: Callable[[], None], depth: int, remat: str) -> None:
    model = {"depth": depth, "width": 32, "heads": 2, "context": 48, "remat": remat}
    config = Config(model=model, train={"batch": 4, "microbatch": 2, "precision": "fp32", "device": "cpu"})
    tokens = tokens_of(2, 4, 49)

    def trained() -> Any:
        state = init_state(config, VOCABULARY)
        state, metrics = jax.jit(lambda s, t: train_chunk(config, s, t, 2, Cooldown()))(state, tokens)
        return state.params, metrics

    cpu = trained()
    gpu()
    for a, b in zip(jax.tree.leaves(cpu), jax.tree.leaves(trained()), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("rows", [1, 127, 128, 1000])
@pytest.mark.parametrize("vocab_size", [65, VOCABULARY])
def test_rows_are_summed_by_token(rows: int, vocab_size: int) -> None:
    tokens = tokens_of(rows, vocab_size=vocab_size)
    values = np.random.default_rng(1).standard_normal((rows, 8)).astype(np.float32)
    expected = np.zeros((vocab_size, 8))
    np.add.at(expected, tokens, values)
    summed = jax.jit(embedding.summed_by_token, static_argnums=2)(tokens, values, vocab_size)
    np.testing.assert_allclose(summed, expected, atol=1e-4)


def test_one_token_alone_and_every_token_once() -> None:
    ones = jnp.ones((1000, 4))
    alone = embedding.summed_by_token(jnp.full(1000, 7), ones, VOCABULARY)
    assert float(alone[7, 0]) == 1000.0
    assert float(alone.sum()) == 4000.0
    each = embedding.summed_by_token(jnp.arange(1000)[::-1], ones, VOCABULARY)
    np.testing.assert_array_equal(each[:, 0], np.arange(VOCABULARY) < 1000)


@pytest.mark.parametrize("vocab_size", [65, VOCABULARY])
def test_the_gradient_of_bf16_rows_is_summed_in_fp32(gpu: Callable[[], None], vocab_size: int) -> None:
    """In bf16 a sum of ones ends at 256, and 4,999 cannot be written."""
    gpu()
    tokens = jnp.zeros((1, 4999), jnp.int32)
    summed = jax.grad(lambda table: embedding.embed(table, tokens, jnp.bfloat16).sum().astype(jnp.float32))
    assert float(summed(jnp.ones((vocab_size, 2)))[0, 0]) == 4999.0


@pytest.mark.parametrize("vocab_size", [65, 1152, 50304])
def test_rows_of_logits_add_up_in_stretches(gpu: Callable[[], None], vocab_size: int) -> None:
    gpu()
    x = np.random.default_rng(0).random((8, vocab_size), np.float32)
    np.testing.assert_allclose(loss._sums(jnp.asarray(x)), x.sum(axis=1, keepdims=True, dtype=np.float64), rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp8", "bf16", "fp16"])
def test_in_16_or_8_bits_it_learns_as_a_cpu_does(gpu: Callable[[], None], precision: str) -> None:
    model = {"depth": 2, "width": 32, "heads": 2, "context": 48}
    config = Config(model=model, train={"batch": 4, "precision": precision, "device": "cpu"})
    tokens = np.repeat(tokens_of(1, 4, 49), 30, axis=0)  # one batch, learnt by heart

    def losses() -> np.ndarray:
        chunk = jax.jit(lambda s, t: train_chunk(config, s, t, 30, Cooldown()))
        return np.asarray(chunk(init_state(config, VOCABULARY), tokens)[1].loss)

    cpu = losses()
    gpu()
    np.testing.assert_allclose(losses(), cpu, rtol=0.02)
    assert cpu[-1] < cpu[0] - 0.2
