"""Which of two models is better, window by window of one text: their difference is surer than either loss."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from pipeline.config import BadInput
from pipeline.ground.arguments import Step, finite, say_passed_over
from pipeline.ground.run_directory import TrainedModel, open_run

Unit = Literal["nats", "bits-per-byte"]
BLOCK_BYTES = 128  # of text, where windows of tokens do not pair
_BITS_FIX = "--unit bits-per-byte compares them all the same"


def compare(
    run_a: Path | str,
    run_b: Path | str,
    step_a: Step = None,
    step_b: Step = None,
    corpus_path: str | None = None,
    unit: Unit = "nats",
) -> dict[str, Any]:
    """The loss of A less that of B on the same held-out text, paired. Below zero: A is better.

    Args:
        step_a, step_b: a sealed step, or "best"; null: the newest sealed.
        corpus_path: another text in place of the one that both were trained on; its second half is read.
        unit: nats per token, window by window, which asks for one tokenizer and one context; or bits per byte, in
            blocks of BLOCK_BYTES bytes, which any two models of one text have.

    Returns:
        unit; difference with difference_low, difference_high (95 %) and standard_error; a and b (the losses of either);
        pairs; step_a, step_b; a_better (share of the pairs, of equal ones half); damaged_a and damaged_b (newer steps
        that were passed over, and why). An interval is null where there is only one pair.

    Raises:
        BadInput: no such run or step, different texts, or in nats different tokenizers or contexts.
    """
    return pair(open_run(run_a).model(step_a), open_run(run_b).model(step_b), corpus_path, unit)


def pair(a: TrainedModel, b: TrainedModel, corpus_path: str | None = None, unit: Unit = "nats") -> dict[str, Any]:
    """What `compare` returns, of models already opened."""
    from pipeline.corpus.uncertainty import mean_interval, standard_error

    losses_a, losses_b = (_by_window if unit == "nats" else _by_block)(a, b, corpus_path)
    differences = losses_a - losses_b
    interval = mean_interval(differences)
    return {
        "unit": "nats per token" if unit == "nats" else "bits per byte",
        "difference": float(differences.mean(dtype=np.float64)),
        "difference_low": interval.low if interval else None,
        "difference_high": interval.high if interval else None,
        "standard_error": standard_error(differences),
        "a": float(losses_a.mean(dtype=np.float64)),
        "b": float(losses_b.mean(dtype=np.float64)),
        "pairs": len(losses_a),
        "a_better": float((losses_a < losses_b).mean() + 0.5 * (losses_a == losses_b).mean()),
        "step_a": a.step,
        "step_b": b.step,
        "damaged_a": a.weights.damaged,
        "damaged_b": b.weights.damaged,
    }


def show(pairs: Sequence[tuple[TrainedModel, TrainedModel]], corpus_path: str | None, unit: Unit, as_json: bool) -> int:
    """`train.py evaluate RUN --against RUN`."""
    results = []
    for a, b in pairs:
        for model in (a, b):
            say_passed_over(model.weights.damaged)
        results.append(pair(a, b, corpus_path, unit))
        if not as_json:
            print(_lines(results[-1], a, b), flush=True)
    if as_json:
        results = [finite(result) for result in results]
        print(json.dumps(results[0] if len(results) == 1 else {"comparisons": results}))
    return 0


_Losses = Float[np.ndarray, " pairs"]


def _by_window(a: TrainedModel, b: TrainedModel, corpus_path: str | None) -> tuple[_Losses, _Losses]:
    """Nats per token of each window."""
    from pipeline.ground.token_losses import window_losses

    tokenizers = [model.run.tokenizer(model.weights.vocab_size) for model in (a, b)]
    if a.weights.vocab_size != b.weights.vocab_size or len({made and made.to_str() for made in tokenizers}) > 1:
        raise BadInput(f"--against: {b.run.path} has another tokenizer than {a.run.path}; {_BITS_FIX}")
    contexts = [model.run.config.model.context for model in (a, b)]
    if contexts[0] != contexts[1]:
        raise BadInput(f"--against: the context of {b.run.path} is {contexts[1]}, not {contexts[0]}; {_BITS_FIX}")
    corpora = [model.corpus(corpus_path) for model in (a, b)]
    if corpora[0].content_hash != corpora[1].content_hash:
        raise _other_text(a, b)
    windows = corpora[0].held_out_windows(contexts[0])
    losses_a, losses_b = (window_losses(model.run.config, model.weights.params, windows) for model in (a, b))
    return losses_a, losses_b


def _by_block(a: TrainedModel, b: TrainedModel, corpus_path: str | None) -> tuple[_Losses, _Losses]:
    """Bits per byte of each block of the text that both have read whole."""
    texts, ends, bits = [], [], []
    for model in (a, b):
        text, token_ends, token_bits = _bits(model, corpus_path)
        texts.append(text)
        ends.append(token_ends)
        bits.append(token_bits)
    if texts[0] != texts[1]:
        raise _other_text(a, b)
    # A token belongs to the block in which it ends. The first token of a text is nobody's to predict.
    first = -(-max(end[0] for end in ends) // BLOCK_BYTES)
    last = min(end[-1] for end in ends) // BLOCK_BYTES
    if last <= first:
        raise BadInput(f"--unit: bits-per-byte needs more held-out text than {len(texts[0])} bytes; give --corpus.path")
    sums = [
        np.bincount((end - 1) // BLOCK_BYTES, bit, last + 1)[first:last] for end, bit in zip(ends, bits, strict=True)
    ]
    return sums[0] / BLOCK_BYTES, sums[1] / BLOCK_BYTES


def _bits(model: TrainedModel, corpus_path: str | None) -> tuple[bytes, np.ndarray, np.ndarray]:
    """The held-out text, and of each token of it that was predicted: where it ends [bytes], and its loss [bits]."""
    from pipeline.corpus.token_bytes import text_of, token_bytes

    tokenizer = model.run.tokenizer(model.weights.vocab_size)
    if tokenizer is None:
        raise BadInput(f"--unit: bits-per-byte: {model.run.path} has no tokenizer; copy the one of its tokens there")
    corpus, table = model.corpus(corpus_path), token_bytes(tokenizer)
    context = model.run.config.model.context
    losses = model.losses(corpus.held_out_windows(context)).ravel().astype(np.float64)
    ends = np.cumsum(np.array([len(piece) for piece in table])[corpus.held_out])
    return text_of(table, corpus.held_out), ends[1 : len(losses) + 1], losses / math.log(2)


def _other_text(a: TrainedModel, b: TrainedModel) -> BadInput:
    return BadInput(
        f"--against: {b.run.path} was not trained on the text of {a.run.path}, so what one held out the other may have "
        "seen; name a text that neither has with --corpus.path"
    )


def _lines(result: dict[str, Any], a: TrainedModel, b: TrainedModel) -> str:
    low, high = result["difference_low"], result["difference_high"]
    interval = "" if low is None else f"  [{low:+.4f}, {high:+.4f}]"
    if low is None or not (low > 0 or high < 0):
        verdict = "no difference that this text shows"
    else:
        verdict = f"{(a if high < 0 else b).run.path} is better"
    return "\n".join(
        [
            f"{'A':<16}{result['a']:.4f}  {a.run.path}, step {a.step:,}",
            f"{'B':<16}{result['b']:.4f}  {b.run.path}, step {b.step:,}",
            f"{'A - B':<16}{result['difference']:+.4f}{interval}  {result['unit']}: {verdict}",
            f"{'measured on':<16}{result['pairs']:,} pairs, A better in {100 * result['a_better']:.0f} %",
            "in brackets: 95 % interval (few documents: nearer 90 %) for text of this kind, by means of stretches",
        ]
    )
