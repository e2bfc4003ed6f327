"""Loss on held-out text, one piece at a time, so that an eclipse or a notice can come in between."""

import math
from typing import Any

import numpy as np
from jaxtyping import Float, UInt

from pipeline.config import Config
from pipeline.corpus import Corpus
from pipeline.corpus.uncertainty import standard_error
from pipeline.lm.model import Params
from pipeline.lm.step import make_evaluate

FORWARD_SHARE = 1 / 3  # of a training step's arithmetic: the backward pass costs twice the forward


class Validation:
    """The same held-out windows each time, evenly spread over the held-out text."""

    def __init__(self, config: Config, corpus: Corpus):
        self._corpus = corpus
        self._evaluate = make_evaluate(config)
        self._rows = config.train.microbatch or config.train.batch
        windows = corpus.held_out_windows(config.model.context)
        wanted = (config.train.eval_batches or len(windows)) * config.train.batch
        if wanted < len(windows):
            windows = windows[np.linspace(0, len(windows) - 1, wanted).astype(int)]
        self._windows = windows
        self._losses: list[Float[np.ndarray, " windows"]] = []
        self.pieces = math.ceil(len(windows) / self._rows)
        self.piece_steps = FORWARD_SHARE * self._rows / config.train.batch
        self.steps = self.pieces * self.piece_steps  # what one validation costs, in training steps

    def forget(self) -> None:
        """The parameters are others from here on."""
        self._losses = []

    def whole(self, params: Params) -> dict[str, Any]:
        """All pieces at once."""
        self.forget()
        *_, result = (self.advance(params, piece) for piece in range(self.pieces))
        assert result is not None
        return result

    def advance(self, params: Params, piece: int) -> dict[str, Any] | None:
        """Evaluates piece number `piece`, and before it what a restart lost; after the last piece, the result."""
        while len(self._losses) <= piece:
            self._losses.append(self._evaluate_piece(params, len(self._losses)))
        if len(self._losses) < self.pieces:
            return None
        losses, self._losses = np.concatenate(self._losses), []
        return _describe(losses, self._windows, self._corpus)

    def _evaluate_piece(self, params: Params, piece: int) -> Float[np.ndarray, " windows"]:
        windows = self._windows[piece * self._rows : (piece + 1) * self._rows]
        # The last piece is filled up to the shape that is compiled already.
        padded = np.resize(windows, (self._rows, windows.shape[1]))
        return np.asarray(self._evaluate(params, padded))[: len(windows)]


def _describe(
    losses: Float[np.ndarray, " windows"], windows: UInt[np.ndarray, "windows context+1"], corpus: Corpus
) -> dict[str, Any]:
    """Mean loss [nats per token], its standard error for other text of the kind (None for one window), and bits per
    byte where the text is known."""
    loss = float(losses.mean(dtype=np.float64))
    error = standard_error(losses)
    bits, in_bits = corpus.bits_per_nat, corpus.bits_per_byte(losses, windows)
    return {
        "loss": loss,
        "standard_error": error,
        "bits_per_byte": loss * bits if bits else None,
        "bits_per_byte_error": standard_error(in_bits) if in_bits is not None else None,
        "unigram_loss": corpus.unigram_loss,
        "windows": len(losses),
    }
