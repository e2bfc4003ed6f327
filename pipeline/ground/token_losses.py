"""The loss of every token of held-out text, under the weights of a checkpoint."""

from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt

from pipeline.config import Config
from pipeline.config.learning import Model
from pipeline.ground.run_directory import Weights
from pipeline.lm import loss
from pipeline.lm.model import Params, Transformer
from pipeline.lm.step import DTYPES

Windows = UInt[np.ndarray, "windows context+1"]


def pieces(config: Config, weights: Weights, windows: Windows) -> Iterator[Float[np.ndarray, "rows context"]]:
    """Loss of each target token [nats], given those before it in its window; some windows at a time, in their order.

    In the precision and the batch that training validates with.
    """
    model = config.model
    if model.attention == "cudnn" and jax.default_backend() != "gpu":
        # The same function by another kernel: a machine on the ground need not have the one that flies.
        model = model.model_copy(update={"attention": "xla"})
    rows = config.train.microbatch or config.train.batch
    params = jax.device_put(weights.params)
    for at in range(0, len(windows), rows):
        piece = windows[at : at + rows]
        # The last piece is filled up to the shape that is compiled already.
        filled = np.resize(piece, (rows, windows.shape[1])).astype(np.int32)
        yield np.asarray(_forward(model, config.train.precision, params, jnp.asarray(filled)))[: len(piece)]


def window_losses(config: Config, weights: Weights, windows: Windows) -> Float[np.ndarray, " windows"]:
    """Mean loss of each window [nats per token]."""
    return np.concatenate([piece.mean(axis=1) for piece in pieces(config, weights, windows)])


@partial(jax.jit, static_argnums=(0, 1))  # one program for all steps of a run
def _forward(
    model: Model, precision: str, params: Params, windows: Int[Array, "rows context+1"]
) -> Float[Array, "rows context"]:
    hidden = Transformer.apply(model, params, windows[:, :-1], DTYPES[precision])
    return loss.token_losses(hidden, params["embedding"], windows[:, 1:])
