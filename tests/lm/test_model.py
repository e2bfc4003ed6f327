"""The network against plain NumPy-like references."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.typing import DTypeLike
from planned_by_xla import planned
from variations import slow

from pipeline.config.learning import Model
from pipeline.lm import loss
from pipeline.lm.attention import causal_attention
from pipeline.lm.flops import token_flops
from pipeline.lm.matmul import (
    AS_IT_IS,
    IN_8_BITS,
    ROOM,
    Factor,
    Matmul,
    Rounding,
    largest,
    matmul,
    matmul_bf16,
    sampled,
)
from pipeline.lm.model import Transformer, init_params, rms_norm, rotary_angles, rotate, swiglu

SHAPE = Model(depth=3, width=48, heads=6, kv_heads=2, context=24)


@pytest.fixture(scope="module")
def params() -> dict:
    """Random everywhere, the zero-initialised projections too, so that nothing is hidden by a zero."""

    @jax.jit
    def noisy() -> dict:
        leaves, tree = jax.tree.flatten(init_params(SHAPE, 97, seed=0))
        keys = jax.random.split(jax.random.key(1), len(leaves))
        return tree.unflatten([p + 0.1 * jax.random.normal(k, p.shape) for p, k in zip(leaves, keys, strict=True)])

    return noisy()


@jax.jit  # compiled as one: operation by operation there are hundreds of programs
def forward(params: dict, tokens: jax.Array) -> jax.Array:
    return Transformer.apply(SHAPE, params, tokens)


def test_a_later_token_never_changes_an_earlier_state(params: dict) -> None:
    tokens = jax.random.randint(jax.random.key(2), (2, 24), 0, 97)
    changed = tokens.at[:, 15].add(1)
    a, b = forward(params, tokens), forward(params, changed)
    np.testing.assert_array_equal(a[:, :15], b[:, :15])
    assert not np.allclose(a[:, 15:], b[:, 15:])


def test_forward_equals_a_plain_reference(params: dict) -> None:
    """The same network written position by position, without scan, fused attention or grouping tricks."""
    tokens = np.array(jax.random.randint(jax.random.key(3), (24,), 0, 97))
    channels = SHAPE.channels_per_head
    cos, sin = rotary_angles(jnp.arange(24), SHAPE)
    x = params["embedding"][tokens]
    for i in range(SHAPE.depth):
        w = {name: value[i] for name, value in params["blocks"].items()}
        h = rms_norm(x, w["attention_norm"], SHAPE.norm_eps)
        q, k, v = ((h @ w[n]).reshape(24, -1, channels) for n in ("q", "k", "v"))
        q, k = (rotate(rms_norm(a, w[f"{n}_norm"], SHAPE.norm_eps), cos, sin) for a, n in ((q, "q"), (k, "k")))
        out = np.zeros((24, SHAPE.query_heads, channels), np.float32)
        for head in range(SHAPE.query_heads):
            group = head // (SHAPE.query_heads // SHAPE.key_heads)
            for t in range(24):
                scores = np.array(k[: t + 1, group] @ q[t, head]) / channels**0.5
                weights = np.exp(scores - scores.max())
                out[t, head] = weights @ np.array(v[: t + 1, group]) / weights.sum()
        x = x + out.reshape(24, -1) @ w["o"]
        h = rms_norm(x, w["mlp_norm"], SHAPE.norm_eps)
        x = x + (jax.nn.silu(h @ w["gate"]) * (h @ w["up"])) @ w["down"]
    expected = rms_norm(x, params["norm"], SHAPE.norm_eps)
    np.testing.assert_allclose(forward(params, tokens[None])[0], expected, rtol=2e-4, atol=2e-4)


def test_rotation_keeps_lengths_and_depends_on_distance_only() -> None:
    cos, sin = rotary_angles(jnp.arange(24), SHAPE)
    q = jnp.ones((24, 1, SHAPE.channels_per_head))
    turned = rotate(q, cos, sin)[:, 0]
    np.testing.assert_allclose(jnp.linalg.norm(turned, axis=-1), jnp.linalg.norm(q[:, 0], axis=-1), rtol=1e-5)
    products = np.array(turned @ turned.T)
    for distance in range(20):
        assert np.ptp(np.diagonal(products, distance)) < 1e-4


def test_a_fresh_network_is_no_better_than_chance() -> None:
    fresh = jax.jit(lambda: init_params(SHAPE, 97, seed=0))()
    tokens = jax.random.randint(jax.random.key(4), (4, 25), 0, 97)
    losses = loss.token_losses(forward(fresh, tokens[:, :-1]), fresh["embedding"], tokens[:, 1:])
    assert float(losses.mean()) == pytest.approx(np.log(97), abs=0.1)


def test_blocked_loss_equals_whole_loss_and_its_gradient(params: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = jax.random.randint(jax.random.key(5), (4, 25), 0, 97)

    def mean_loss(p: dict) -> jax.Array:
        return loss.summed_loss(forward(p, tokens[:, :-1]), p["embedding"], tokens[:, 1:]) / tokens[:, 1:].size

    whole = jax.jit(jax.value_and_grad(mean_loss))(params)
    monkeypatch.setitem(loss.MOST_LOGITS, "cpu", 97 * 10)  # no divisor of 96 tokens is 10: it must find 8
    blocked = jax.jit(jax.value_and_grad(mean_loss))(params)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(blocked), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("most", [1 << 25, 97 * 10])
def test_the_summed_loss_has_the_gradient_that_jax_derives(
    params: dict, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(loss.MOST_LOGITS, "cpu", most)
    targets = jax.random.randint(jax.random.key(5), (4, 24), 0, 97)
    hidden = 4.0 * jax.random.normal(jax.random.key(6), (4, 24, SHAPE.width))

    def derived(h: jax.Array, table: jax.Array) -> jax.Array:
        logits = h @ table.T
        return -0.5 * jnp.take_along_axis(jax.nn.log_softmax(logits), targets[..., None], axis=-1).sum()

    def ours(h: jax.Array, table: jax.Array) -> jax.Array:
        return 2.0 * loss.summed_loss(h, table, targets, 0.25)

    expected, found = (jax.value_and_grad(f, (0, 1))(hidden, params["embedding"]) for f in (derived, ours))
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    assert float(ours(hidden, params["embedding"])) == pytest.approx(float(expected[0]))  # without its gradient too


@pytest.mark.parametrize("cost", [-100.0, 0.0, 30.0, 130.0])
def test_the_summed_loss_holds_what_a_target_costs(cost: float) -> None:
    """Where that is more than fp32 can sum, it is held to be less, and still learned from."""
    table, targets = jnp.zeros((8, 4)).at[1].set(1.0), jnp.zeros((1, 2), jnp.int32)

    def both(cost: float) -> list[list[jax.Array]]:
        """Logits are 0, but that of token 1."""
        hidden = jnp.full((1, 2, 4), cost / 4)
        losses = loss.summed_loss, lambda h, t, targets: loss.token_losses(h, t, targets).sum()
        return [jax.tree.leaves(jax.value_and_grad(of, (0, 1))(hidden, table, targets)) for of in losses]

    for ours, plain in zip(*both(cost), strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-4, atol=1e-4)
    (most, d_hidden, _), (_, plain_d_hidden, _) = both(1e4)
    assert 136.0 <= float(most) / 2 < 137.0
    np.testing.assert_allclose(d_hidden, plain_d_hidden, rtol=1e-4)


def test_in_fp16_a_loss_scale_saves_gradients_that_are_too_small() -> None:
    """Rows that are almost never right have tiny probabilities: in fp16 zero, were they not scaled before."""
    table = (0.02 * jax.random.normal(jax.random.key(0), (64, 16))).at[32:].set(-0.8)
    hidden = jnp.ones((1, 64, 16), jnp.float16)
    targets = jnp.arange(64)[None] % 32

    def of_unlikely(scale: float) -> jax.Array:
        return jax.grad(lambda t: loss.summed_loss(hidden, t, targets, scale / 4096))(table)[32:] / scale

    exact = jax.grad(lambda t: loss.summed_loss(hidden.astype(jnp.float32), t, targets, 1 / 4096))(table)[32:]
    np.testing.assert_allclose(of_unlikely(2.0**27), exact, rtol=0.02)
    assert not of_unlikely(1.0).any()


@pytest.mark.parametrize("magnitude", [1e-4, 1.0, 1e4])
def test_the_loss_in_8_bits_has_the_gradient_to_what_they_hold(magnitude: float) -> None:
    """Of hidden states and embeddings of any magnitude, for each has its scale; measured: 0.02 to 0.04. The control has
    none: what is too small is lost, and what is too large is cut off."""
    table = jax.random.normal(jax.random.key(0), (96, 32)) / magnitude
    hidden = 0.3 * magnitude * jax.random.normal(jax.random.key(1), (2, 40, 32))
    targets = jax.random.randint(jax.random.key(2), (2, 40), 0, 96)

    def gradients(rounding: Rounding) -> list[np.ndarray]:
        of = jax.grad(lambda h, t: loss.summed_loss(h, t, targets, 64.0, rounding), (0, 1))
        return [np.asarray(g) for g in of(hidden, table)]

    def errors(rounding: Rounding) -> list[float]:
        pairs = zip(gradients(rounding), gradients(AS_IT_IS), strict=True)
        return [float(np.linalg.norm(a - b) / np.linalg.norm(b)) for a, b in pairs]

    assert all(0.01 < error < 0.12 for error in errors(IN_8_BITS))
    if magnitude != 1.0:
        unscaled = IN_8_BITS._replace(
            forward=lambda x, _: Factor(jnp.clip(x, -448, 448).astype(jnp.float8_e4m3fn), jnp.ones((), x.dtype))
        )
        assert max(errors(unscaled)) > 0.5


def test_8_bits_hold_what_is_8_times_as_large_as_the_sample() -> None:
    """In rows that it does not see, to E4M3's three bits after the first. The control has no room for it."""
    x = jax.random.normal(jax.random.key(0), (64, 32))
    x = x.at[5].set(8.0 * largest(sampled(x)) * jnp.linspace(-1.0, 1.0, 32)).at[6].multiply(0.01)

    def errors(room: int) -> jax.Array:
        rounded = IN_8_BITS.forward(x, room * largest(sampled(x))).seen
        return jnp.linalg.norm(rounded - x, axis=1) / jnp.linalg.norm(x, axis=1)

    assert float(errors(ROOM).max()) < 2**-4
    assert float(errors(1)[5]) > 0.5


