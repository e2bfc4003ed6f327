"""The model of one sealed step, ready to be asked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, UInt

if TYPE_CHECKING:
    from pipeline.corpus import Corpus
    from pipeline.ground.run_directory import RunDirectory, Weights
    from pipeline.ground.token_losses import Predictions


@dataclass(frozen=True)
class TrainedModel:
    """What `RunDirectory.model` gives."""

    run: "RunDirectory"
    weights: "Weights"

    @property
    def step(self) -> int:
        return self.weights.step

    def corpus(self, path: str | None = None) -> "Corpus":
        """The text that the run was trained and validated on; or another one, read with the run's tokenizer.

        Args:
            path: another text (file, folder or glob). Its second half is held out.

        Raises:
            BadInput: the text is not here, or is not what it was.
        """
        from pipeline.ground.held_out import held_out_corpus

        return held_out_corpus(self.run, self.weights, path)

    def losses(
        self, windows: UInt[np.ndarray, "windows context+1"] | None = None
    ) -> Float[np.ndarray, "windows context"]:
        """Loss of each token of `windows` (default: of all held-out text) [nats], given those before it in its window.

        In the precision that the run was trained in, and in the batches that it validates with.
        """
        from pipeline.ground.token_losses import pieces

        return np.concatenate(list(pieces(self.run.config, self.weights, self._windows(windows))))

    def predictions(self, windows: UInt[np.ndarray, "windows context+1"] | None = None) -> "Predictions":
        """Loss, entropy, confidence and whether it was right, of each token of `windows` (default: of all held-out
        text): what calibration is judged by."""
        from pipeline.ground.token_losses import predictions

        return predictions(self.run.config, self.weights, self._windows(windows))

    def _windows(self, given: UInt[np.ndarray, "windows context+1"] | None) -> UInt[np.ndarray, "windows context+1"]:
        return self.corpus().held_out_windows(self.run.config.model.context) if given is None else given

    def sample(self, prompts: Sequence[str], tokens: int = 200, seed: int = 0, **sampling: Any) -> list[str]:
        """The continuation of each prompt, as `train.py sample` writes it.

        Args:
            sampling: temperature (default 0.8), top_k, top_p and min_p, as in `pipeline.lm.generate.Sampling`.
        """
        from pipeline.ground.sample import sample
        from pipeline.lm.generate import Sampling

        how = Sampling(**({"temperature": 0.8} | sampling))
        _, pieces = sample(self.run.path, prompts, tokens, how, seed, self.step)
        return ["".join(row) for row in zip(*pieces, strict=True)]
