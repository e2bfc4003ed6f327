"""Generation through the cache against the plain forward."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipeline.config.learning import Model
from pipeline.lm import generate as module
from pipeline.lm.generate import Sampling, generate, window_start
from pipeline.lm.model import Params, Transformer, init_params

VOCAB = 61
SHAPE = Model(depth=3, width=48, heads=6, kv_heads=2, context=24)
GREEDY = Sampling(temperature=0)
FREE = Sampling()
PROMPTS = [[5], [1, 2, 3, 4, 5, 6, 7], [60] * 3, list(range(40))]


@pytest.fixture(scope="module")
def params() -> Params:
    """Random everywhere, so that every block and every head changes the text."""
    leaves, tree = jax.tree.flatten(init_params(SHAPE, VOCAB, seed=0))
    keys = jax.random.split(jax.random.key(1), len(leaves))
    return jax.tree.unflatten(
        tree, [p + 0.3 * jax.random.normal(k, p.shape) for p, k in zip(leaves, keys, strict=True)]
    )


def texts(
    params: Params, prompts: list[list[int]], tokens: int, sampling: Sampling = FREE, seed: int = 0
) -> np.ndarray:
    return np.concatenate(list(generate(SHAPE, params, prompts, tokens, sampling, seed)), axis=1)


def uncached_greedy(params: Params, prompt: list[int], tokens: int) -> list[int]:
    """Reads everything again for each token, at one fixed length so that it compiles once."""

    @jax.jit
    def forward(window: jax.Array) -> jax.Array:
        return Transformer.apply(SHAPE, params, window[None])[0] @ params["embedding"].T

    text = list(prompt)
    for _ in range(tokens):
        window = text[window_start(len(text), SHAPE.context) :]
        logits = forward(jnp.array(window + [0] * (SHAPE.context - len(window))))
        text.append(int(logits[len(window) - 1].argmax()))
    return text[len(prompt) :]


@pytest.mark.parametrize("prompt", PROMPTS, ids=["one token", "short", "repeated", "longer than the context"])
def test_greedy_through_the_cache_equals_the_uncached_forward(params: Params, prompt: list[int]) -> None:
    """60 tokens at context 24: the window slides several times."""
    expected = uncached_greedy(params, prompt, 60)
    assert len(set(expected)) > 3, "a constant text would prove little"
    np.testing.assert_array_equal(texts(params, [prompt], 60, GREEDY)[0], expected)


def test_greedy_rows_of_unequal_prompts_equal_the_uncached_forward(params: Params) -> None:
    together = texts(params, PROMPTS, 40, GREEDY)
    for row, prompt in zip(together, PROMPTS, strict=True):
        np.testing.assert_array_equal(row, uncached_greedy(params, prompt, 40))


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(0.8, top_k=9, top_p=0.9, min_p=0.02)])
def test_a_prompt_in_a_ragged_batch_gives_the_text_that_it_gives_alone(params: Params, sampling: Sampling) -> None:
    together = texts(params, PROMPTS, 50, sampling, 7)
    for row, prompt in enumerate(PROMPTS):
        np.testing.assert_array_equal(together[row], texts(params, [prompt], 50, sampling, 7 + row)[0])


def test_top_k_of_one_is_greedy(params: Params) -> None:
    np.testing.assert_array_equal(
        texts(params, PROMPTS, 20, Sampling(1.0, top_k=1)), texts(params, PROMPTS, 20, GREEDY)
    )


def test_a_seed_repeats_its_text_and_another_does_not(params: Params) -> None:
    first, again, other = (texts(params, PROMPTS, 30, Sampling(), seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any(axis=1).all()


def test_the_same_prompt_twice_in_a_batch_gives_two_texts(params: Params) -> None:
    a, b = texts(params, [[1, 2], [1, 2]], 30)
    assert (a != b).any()


def test_chunks_change_nothing_but_how_often_text_appears(params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = texts(params, PROMPTS[:2], 37, Sampling(), 5)
    assert whole.shape == (2, 37)
    monkeypatch.setattr(module, "CHUNK", 3)
    module._decode.clear_cache()
    chunks = list(generate(SHAPE, params, PROMPTS[:2], 37, Sampling(), 5))
    module._decode.clear_cache()
    assert max(chunk.shape[1] for chunk in chunks) == 3
    np.testing.assert_array_equal(np.concatenate(chunks, axis=1), whole)


@pytest.mark.parametrize(
    ("sampling", "kept"),
    [
        (Sampling(), {0, 1, 2, 3, 4}),
        (Sampling(top_k=2), {1, 3}),
        (Sampling(top_k=99), {0, 1, 2, 3, 4}),
        (Sampling(top_p=0.5), {3}),
        (Sampling(top_p=0.51), {1, 3}),
        (Sampling(top_p=0.0), {3}),
        (Sampling(min_p=0.25), {1, 3, 4}),
        (Sampling(min_p=1.0), {3}),
        (Sampling(top_k=4, top_p=0.9), {1, 3, 4}),
        (Sampling(temperature=0.05), {3}),
        (Sampling(temperature=1e-39), {3}),
    ],
    ids=str,
)
def test_filters_keep_the_tokens_that_they_name(sampling: Sampling, kept: set[int]) -> None:
    """4,000 draws from (0.04, 0.25, 0.06, 0.5, 0.15): each kept token appears, no other does."""
    logits = jnp.log(jnp.array([0.04, 0.25, 0.06, 0.5, 0.15]))
    drawn = module._draw(sampling, jnp.tile(logits, (4000, 1)), jax.random.split(jax.random.key(0), 4000))
    assert set(np.unique(drawn).tolist()) == kept


def test_draws_follow_the_probabilities() -> None:
    share = jnp.array([0.04, 0.25, 0.06, 0.5, 0.15])
    keys = jax.random.split(jax.random.key(0), 20000)
    counts = np.bincount(module._draw(Sampling(), jnp.tile(jnp.log(share), (20000, 1)), keys), minlength=5)
    np.testing.assert_allclose(counts / 20000, share, atol=0.012)


def test_an_empty_prompt_is_refused(params: Params) -> None:
    with pytest.raises(ValueError, match="at least one token"):
        texts(params, [[1], []], 3)


def test_every_token_is_drawn_anew(params: Params) -> None:
    """A network that finds all tokens alike: 60 draws from 61 tokens, through several windows and chunks."""
    indifferent = params | {"embedding": jnp.zeros_like(params["embedding"])}
    assert len(set(texts(indifferent, [[1]], 60)[0].tolist())) > 25
