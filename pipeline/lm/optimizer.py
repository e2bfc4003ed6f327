"""AdamW for everything, or Muon for matrices and AdamW for embeddings and norms."""

import jax
import jax.numpy as jnp
import optax
from jax.typing import DTypeLike

from pipeline.config.learning import Optimizer
from pipeline.lm.model import Params
from pipeline.lm.muon import scale_by_muon


def make_optimizer(config: Optimizer, factor: DTypeLike = jnp.float32) -> optax.GradientTransformation:
    """Clipped updates at the PEAK learning rate: the caller scales them by the schedule (both are linear in it).

    Args:
        factor: what Muon's polynomials round to before they multiply.
    """
    adamw = optax.adamw(config.lr, config.beta1, config.beta2, weight_decay=config.weight_decay, mask=_is_matrix)
    if config.name == "adamw":
        return optax.chain(optax.clip_by_global_norm(config.clip_norm), adamw)
    muon = optax.chain(
        scale_by_muon(config.momentum, factor),
        optax.add_decayed_weights(config.weight_decay),
        optax.scale(-config.muon_lr),
    )
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.partition({True: muon, False: adamw}, _is_matrix),
    )


def _is_matrix(params: Params) -> Params:
    """True for the stacked matrices [depth, in, out]; embeddings and norms have fewer axes."""
    return jax.tree.map(lambda p: p.ndim == 3, params)
