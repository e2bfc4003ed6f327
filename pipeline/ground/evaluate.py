"""How good a trained model is: loss, bits per byte and perplexity on held-out text, and how sure that is."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt

from pipeline.config import BadInput, Config
from pipeline.ground.arguments import RunParser, say_passed_over, set_up_jax
from pipeline.ground.run_directory import RunDirectory, Weights, open_run


def main(arguments: Sequence[str]) -> int:
    """`train.py evaluate RUN`."""
    parser = RunParser("evaluate", "Loss, bits per byte and perplexity of a run on held-out text, with 95 % intervals.")
    parser.add_step()
    parser.add_argument(
        "--corpus.path", dest="corpus_path", metavar="TEXT", help="another text: its second half is read"
    )
    parser.add_json()
    given = parser.parse_args(arguments)
    set_up_jax()
    result = evaluate(given.run, given.step, given.corpus_path)
    say_passed_over(result["damaged"])
    print(json.dumps(result) if given.json else _lines(result))
    return 0


def evaluate(run_dir: Path | str, step: int | None = None, corpus_path: str | None = None) -> dict[str, Any]:
    """Evaluates the weights of `step` (default: the newest sealed) on every held-out window.

    Args:
        corpus_path: another text (file, folder or glob) in place of the run's own. Its second half is read; its first
            half feeds the unigram model. For a run on token files, other token files.

    Returns:
        loss [nats per token] with loss_low, loss_high (95 %) and standard_error; bits_per_byte with bits_per_byte_low
        and bits_per_byte_high (null for token files); perplexity, perplexity_low, perplexity_high; unigram_loss [nats
        per token]; windows; step; tokens (trained on so far); context; precision; corpus; damaged (newer steps
        that were passed over, and why). An interval is null where there is only one window.

    Raises:
        BadInput: no run, no such step, or the run's text is not what it was.
        RunFailed: the checkpoint is damaged.
    """
    from pipeline.flight.validation import describe
    from pipeline.ground.bootstrap import mean_interval

    run = open_run(run_dir)
    weights = run.weights(step)
    corpus = _corpus(run, weights, corpus_path)
    losses = window_losses(run.config, weights, corpus.held_out_windows(run.config.model.context))
    result = describe(losses, corpus)
    interval = mean_interval(losses)
    low, high = (interval.low, interval.high) if interval else (math.nan, math.nan)
    bits = (result["bits_per_byte"] or math.nan) / result["loss"]
    spread = {
        "loss_low": low,
        "loss_high": high,
        "standard_error": interval.standard_error if interval else math.nan,
        "bits_per_byte_low": low * bits,
        "bits_per_byte_high": high * bits,
        "perplexity": _exp(result["loss"]),
        "perplexity_low": _exp(low),
        "perplexity_high": _exp(high),
    }
    about = {
        "step": weights.step,
        "tokens": weights.step * run.config.tokens_per_step,
        "context": run.config.model.context,
        "precision": run.config.train.precision,
        "corpus": corpus_path or run.config.corpus.path or run.config.corpus.source,
        "damaged": weights.damaged,
    }
    del result["bits_per_byte_error"]  # of windows taken as independent; the interval is wider and fairer
    # JSON knows neither NaN nor infinity.
    figures = {
        key: value if value is None or math.isfinite(value) else None for key, value in (result | spread).items()
    }
    return figures | about


def window_losses(
    config: Config, weights: Weights, windows: UInt[np.ndarray, "windows context+1"]
) -> Float[np.ndarray, " windows"]:
    """Mean loss of each window [nats per token], in the precision and the batch that training validates with."""
    import jax
    import jax.numpy as jnp

    from pipeline.lm.step import make_evaluate

    if config.model.attention == "cudnn" and jax.default_backend() != "gpu":
        # The same function by another kernel: a machine on the ground need not have the one that flies.
        config = config.model_copy(update={"model": config.model.model_copy(update={"attention": "xla"})})
    forward, rows = make_evaluate(config), config.train.microbatch or config.train.batch
    params = jax.device_put(weights.params)
    pieces = [windows[at : at + rows] for at in range(0, len(windows), rows)]
    # The last piece is filled up to the shape that is compiled already.
    shape = rows, windows.shape[1]
    losses = [np.asarray(forward(params, jnp.asarray(np.resize(piece, shape))))[: len(piece)] for piece in pieces]
    return np.concatenate(losses)


def _corpus(run: RunDirectory, weights: Weights, path: str | None) -> Any:
    """The run's own text, the same tokens split at the same place, or another one read with the run's tokenizer."""
    from pipeline.corpus import open_corpus

    config, context, seed = run.config.corpus, run.config.model.context, run.config.seed
    tokenizer = run.tokenizer(weights.vocab_size)
    if path:
        source = "tokens" if config.source == "tokens" else "text"
        other = {"source": source, "path": path, "held_out": 0.5, "split": "tail", "limit_mb": None}
        return open_corpus(config.model_copy(update=other), context, seed, tokenizer=tokenizer)
    corpus = open_corpus(config, context, seed)
    if corpus.content_hash != weights.meta["corpus"] and tokenizer:  # a BPE may come out otherwise under other software
        corpus = open_corpus(config, context, seed, tokenizer=tokenizer)
    if corpus.content_hash != weights.meta["corpus"]:
        raise BadInput(
            f"corpus: {config.path or config.source}: not the text that {run.path} was trained on, so what is held out "
            "here may have been trained on; evaluate where the run was made, or name another text with --corpus.path"
        )
    return corpus


def _exp(loss: float) -> float:
    return math.exp(loss) if loss < 700 else math.inf


def _lines(result: dict[str, Any]) -> str:
    def row(name: str, key: str, unit: str, digits: int) -> str:
        if result[key] is None:
            return f"{name:<16}unknown"
        low, high = result[f"{key}_low"], result[f"{key}_high"]
        interval = "" if low is None else f"  [{low:.{digits}f}, {high:.{digits}f}]"
        return f"{name:<16}{result[key]:.{digits}f}{interval}  {unit}"

    return "\n".join(
        [
            row("loss", "loss", "nats per token", 4),
            row("bits per byte", "bits_per_byte", "", 4).rstrip(),
            row("perplexity", "perplexity", "", 2).rstrip(),
            f"{'unigram loss':<16}{result['unigram_loss']:.4f}  nats per token",
            f"{'measured on':<16}{result['windows']:,} windows of {result['context']:,} tokens: {result['corpus']}",
            f"{'weights':<16}step {result['step']:,}, {result['tokens']:,} training tokens",
            "in brackets: 95 % interval, bootstrap over held-out windows",
        ]
    )
