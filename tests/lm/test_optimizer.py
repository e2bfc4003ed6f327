"""Muon moves matrices, each direction of them alike, and AdamW moves the rest."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipeline.config.learning import Optimizer
from pipeline.lm.muon import orthogonalise, orthogonalise_all, scale_by_muon
from pipeline.lm.optimizer import make_optimizer


@pytest.mark.parametrize("rank", [4, 24])
def test_muon_brings_all_singular_values_near_one(rank: int) -> None:
    u, _, vt = jnp.linalg.svd(jax.random.normal(jax.random.key(8), (3, 24, 40)), full_matrices=False)
    s = jnp.geomspace(1.0, 0.03, rank)
    s = s.at[-1].set(0.02 * (s**8).sum() ** 0.125)  # the least that is promised
    x = (u[:, :, :rank] * s) @ vt[:, :rank]
    got = jnp.linalg.svd(orthogonalise(x), compute_uv=False)[:, :rank]
    assert got.min() > 0.48
    assert got.max() < 1.52


def test_muon_sees_directions_alone() -> None:
    x = jax.random.normal(jax.random.key(8), (3, 24, 40))
    whole = orthogonalise(x)
    assert jnp.abs(whole - orthogonalise(1e-9 * x)).max() < 1e-4, "not the size of a gradient"
    assert not orthogonalise(0.0 * x).any(), "what has no gradient yet does not move"
    s = jnp.linalg.svd(whole, compute_uv=False)
    assert 0.48 < s.min() < s.max() < 1.52


def test_muon_treats_upright_and_lying_matrices_alike() -> None:
    up = jax.random.normal(jax.random.key(9), (2, 40, 24))
    done = orthogonalise_all({"down": up, "gate": up.mT, "q": up[:, :24]})
    np.testing.assert_allclose(done["down"], done["gate"].mT, atol=1e-5)
    assert float(jnp.sqrt((done["down"] ** 2).mean())) == pytest.approx(0.2, rel=0.2)


def test_muon_looks_ahead_along_its_momentum() -> None:
    """Nesterov: of two gradients the direction is d² g₁ + (1 + d) g₂."""
    first, second = jax.random.normal(jax.random.key(10), (2, 3, 8, 12))
    muon = scale_by_muon(0.9)
    _, state = muon.update(first, muon.init(first))
    ahead, _ = muon.update(second, state)
    np.testing.assert_allclose(ahead, orthogonalise_all(0.81 * first + 1.9 * second), atol=1e-4)


@pytest.mark.parametrize("name", ["muon", "adamw"])
def test_the_first_step_goes_down_the_gradient_at_the_rate_of_its_kind(name: str) -> None:
    """AdamW's is the rate itself in every weight (Kingma and Ba, 2015, 2.1), Muon's has an RMS of 0.2 of it."""
    config = Optimizer(name=name, lr=1e-3, muon_lr=2e-2, weight_decay=0.0)
    grads = {"matrices": jax.random.normal(jax.random.key(11), (2, 16, 24)), "embedding": jnp.ones((5, 16))}
    optimizer = make_optimizer(config)
    updates, _ = optimizer.update(grads, optimizer.init(grads), grads)
    np.testing.assert_allclose(updates["embedding"], -1e-3, rtol=1e-3)
    size = float(jnp.sqrt((updates["matrices"] ** 2).mean()))
    assert size == pytest.approx(0.2 * 2e-2 if name == "muon" else 1e-3, rel=0.2)
    assert float((updates["matrices"] * grads["matrices"]).sum()) < 0.0
