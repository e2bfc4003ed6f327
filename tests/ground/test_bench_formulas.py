"""What benches hold measurements against: FLOPs of a token and bytes of a step, checked against XLA's own account."""

import jax
import jax.numpy as jnp
import pytest
from planned_by_xla import planned

from pipeline.config import Config
from pipeline.ground.bench import memory
from pipeline.ground.bench.machine import Others, describe
from pipeline.ground.bench.matmul import peak_flops
from pipeline.lm.flops import token_flops
from pipeline.lm.loss import summed_loss
from pipeline.lm.model import Transformer, init_params
from pipeline.lm.schedule import Cooldown
from pipeline.lm.step import init_state, make_train_chunk

VOCABULARY = 256
SHAPES = {
    "narrow": {"width": 128, "heads": 4, "context": 64},
    "long": {"width": 64, "heads": 1, "context": 512},
    "grouped": {"width": 128, "heads": 4, "kv_heads": 2, "context": 128},
}


def config_of(depth: int, optimizer: str = "adamw", **shape: int) -> Config:
    return Config(
        model={"depth": depth, **shape},
        optimizer={"name": optimizer},
        train={"batch": 4, "precision": "fp32", "device": "cpu"},
    )


@pytest.mark.parametrize("name", SHAPES)
def test_flops_of_a_token_are_those_that_xla_counts(name: str) -> None:
    # One layer: XLA counts the body of a loop once, however often it runs.
    config = config_of(1, **SHAPES[name])
    rows, seq = config.train.batch, config.model.context
    params = jax.eval_shape(lambda: init_params(config.model, VOCABULARY, 0))
    tokens = jax.ShapeDtypeStruct((rows, seq + 1), jnp.int32)

    def loss(params: dict, tokens: jax.Array) -> jax.Array:
        hidden = Transformer.apply(config.model, params, tokens[:, :-1])
        return summed_loss(hidden, params["embedding"], tokens[:, 1:])

    counted = jax.jit(jax.value_and_grad(loss)).lower(params, tokens).cost_analysis()["flops"]
    ours = token_flops(config.model, VOCABULARY) * rows * seq
    # XLA counts what is not a product of matrices too: norms, softmax, SwiGLU, the loss.
    assert 0.95 < counted / ours < 1.25


def test_flops_grow_with_every_layer_alike() -> None:
    one, two, four = (token_flops(config_of(depth, **SHAPES["narrow"]).model, VOCABULARY) for depth in (1, 2, 4))
    assert four - two == pytest.approx(2 * (two - one))


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_bytes_of_parameters_and_moments_are_those_of_the_state(optimizer: str) -> None:
    config = config_of(3, optimizer, **SHAPES["grouped"])
    state = jax.eval_shape(lambda: init_state(config, VOCABULARY))
    parts = memory.parts_bytes(config, VOCABULARY)
    assert parts["parameters"] == sum(leaf.size * 4 for leaf in jax.tree.leaves(state.params))
    moments = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state.opt_state))
    assert parts["moments"] == pytest.approx(moments, abs=64)  # besides, counters


@pytest.mark.slow
def test_bytes_of_a_step_follow_what_xla_plans() -> None:
    """XLA may plan more than the formula, but more of it where the formula says so, in about the same measure."""

    def planned_and_formula(depth: int) -> tuple[float, float]:
        config = config_of(depth, **SHAPES["narrow"])
        state = jax.eval_shape(lambda: init_state(config, VOCABULARY))
        tokens = jax.ShapeDtypeStruct((1, config.train.batch, config.model.context + 1), jnp.int32)
        chunk: jax.stages.Wrapped = make_train_chunk(config)  # type: ignore[assignment]
        plan = planned(chunk.lower(state, tokens, 1, Cooldown())).memory_analysis()
        size = plan.argument_size_in_bytes + plan.temp_size_in_bytes + plan.output_size_in_bytes
        return size - plan.alias_size_in_bytes, sum(memory.parts_bytes(config, VOCABULARY).values())

    (small, small_formula), (large, large_formula) = planned_and_formula(2), planned_and_formula(8)
    assert 0.7 < (large - small) / (large_formula - small_formula) < 3.0


def test_checkpointing_and_microbatches_lower_the_activations_alone() -> None:
    plain = config_of(8, **SHAPES["narrow"])
    model, train = plain.model, plain.train
    block = plain.model_copy(update={"model": model.model_copy(update={"remat": "block"})})
    halves = plain.model_copy(update={"train": train.model_copy(update={"microbatch": 2})})
    all_, kept, half = (memory.parts_bytes(one, VOCABULARY) for one in (plain, block, halves))
    assert kept["activations"] < 0.4 * all_["activations"]
    assert half["activations"] == 0.5 * all_["activations"]
    assert half["gradients"] == 2 * all_["gradients"]
    assert kept["moments"] == half["moments"] == all_["moments"]


def test_the_peak_is_that_of_this_machine() -> None:
    assert 1e8 < peak_flops("fp32") < 1e14


def test_what_others_took_is_said_only_where_it_matters() -> None:
    share = Others().share()
    assert share is None or 0.0 <= share <= 1.0
    assert "OTHERS" not in describe("cpu", 0.02)
    assert "OTHERS TOOK 40 %" in describe("cpu", 0.4)
    assert "OTHERS" not in describe("cpu", None)
