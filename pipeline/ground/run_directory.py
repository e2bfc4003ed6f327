"""A run directory as the ground sees it: finished, interrupted or copied, and never written to."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pipeline.config import BadInput, Config, RunFailed, load_file
from pipeline.flight.recorded import CONFIG, Found, look_at_tokenizer, recorded

# JAX and all that needs it are imported where they are used: who reads a ledger need not wait for them.
if TYPE_CHECKING:
    import pandas as pd
    from tokenizers import Tokenizer

    from pipeline.checkpoint import arrays
    from pipeline.checkpoint.seal import Leaf
    from pipeline.ground.trained_model import TrainedModel
    from pipeline.lm.model import Params

LEDGER = "ledger.jsonl"
Step = int | Literal["best"] | None  # a sealed step, the one with the lowest validation loss, or the newest whole one
_PARAMS = "params."  # where the parameters stand among the sealed arrays of a state
_Read = TypeVar("_Read")


@dataclass(frozen=True)
class Weights:
    """Parameters of one sealed step, bit for bit what was sealed."""

    step: int
    params: "Params"  # nested dict of fp32 arrays
    vocab_size: int
    meta: dict[str, Any]  # what training saved beside its state
    damaged: dict[int, str] = field(default_factory=dict)  # newer steps passed over, and why


@dataclass(frozen=True)
class RunDirectory:
    """What `open_run` found. Nothing is read before it is asked for."""

    path: Path
    config: Config

    @property
    def steps(self) -> list[int]:
        """Sealed steps, oldest first; whether each is still whole shows when it is read."""
        from pipeline.checkpoint import layout

        return layout.steps(self.path / "checkpoints")

    @property
    def ledger(self) -> "pd.DataFrame":
        """Every event of the ledger: one row each, in the order written, a column for every field that any has.

        `launch` counts launches from 1; `attrs["damaged"]` is the number of lines that were passed over.
        """
        from pipeline.ground.frames import ledger_frame

        return ledger_frame(self.path / LEDGER)

    @property
    def metrics(self) -> "pd.DataFrame":
        """The curves, by step: mission_s, wall [s], launch, loss, grad_norm, rate (share of the peak learning rate),
        tokens_per_s, train_wh (spent until then), validation_loss, validation_error, validation_bits_per_byte.

        What an outage took back appears as it was computed in the end, once.
        """
        from pipeline.ground.frames import metrics_frame

        return metrics_frame(self.path / LEDGER)

    @property
    def checkpoints(self) -> "pd.DataFrame":
        """Every step that was ever sealed: mission_s, wall [s], bytes, seconds, blocking_s, and state: present,
        deleted (thinned out), quarantined or missing."""
        from pipeline.ground.frames import checkpoints_frame

        return checkpoints_frame(self.path / LEDGER, self.steps)

    def model(self, step: Step = None) -> "TrainedModel":
        """The model of a sealed step. Raises as `weights` does."""
        from pipeline.ground.trained_model import TrainedModel

        return TrainedModel(self, self.weights(step))

    def candidates(self, step: Step) -> list[int]:
        """The steps that `step` may stand for, the first choice first.

        Raises:
            BadInput: there is none.
        """
        steps = self.steps
        if not steps:
            raise BadInput(f"{self.path}: no sealed checkpoint yet; run it further, or name another run")
        if step is None:
            return steps[::-1]
        if step == "best":
            return [self._best_step()]
        if step not in steps:
            raise BadInput(f"--step: {step}: not sealed in {self.path}; there are {', '.join(map(str, steps))}")
        return [step]

    def _best_step(self) -> int:
        """The sealed step with the lowest validation loss in the ledger.

        Raises:
            BadInput: no sealed step was validated.
        """
        from pipeline.ground.history import History
        from pipeline.ground.tail import Tail

        table, sealed = History().read(Tail(self.path / LEDGER).read()).validations, set(self.steps)
        losses = zip(table["loss"].tolist(), table["step"].astype(int).tolist(), strict=True)
        candidates = [(loss, step) for loss, step in losses if step in sealed and math.isfinite(loss)]
        if not candidates:
            raise BadInput(
                f"--step: best: none of the sealed steps of {self.path} was validated; name one by its number"
            )
        return min(candidates)[1]

    @property
    def has_tokenizer(self) -> bool:
        return (self.path / "tokenizer.json").exists()

    def tokenizer(self, vocab_size: int | None = None) -> "Tokenizer | None":
        """The tokenizer, of `vocab_size` if one is given; None for token files, if none was put beside the run.

        Raises:
            BadInput: missing, unreadable or of another vocabulary.
        """
        from tokenizers import Tokenizer

        path = self.path / "tokenizer.json"
        corpus = self.config.corpus
        if corpus.source == "tokens" and not self.has_tokenizer:
            return None
        try:
            tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise BadInput(f"{path}: {error.strerror}; copy it from where the run was made") from error
        except Exception as error:  # tokenizers raises bare Exception
            raise BadInput(f"{path}: not a tokenizer ({error}); copy it from where the run was made") from error
        if look_at_tokenizer(self.path) is Found.DAMAGED:
            raise BadInput(
                f"{path}: not what was sealed; copy it from where the run was made, or let that make it anew"
            )
        known = tokenizer.get_vocab_size()
        # Whoever makes token files may round the vocabulary up, as nanoGPT does, and so do open weights.
        rounded_up = corpus.source == "tokens" or corpus.tokenizer == "given"
        if vocab_size and (known > vocab_size or (known < vocab_size and not rounded_up)):
            raise BadInput(
                f"{path}: {known} tokens, but the model has {vocab_size}; copy it from where the run was made"
            )
        return tokenizer

    def weights(self, step: Step = None) -> Weights:
        """Parameters at `step` ("best": of the lowest validation loss), or at the newest sealed step that is whole.

        The files are checked against the SEAL, and the arrays once more when they are in memory. Optimizer moments
        stay on the disk.

        Raises:
            BadInput: no sealed checkpoint, no such step, or the checkpoint is of another model than config.yaml.
            RunFailed: what was asked for is damaged, or Orbax cannot read it.
        """
        damaged: dict[int, str] = {}
        for candidate in self.candidates(step):
            try:
                return self._load(candidate, damaged)
            except _Damage as damage:
                damaged[candidate] = str(damage)
        worst = f"step {next(iter(damaged))}: {next(iter(damaged.values()))}"
        other = "" if step is None else "name another --step, or "  # without one all were tried
        raise RunFailed(f"{self.path}: {worst}; {other}restore a copy (`train.py verify` lists all)")

    def _load(self, step: int, damaged: dict[int, str]) -> Weights:
        from pipeline.checkpoint import arrays, layout, seal
        from pipeline.checkpoint.restore import META

        here = layout.path((self.path / "checkpoints").absolute(), step)
        sealed, problems = _readable(here, partial(seal.inspect, here, step))
        if sealed is None or problems:
            raise _Damage("; ".join(problems[:3]))
        leaves = {name: leaf for name, leaf in sealed.leaves.items() if name.startswith(_PARAMS)}
        vocab_size = self._vocab_size(here, leaves)
        meta = _readable(here, lambda: json.loads((here / META).read_bytes()))
        found = _readable(here, partial(_read_only, here, leaves))
        now = arrays.fingerprints(found)
        if changed := [name for name in leaves if leaves[name] != now[name]]:
            raise _Damage(f"{changed[0]}: the array differs from what was saved")
        return Weights(step, _nested(found), vocab_size, meta, damaged)

    def _vocab_size(self, here: Path, leaves: "dict[str, Leaf]") -> int:
        """Of a checkpoint whose arrays are those that config.yaml describes."""
        import jax

        from pipeline.checkpoint import arrays
        from pipeline.lm.model import init_params

        embedding = leaves.get(_PARAMS + "embedding")
        vocab_size = embedding.shape[0] if embedding else 1
        described = jax.eval_shape(partial(init_params, self.config.model, vocab_size, 0))
        if other := arrays.difference({_PARAMS[:-1]: described}, leaves):
            raise BadInput(f"{here}: the checkpoint is of another model than {self.path}/config.yaml: {other}")
        return vocab_size


def open_run(path: Path | str) -> RunDirectory:
    """The run directory at `path`.

    Raises:
        BadInput: not a run directory, or its configuration is whole nowhere in it.
    """
    path = Path(path)
    if not path.is_dir():
        raise BadInput(f"{path}: no such directory; name the directory of a run")
    if config := recorded(path):
        return RunDirectory(path, config)
    load_file(path / CONFIG)  # says what is wrong with it
    raise BadInput(f"{path / CONFIG}: damaged, and no checkpoint says what it held; copy it again")


class _Damage(Exception):
    """One step is not what was sealed."""


def _readable(here: Path, read: Callable[[], _Read]) -> _Read:
    """What `read` returns. Damage is for the SEAL to find: what fails here is the machine or the software."""
    try:
        return read()
    except Exception as error:  # Orbax raises bare Exception
        reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
        raise RunFailed(
            f"{here}: cannot be read ({reason}); install the versions that wrote it, or copy it again"
        ) from error


def _read_only(here: Path, leaves: "dict[str, Leaf]") -> "arrays.Named":
    """`leaves` and no others: a third of a state under AdamW."""
    import numpy as np

    from pipeline.checkpoint import arrays

    ocp = arrays.orbax()
    context = ocp.Context()
    context.pytree.loading.partial_load = True
    asked = {name: np.empty(leaf.shape, leaf.dtype) for name, leaf in leaves.items()}
    with context:
        return ocp.load_checkpointables(here, {"state": asked})["state"]


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
