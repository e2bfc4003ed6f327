"""AdamW for everything, or Muon for matrices and AdamW for embeddings and norms."""

import jax
import optax
from optax.contrib import MuonDimensionNumbers

from pipeline.config.learning import Optimizer
from pipeline.lm.model import Params


def make_optimizer(config: Optimizer) -> optax.GradientTransformation:
    """Clipped updates at the PEAK learning rate: the caller scales them by the schedule (both are linear in it).

    Muon orthogonalises each layer's matrix by itself: the leading axis of the stacked parameters is a batch axis
    (Jordan et al. 2024; update scaled to RMS 0.2 as AdamW's, Liu et al., arXiv 2502.16982).
    """
    if config.name == "adamw":
        update = optax.adamw(config.lr, config.beta1, config.beta2, weight_decay=config.weight_decay, mask=_is_matrix)
    else:
        update = optax.contrib.muon(
            config.muon_lr,
            beta=config.momentum,
            weight_decay=config.weight_decay,
            adam_learning_rate=config.lr,
            adam_b1=config.beta1,
            adam_b2=config.beta2,
            consistent_rms=0.2,
            muon_weight_dimension_numbers=lambda params: jax.tree.map(
                lambda matrix: MuonDimensionNumbers(reduction_axis=1, output_axis=2) if matrix else None,
                _is_matrix(params),
            ),
        )
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), update)


def _is_matrix(params: Params) -> Params:
    """True for the stacked matrices [depth, in, out]; embeddings and norms have fewer axes."""
    return jax.tree.map(lambda p: p.ndim == 3, params)
