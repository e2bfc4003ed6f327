"""What a run is given where its configuration says null: batch and learning rates from the size of the network.

The batch grows with the square of the depth, through 8,192 tokens at depth 4. Learning rates fall with the root of the
width, through what trains well at width 128, depth 4 (configs/shakespeare-cpu.yaml): the rule is not swept.
"""

from pipeline.config.learning import Model

_TOKENS, _DEPTH = 8192, 4
_LR, _MUON_LR, _WIDTH = 4e-3, 1e-2, 128


def batch(model: Model) -> int:
    """Sequences of one step."""
    return max(1, round(_TOKENS * (model.depth / _DEPTH) ** 2 / model.context))


def lr(model: Model) -> float:
    """Peak learning rate of AdamW: of all parameters, or of embedding and norms beside Muon."""
    return _rounded(_LR * (_WIDTH / model.width) ** 0.5)


def muon_lr(model: Model) -> float:
    """Peak learning rate of Muon."""
    return _rounded(_MUON_LR * (_WIDTH / model.width) ** 0.5)


def _rounded(rate: float) -> float:
    return float(f"{rate:.2g}")
