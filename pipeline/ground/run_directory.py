"""A run directory as the ground sees it: finished, interrupted or copied, and never written to."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, UInt

from pipeline.config import BadInput, Config, RunFailed, load_file
from pipeline.flight.recorded import CONFIG, LEDGER, Found, look_at_tokenizer, recorded
from pipeline.ground.arguments import Step, user_cache
from pipeline.ground.weights import Damage, Weights, load_weights

# JAX and all that needs it are imported where they are used: who reads a ledger need not wait for them.
if TYPE_CHECKING:
    import pandas as pd
    from tokenizers import Tokenizer

    from pipeline.corpus import Corpus
    from pipeline.ground.token_losses import Predictions
    from pipeline.lm.generate import Sampling


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
        from pipeline.corpus.tokenizer import read, rows

        path = self.path / "tokenizer.json"
        corpus = self.config.corpus
        if corpus.source == "tokens" and not self.has_tokenizer:
            return None
        if look_at_tokenizer(self.path) is Found.DAMAGED:
            raise BadInput(
                f"{path}: not what was sealed; copy it from where the run was made, or let that make it anew"
            )
        try:
            tokenizer = read(path)
        except OSError as error:
            raise BadInput(f"{path}: {error.strerror}; copy it from where the run was made") from error
        except ValueError as error:
            raise BadInput(f"{path}: {error}; copy it from where the run was made") from error
        known = rows(tokenizer)
        # Whoever makes token files may round the vocabulary up, as nanoGPT does, and so do open weights.
        rounded_up = corpus.source == "tokens" or corpus.tokenizer == "given"
        if vocab_size and (known > vocab_size or (known < vocab_size and not rounded_up)):
            raise BadInput(
                f"{path}: {known} tokens, but the model has {vocab_size}; copy it from where the run was made"
            )
        return tokenizer

    def require_tokenizer(self, vocab_size: int | None = None) -> "Tokenizer":
        """As `tokenizer`, where there must be one."""
        tokenizer = self.tokenizer(vocab_size)
        if tokenizer is None:
            raise BadInput(
                f"corpus.source: tokens: {self.path} has no tokenizer; copy the tokenizer.json of its tokens there"
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
                return replace(load_weights(self.path, self.config.model, candidate), damaged=damaged)
            except Damage as damage:
                damaged[candidate] = str(damage)
        worst = f"step {next(iter(damaged))}: {next(iter(damaged.values()))}"
        other = "" if step is None else "name another --step, or "  # without one all were tried
        raise RunFailed(f"{self.path}: {worst}; {other}restore a copy (`train.py verify` lists all)")


@dataclass(frozen=True)
class TrainedModel:
    """The model of one sealed step, ready to be asked. What `RunDirectory.model` gives."""

    run: RunDirectory
    weights: Weights

    @property
    def step(self) -> int:
        return self.weights.step

    def corpus(self, path: str | None = None) -> "Corpus":
        """The text that the run was trained and validated on, the same tokens split at the same place; or another one,
        read with the run's tokenizer. What is tokenised for it lies in the user's cache.

        Args:
            path: another text (file, folder or glob). Its second half is held out; for a run on token files, other
                token files.

        Raises:
            BadInput: the text is missing, or is not what the run was trained on.
        """
        from pipeline.corpus import open_corpus

        config, context, seed = self.run.config.corpus, self.run.config.model.context, self.run.config.seed
        # A run of another machine may name any folder of this one: what it names is read, and never written to.
        opened = partial(open_corpus, context=context, seed=seed, read_only=config.cache_dir)
        config = config.model_copy(update={"cache_dir": user_cache() / "corpus"})
        tokenizer = self.run.tokenizer(self.weights.vocab_size)
        if path:
            source = "tokens" if config.source == "tokens" else "text"
            other = {"source": source, "path": path, "held_out": 0.5, "split": "tail", "limit_mb": None}
            return opened(config.model_copy(update=other), tokenizer=tokenizer)
        corpus = opened(config, tokenizer=tokenizer if config.tokenizer == "given" else None)
        sealed = self.weights.meta.get("corpus")
        if corpus.content_hash != sealed and tokenizer:  # a BPE may come out otherwise under other software
            corpus = opened(config, tokenizer=tokenizer)
        if corpus.content_hash != sealed:
            raise BadInput(
                f"corpus: {config.path or config.source}: not the text that {self.run.path} was trained on, so what is "
                "held out here may have been trained on; evaluate where the run was made, or name another text with "
                "--corpus.path"
            )
        return corpus

    def losses(
        self, windows: UInt[np.ndarray, "windows context+1"] | None = None
    ) -> Float[np.ndarray, "windows context"]:
        """Loss of each token of `windows` (default: of all held-out text) [nats], given those before it in its window.

        In the precision that the run was trained in, and in the batches that it validates with.
        """
        from pipeline.ground.token_losses import pieces

        return np.concatenate(list(pieces(self.run.config, self.weights.params, self._windows(windows))))

    def predictions(self, windows: UInt[np.ndarray, "windows context+1"] | None = None) -> "Predictions":
        """Loss, entropy, confidence and whether it was right, of each token of `windows` (default: of all held-out
        text): what calibration is judged by."""
        from pipeline.ground.token_losses import predictions

        return predictions(self.run.config, self.weights.params, self._windows(windows))

    def _windows(self, given: UInt[np.ndarray, "windows context+1"] | None) -> UInt[np.ndarray, "windows context+1"]:
        return self.corpus().held_out_windows(self.run.config.model.context) if given is None else given

    def sample(self, prompts: Sequence[str], tokens: int = 200, seed: int = 0, **sampling: Any) -> list[str]:
        """The continuation of each prompt, as `train.py sample` writes it.

        Args:
            sampling: temperature (default 0.8), top_k, top_p and min_p, as in `pipeline.lm.generate.Sampling`.
        """
        from pipeline.lm.generate import Sampling

        pieces = self.stream(prompts, tokens, Sampling(**({"temperature": 0.8} | sampling)), seed)
        return ["".join(row) for row in zip(*pieces, strict=True)]

    def stream(self, prompts: Sequence[str], tokens: int, sampling: "Sampling", seed: int = 0) -> Iterator[list[str]]:
        """The continuations as they come: each item has the next piece of text of every prompt.

        It computes in fp32 whatever the run trained in: the weights are fp32, and so is an export of them.

        Raises:
            BadInput: no tokenizer, or a prompt that is empty or has a character that the run never saw.
        """
        from pipeline.corpus import encode
        from pipeline.ground.text_stream import TextStream
        from pipeline.lm.generate import generate

        tokenizer = self.run.require_tokenizer(self.weights.vocab_size)
        try:
            ids = [encode(tokenizer, prompt).tolist() for prompt in prompts]
        except UnicodeEncodeError as error:
            raise BadInput(f"--prompt: {error.object!r}: not text ({error.reason}); give UTF-8") from error
        if not all(ids):
            raise BadInput("--prompt: empty; give at least one character")
        streams = [TextStream(tokenizer) for _ in ids]

        def pieces() -> Iterator[list[str]]:
            for new in generate(self.run.config.model, self.weights.params, ids, tokens, sampling, seed):
                yield [stream.push(row) for stream, row in zip(streams, new, strict=True)]
            yield [stream.finish() for stream in streams]

        return pieces()


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
