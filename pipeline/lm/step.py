"""From a state and a chunk of batches to the next state: the whole of what training computes.

One program serves every chunk length. The number of steps is data (a loop with a dynamic trip count), because XLA
compiles a loop of one step differently from a loop of ten: with a static count, an interruption that moves the chunk
boundaries would change the last bits of the weights.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from pipeline.config import Config
from pipeline.lm.loss import summed_loss, token_losses
from pipeline.lm.model import Params, Transformer, init_params
from pipeline.lm.optimizer import make_optimizer
from pipeline.lm.precision import PRECISIONS, LossScale, first_scale, scale_of
from pipeline.lm.schedule import Cooldown, rate
from pipeline.lm.settle import change_if


class TrainState(NamedTuple):
    """Everything that the next step depends on. fp32 parameters and optimizer moments."""

    params: Params
    opt_state: Any
    step: Int[Array, ""]
    skipped: Int[Array, ""]
    skipped_in_a_row: Int[Array, ""]
    loss_scale: LossScale | None = None  # of fp16


class Metrics(NamedTuple):
    """Per step of a chunk, in the order of its steps; entries past the number of steps taken are zero."""

    loss: Float[Array, " steps"]
    grad_norm: Float[Array, " steps"]  # 0 where the scale was too large for fp16, and nothing was applied
    rate: Float[Array, " steps"]
    skipped: Int[Array, " steps"]


Tokens = Array | np.ndarray
TrainChunk = Callable[[TrainState, Tokens, int, Cooldown], tuple[TrainState, Metrics]]
Fault = Callable[[Params, Int[Array, ""]], Params]  # what becomes of the gradients of the step that is being taken


def init_state(config: Config, vocab_size: int, params: Params | None = None) -> TrainState:
    """The state before step 0, from the seed alone, or from weights given."""
    params = init_params(config.model, vocab_size, config.seed) if params is None else params
    opt_state = make_optimizer(config.optimizer, PRECISIONS[config.train.precision].factor).init(params)
    # Three buffers, not one three times: a donated buffer can be given away only once.
    step, skipped, in_a_row = (jnp.zeros((), jnp.int32) for _ in range(3))
    return TrainState(params, opt_state, step, skipped, in_a_row, first_scale(config.train.precision))


def make_train_chunk(config: Config, xla: dict[str, str] | None = None) -> TrainChunk:
    """`train_chunk(state, tokens[K, batch, context + 1], steps, cooldown) -> state, metrics`, jitted; eats `state`.

    `xla` are flags of XLA's for this program alone, over those of XLA_FLAGS.
    """
    return jax.jit(partial(train_chunk, config), donate_argnums=0, compiler_options=xla)


def make_evaluate(config: Config) -> Callable[[Params, Tokens], Float[Array, " windows"]]:
    """`evaluate(params, windows[n, context + 1]) -> mean loss of each window [nats per token]`, jitted."""

    def evaluate(params: Params, windows: Array) -> Array:
        return token_losses(*_predicted(config, params, windows)).mean(axis=-1)

    return jax.jit(evaluate)


def train_chunk(
    config: Config,
    state: TrainState,
    tokens: Int[Array, "steps batch window"],
    steps: int,
    cooldown: Cooldown,
    fault: Fault | None = None,
) -> tuple[TrainState, Metrics]:
    """`steps` steps from `state`; `fault` is for drills."""
    optimizer = make_optimizer(config.optimizer, PRECISIONS[config.train.precision].factor)

    def body(i: Array, carry: tuple[TrainState, Metrics]) -> tuple[TrainState, Metrics]:
        state, metrics = carry
        state, now = _train_step(config, optimizer, state, tokens[i], cooldown, fault)
        return state, jax.tree.map(lambda all_, one: all_.at[i].set(one), metrics, now)

    blank = jnp.zeros(len(tokens), jnp.float32)
    metrics = Metrics(loss=blank, grad_norm=blank, rate=blank, skipped=blank.astype(jnp.int32))
    return jax.lax.fori_loop(0, steps, body, (state, metrics))


def _train_step(
    config: Config,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    tokens: Int[Array, "batch window"],
    cooldown: Cooldown,
    fault: Fault | None,
) -> tuple[TrainState, Metrics]:
    """One update. A non-finite loss or gradient leaves parameters and moments as they were, and is counted; not so
    where a smaller scale of the loss cures it."""
    loss, grads = _loss_and_gradients(config, state.params, tokens, state.loss_scale)
    if fault:
        grads = fault(grads, state.step)
    grad_norm = optax.global_norm(grads)
    now = rate(state.step, config.optimizer.warmup_steps, cooldown)

    def apply(learnt: tuple[Params, Any]) -> tuple[Params, Any]:
        params, opt_state = learnt
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return jax.tree.map(lambda p, u: p + now * u, params, updates), opt_state

    finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
    params, opt_state = change_if(finite, apply, (state.params, state.opt_state))
    loss_scale, skip = state.loss_scale, ~finite
    if loss_scale is not None:
        overflow = skip & jnp.isfinite(loss) & loss_scale.can_fall
        loss_scale, skip = loss_scale.after(overflow), skip & ~overflow
        grad_norm = jnp.where(overflow, 0.0, grad_norm)
    count = skip.astype(jnp.int32)
    in_a_row = jnp.where(skip, state.skipped_in_a_row + 1, jnp.where(finite, 0, state.skipped_in_a_row))
    state = TrainState(params, opt_state, state.step + 1, state.skipped + count, in_a_row, loss_scale)
    return state, Metrics(loss, grad_norm, now, count)


def _loss_and_gradients(
    config: Config, params: Params, tokens: Int[Array, "batch window"], loss_scale: LossScale | None
) -> tuple[Array, Params]:
    """Mean loss over all target tokens and its gradient, one microbatch at a time.

    Sums over tokens are accumulated and divided once, so that the result weighs tokens, not microbatches.
    """
    rows = config.train.microbatch or len(tokens)
    total = len(tokens) * (tokens.shape[1] - 1)
    scale = scale_of(config.train.precision, loss_scale, total)

    def scaled_loss(params: Params, tokens: Array) -> Array:
        rounding = PRECISIONS[config.train.precision].in_loss
        return summed_loss(*_predicted(config, params, tokens), scale / total, rounding)

    def value_and_grad(params: Params, tokens: Array) -> tuple[Array, Params]:
        return jax.tree.map(lambda scaled: scaled / scale, jax.value_and_grad(scaled_loss)(params, tokens))

    if rows == len(tokens):
        return value_and_grad(params, tokens)

    def add(sums: tuple[Array, Params], microbatch: Array) -> tuple[tuple[Array, Params], None]:
        return jax.tree.map(jnp.add, sums, value_and_grad(params, microbatch)), None

    zeros = jnp.zeros(()), jax.tree.map(jnp.zeros_like, params)
    sums, _ = jax.lax.scan(add, zeros, tokens.reshape(-1, rows, tokens.shape[1]))
    return sums


def _predicted(config: Config, params: Params, tokens: Int[Array, "batch window"]) -> tuple[Array, Array, Array]:
    """What the loss takes: hidden states, the tied embedding, targets."""
    tokens = tokens.astype(jnp.int32)
    hidden = Transformer.apply(config.model, params, tokens[:, :-1], config.train.precision)
    return hidden, params["embedding"], tokens[:, 1:]