def test_flops_formula_agrees_with_xla() -> None:
    """XLA counts the matrix products it really does; attention's masked half is counted by both."""
    shape = Model(depth=1, width=128, heads=4, context=64)
    fresh = init_params(shape, 256, seed=0)
    tokens = jnp.zeros((4, 65), jnp.int32)

    def summed(p: dict) -> jax.Array:
        hidden = Transformer.apply(shape, p, tokens[:, :-1])
        return loss.summed_loss(hidden, p["embedding"], tokens[:, 1:])

    counted = planned(jax.jit(jax.grad(summed)).lower(fresh)).cost_analysis()["flops"]
    assert counted == pytest.approx(4 * 64 * token_flops(shape, 256), rel=0.15)


def test_a_large_vocabulary_never_holds_all_its_logits() -> None:
    tokens, vocab, width = (8, 256), 50304, 32

    shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((*tokens, width), (vocab, width))]
    shapes.append(jax.ShapeDtypeStruct(tokens, jnp.int32))
    program = planned(jax.jit(jax.grad(loss.summed_loss, argnums=(0, 1))).lower(*shapes))
    logits = 4 * tokens[0] * tokens[1] * vocab
    # All three of logits, probabilities and their gradient would be of that size, were they not in blocks.
    assert program.memory_analysis().temp_size_in_bytes < logits


