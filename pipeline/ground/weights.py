"""The parameters of a sealed step, checked as they are read."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.config import BadInput, RunFailed
from pipeline.config.learning import Model

# JAX and all that needs it are imported where they are used: who reads a ledger need not wait for them.
if TYPE_CHECKING:
    from pipeline.checkpoint import arrays
    from pipeline.checkpoint.seal import Leaf
    from pipeline.lm.model import Params

_PARAMS = "params."  # where the parameters stand among the sealed arrays of a state
_MOST_ROWS = 1 << 30  # of an embedding; JAX can describe no array of 2^63
_Read = TypeVar("_Read")


@dataclass(frozen=True)
class Weights:
    """Parameters of one sealed step, bit for bit what was sealed."""

    step: int
    params: "Params"  # nested dict of fp32 arrays
    meta: dict[str, Any]  # what training saved beside its state
    damaged: dict[int, str] = field(default_factory=dict)  # newer steps passed over, and why

    @property
    def vocab_size(self) -> int:
        return len(self.params["embedding"])


class Damage(Exception):
    """One step is not what was sealed."""


def load_weights(run_dir: Path, model: Model, step: int) -> Weights:
    """The weights of `step`, which the run in `run_dir` has sealed.

    Raises:
        Damage: it is not what was sealed.
        BadInput: it is of another model.
        RunFailed: Orbax cannot read it.
    """
    from pipeline.checkpoint import arrays, layout, seal
    from pipeline.checkpoint.restore import META

    here = layout.path((run_dir / "checkpoints").absolute(), step)
    sealed, problems = _readable(here, partial(seal.inspect, here, step))
    if sealed is None or problems:
        raise Damage("; ".join(problems[:3]))
    leaves = {name: leaf for name, leaf in sealed.leaves.items() if name.startswith(_PARAMS)}
    if other := _difference(model, leaves):
        raise BadInput(f"{here}: the checkpoint is of another model than {run_dir}/config.yaml: {other}")
    meta = _readable(here, lambda: dict(json.loads((here / META).read_bytes())))
    found = _readable(here, partial(arrays.read, here, leaves, part=True))
    now = arrays.fingerprints(found)
    if changed := [name for name in leaves if leaves[name] != now[name]]:
        raise Damage(f"{changed[0]}: the array differs from what was saved")
    return Weights(step, _nested(found), meta)


def _difference(model: Model, leaves: "dict[str, Leaf]") -> str | None:
    """What of a checkpoint's arrays is not as `model` describes it; the vocabulary is that of the checkpoint."""
    import jax

    from pipeline.checkpoint import arrays
    from pipeline.lm.model import init_params

    embedding = leaves.get(_PARAMS + "embedding")
    rows = min(embedding.shape[0], _MOST_ROWS) if embedding and embedding.shape else 1  # any shape can be sealed
    described = jax.eval_shape(partial(init_params, model, rows, 0))
    return arrays.difference({_PARAMS[:-1]: described}, leaves)


def _readable(here: Path, read: Callable[[], _Read]) -> _Read:
    """What `read` returns. Damage is for the SEAL to find: what fails here is the machine or the software."""
    from pipeline.checkpoint import arrays

    try:
        return read()
    except Exception as error:  # Orbax raises bare Exception
        raise RunFailed(
            f"{here}: cannot be read ({type(error).__name__}: {arrays.brief(error)}); "
            "install the versions that wrote it, or copy it again"
        ) from error


def _nested(found: "arrays.Named") -> "Params":
    """{'params.blocks.q': array} -> {'blocks': {'q': array}}."""
    params: Params = {}
    for name, array in found.items():
        *parents, last = name.removeprefix(_PARAMS).split(".")
        inside = params
        for parent in parents:
            inside = inside.setdefault(parent, {})
        inside[last] = array
    return params
