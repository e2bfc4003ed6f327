"""No change of a state passes its fingerprint, wherever the state lies."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipeline.lm.fingerprint import fingerprint

BLOCK = 1024  # words that are mixed at a time on a CPU


def state(size: int = 2 * BLOCK + 7) -> dict[str, np.ndarray]:
    random = np.random.default_rng(size)
    return {
        "matrix": random.standard_normal((size, 1)).astype(np.float32),
        "zeros": np.zeros(3, np.float32),
        "step": np.int32(5),
    }


def flipped(array: np.ndarray, *places: tuple[int, int]) -> np.ndarray:
    """With (word, bit) flipped."""
    words = np.array(array).reshape(-1).view(np.uint32).copy()
    for word, bit in places:
        words[word] ^= np.uint32(1 << bit)
    return words.view(array.dtype).reshape(array.shape)


@jax.jit
def of_many(words: jax.Array) -> jax.Array:
    """Fingerprints of many leaves at once."""
    return jax.vmap(lambda leaf: fingerprint([leaf]))(words)


def test_every_flip_of_one_bit_changes_both_words() -> None:
    """Every bit of every word, in full blocks and in the rest: 66,000 flips."""
    clean = state()["matrix"].reshape(-1)
    words = clean.view(np.uint32)
    before = np.asarray(fingerprint([clean]))[0]
    for bit in range(32):
        rows = np.tile(words, (len(words), 1))
        np.fill_diagonal(rows, words ^ np.uint32(1 << bit))
        after = np.asarray(of_many(rows))[:, 0]
        assert (after != before).all()


def test_only_the_leaf_that_changed_differs() -> None:
    clean = state()
    broken = clean | {"zeros": flipped(clean["zeros"], (1, 31))}
    differs = (np.asarray(fingerprint(clean)) != np.asarray(fingerprint(broken))).any(axis=1)
    assert [name for name, hit in zip(sorted(clean), differs, strict=True) if hit] == ["zeros"]


def low_bits_alike(words: np.ndarray, bits: int) -> float:
    """Share of leaves whose fingerprint agrees with the first leaf's in the lowest `bits` of both words."""
    prints = np.asarray(of_many(words))[:, 0] & ((1 << bits) - 1)
    return float((prints[1:] == prints[0]).all(axis=1).mean())


@pytest.mark.parametrize("bit", [0, 15, 23, 30, 31])
def test_flips_of_the_same_bit_in_two_words_cancel_no_more_often_than_chance(bit: int) -> None:
    """4 low bits of each word: chance is 1/256. The highest bit is the trap: no multiplication spreads it downwards."""
    clean = np.random.default_rng(bit).standard_normal(64).astype(np.float32).view(np.uint32)
    pairs = [(a, b) for a in range(64) for b in range(a)]
    rows = np.tile(clean, (len(pairs) + 1, 1))
    for row, (a, b) in zip(rows[1:], pairs, strict=True):
        row[[a, b]] ^= np.uint32(1 << bit)
    linear = (rows * (2 * np.arange(64, dtype=np.uint32) + 1)).sum(axis=1, dtype=np.uint32)
    if bit == 31:
        assert (linear == linear[0]).all()  # the control: position times word, summed, sees none of them
    assert low_bits_alike(rows, 4) < 3 / 256
    assert low_bits_alike(rows, 32) == 0.0


def test_zeros_in_other_places_and_words_exchanged_are_seen() -> None:
    sparse = np.zeros((100, 100), np.float32)
    np.fill_diagonal(sparse, 1.0)
    assert len(np.unique(np.asarray(of_many(sparse)), axis=0)) == 100
    clean = state()["matrix"].reshape(-1)
    swapped = clean.copy()
    swapped[[3, 4]] = swapped[[4, 3]]
    assert (np.asarray(fingerprint([swapped])) != np.asarray(fingerprint([clean]))).all()


def test_it_is_the_same_however_the_state_lies() -> None:
    """Host or device, computed alone or within a larger program, or spread over four devices."""
    code = """
import jax, numpy as np
from pipeline.lm.fingerprint import fingerprint
x = np.random.default_rng(0).standard_normal((64, 4096)).astype(np.float32)
alone = np.asarray(fingerprint({"x": x}))
mesh = jax.make_mesh((2, 2), ("a", "b"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
for spec in (("a", "b"), (None, "a"), ("b", None)):
    spread = jax.device_put(x, jax.NamedSharding(mesh, jax.P(*spec)))
    assert len(spread.sharding.device_set) == 4
    assert (np.asarray(fingerprint({"x": spread})) == alone).all(), spec
inside = jax.jit(lambda y: fingerprint({"x": y.T}))(jax.device_put(x.T))
assert (np.asarray(inside) == alone).all()
print(alone.tolist())
"""
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    x = np.random.default_rng(0).standard_normal((64, 4096)).astype(np.float32)
    assert done.stdout.strip() == str(np.asarray(fingerprint({"x": x})).tolist())


def test_a_leaf_of_another_width_is_refused() -> None:
    with pytest.raises(TypeError, match="bfloat16"):
        fingerprint([jnp.ones(3, jnp.bfloat16)])