@pytest.mark.parametrize("kv_heads", [2, *slow(6, 1)])
def test_attention_and_its_gradient_equal_those_of_jax(kv_heads: int) -> None:
    keys = jax.random.split(jax.random.key(6), 4)
    q, d_out = (jax.random.normal(k, (2, 24, 6, 8)) for k in keys[:2])
    k, v = (jax.random.normal(k, (2, 24, kv_heads, 8)) for k in keys[2:])

    @partial(jax.jit, static_argnums=0)
    def with_gradient(attend: Callable[..., jax.Array], *qkv: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        out, pull = jax.vjp(attend, *qkv)
        return out, pull(d_out)

    ours, our_gradient = with_gradient(causal_attention, q, k, v)
    theirs, their_gradient = with_gradient(partial(jax.nn.dot_product_attention, is_causal=True), q, k, v)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    for a, b in zip(our_gradient, their_gradient, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


def test_norm_and_swiglu_have_the_gradients_that_jax_derives() -> None:
    x, scale = jax.random.normal(jax.random.key(7), (5, 16)), 1.0 + jnp.arange(16.0) / 16

    def plain_norm(x: jax.Array, scale: jax.Array) -> jax.Array:
        return x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-6) * scale

    def plain_swiglu(gate: jax.Array, up: jax.Array) -> jax.Array:
        return jax.nn.silu(gate) * up

    halves = x[:, :8], x[:, 8:]
    for ours, theirs, args in ((partial(rms_norm, eps=1e-6), plain_norm, (x, scale)), (swiglu, plain_swiglu, halves)):
        a, pull_a = jax.vjp(ours, *args)
        b, pull_b = jax.vjp(theirs, *args)
        for one, other in zip((a, *pull_a(a)), (b, *pull_b(b)), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("on_cpu", [True, False])
@pytest.mark.parametrize(("product", "dtype"), [(matmul, jnp.float32), (matmul_bf16, jnp.bfloat16)])
def test_products_of_one_input_with_several_matrices(
    product: Matmul, dtype: DTypeLike, on_cpu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.lm.matmul.on_cpu", lambda: on_cpu)
    keys = jax.random.split(jax.random.key(11), 4)
    x, a, b, c = (jax.random.normal(k, s) for k, s in zip(keys, [(2, 3, 8), (8, 4), (8, 4), (8, 6)], strict=True))

    def plain(*args: jax.Array) -> tuple[jax.Array, ...]:
        x, *matrices = (each.astype(dtype).astype(jnp.float32) for each in args)
        return tuple(x @ w for w in matrices)

    ours, pull_ours = jax.vjp(product, x, a, b, c)
    theirs, pull_theirs = jax.vjp(plain, x, a, b, c)
    d_outs = jax.tree.map(lambda y: jnp.round(y * 4), theirs)  # exact in bf16
    for one, other in zip((*ours, *pull_ours(d_outs)), (*theirs, *pull_theirs(d_outs)), strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=1e-5 if dtype == jnp.float32 else 1e-2, atol=1e-5)
