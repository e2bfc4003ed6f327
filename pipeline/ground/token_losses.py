"""The loss of every token of held-out text, under the weights of a checkpoint."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt

from pipeline.config import Config
from pipeline.config.learning import Model
from pipeline.lm import loss
from pipeline.lm.model import Params, Transformer

Windows = UInt[np.ndarray, "windows context+1"]


def pieces(config: Config, params: Params, windows: Windows) -> Iterator[Float[np.ndarray, "rows context"]]:
    """Loss of each target token [nats], given those before it in its window; some windows at a time, in their order.

    In the precision and the batch that training validates with.
    """
    yield from _by_batch(config, params, windows, _forward)


class Predictions(NamedTuple):
    """What the model expected at each target, and what came of it. [windows, context] each."""

    loss: Float[np.ndarray, "windows context"]  # of the token that came [nats]
    entropy: Float[np.ndarray, "windows context"]  # the loss that the model expected [nats]
    confidence: Float[np.ndarray, "windows context"]  # probability of the token that it held likeliest
    correct: Bool[np.ndarray, "windows context"]  # whether that one came


def predictions(config: Config, params: Params, windows: Windows) -> Predictions:
    """Loss and calibration of every target token. All logits of one window are held at a time."""
    batches = list(_by_batch(config, params, windows, _predict))
    return Predictions(*(np.concatenate(column) for column in zip(*batches, strict=True)))


def _by_batch(config: Config, params: Params, windows: Windows, forward: Callable[..., Any]) -> Iterator[Any]:
    model = config.model
    if model.attention == "cudnn" and jax.default_backend() != "gpu":
        # The same function by another kernel: a machine on the ground need not have the one that flies.
        model = model.model_copy(update={"attention": "xla"})
    rows = config.train.microbatch or config.train.batch
    params = jax.device_put(params)
    for at in range(0, len(windows), rows):
        piece = windows[at : at + rows]
        # The last piece is filled up to the shape that is compiled already.
        filled = np.resize(piece, (rows, windows.shape[1])).astype(np.int32)
        found = forward(model, config.train.precision, params, jnp.asarray(filled))
        yield jax.tree.map(lambda array: np.asarray(array)[: len(piece)], found)  # noqa: B023


def window_losses(config: Config, params: Params, windows: Windows) -> Float[np.ndarray, " windows"]:
    """Mean loss of each window [nats per token]."""
    return np.concatenate([piece.mean(axis=1) for piece in pieces(config, params, windows)])


@partial(jax.jit, static_argnums=(0, 1))  # one program for all steps of a run
def _forward(
    model: Model, precision: str, params: Params, windows: Int[Array, "rows context+1"]
) -> Float[Array, "rows context"]:
    hidden = Transformer.apply(model, params, windows[:, :-1], precision)
    return loss.token_losses(hidden, params["embedding"], windows[:, 1:])


@partial(jax.jit, static_argnums=(0, 1))
def _predict(
    model: Model, precision: str, params: Params, windows: Int[Array, "rows context+1"]
) -> tuple[Array, Array, Array, Array]:
    hidden = Transformer.apply(model, params, windows[:, :-1], precision)
    table = params["embedding"].astype(hidden.dtype)

    def one(window: tuple[Array, Array]) -> tuple[Array, Array, Array, Array]:
        states, targets = window
        logits = jnp.einsum("sd,vd->sv", states, table, preferred_element_type=jnp.float32)
        log_chance = jax.nn.log_softmax(logits)
        likeliest = jnp.argmax(logits, axis=-1)
        chosen = jnp.take_along_axis(log_chance, targets[:, None], axis=-1)[:, 0]
        entropy = -jnp.sum(jnp.exp(log_chance) * log_chance, axis=-1)
        return -chosen, entropy, jnp.exp(jnp.max(log_chance, axis=-1)), likeliest == targets

    return jax.lax.map(one, (hidden, windows[:, 1:]))
