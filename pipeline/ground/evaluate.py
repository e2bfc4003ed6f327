"""How good a trained model is: loss, bits per byte and perplexity on held-out text, and how sure that is."""

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.flight.parts import Parts
from pipeline.ground.arguments import RunParser, Step, a_step, finite, say_passed_over, set_up_jax
from pipeline.ground.run_directory import TrainedModel, open_run

if TYPE_CHECKING:
    from pipeline.corpus import Corpus


CHOSEN = "best: chosen on this text, so that its loss flatters; --corpus.path names another"


def main(arguments: Sequence[str]) -> int:
    """`train.py evaluate RUN`."""
    parser = RunParser("evaluate", "Loss, bits per byte and perplexity of a run on held-out text, with 95 % intervals.")
    for name, about in (
        ("--step", "a sealed step or several, as 500,1000,best (default: the newest)"),
        ("--against_step", "of the other run (default: its newest)"),
    ):
        parser.add_argument(name, type=_steps, default=[None], metavar="STEP", help=about)
    parser.add_argument(
        "--corpus.path", dest="corpus_path", metavar="TEXT", help="another text: its second half is read"
    )
    parser.add_argument("--against", metavar="RUN", help="another run, to be compared with window by window")
    words = "of --against: nats per token, window by window (default), or, for other tokenizers, bits per byte"
    parser.add_argument("--unit", choices=("nats", "bits-per-byte"), default="nats", help=words)
    parser.add_json()
    given = parser.parse_args(arguments)
    flatters = "best" in (*given.step, *given.against_step) and not given.corpus_path and not given.json
    parts = Parts()
    set_up_jax()
    from pipeline.ground.token_losses import window_losses

    parts.done("import")
    run = open_run(given.run)
    for step in given.step:
        run.candidates(step)  # a wrong one is refused before any is evaluated
    if given.against:
        from pipeline.ground import compare

        other = open_run(given.against)
        pairs = [(run.model(ours), other.model(theirs)) for ours in given.step for theirs in given.against_step]
        code = compare.show(pairs, given.corpus_path, given.unit, given.json)
        if flatters:
            print(CHOSEN)
        return code
    results = []
    for step in given.step:
        model = run.model(step)
        parts.done("weights")
        corpus = model.corpus(given.corpus_path)
        parts.done("text")
        window_losses(run.config, model.weights.params, corpus.held_out_windows(run.config.model.context)[:1])
        parts.done("first_step")  # whatever comes now is work
        say_passed_over(model.weights.damaged)
        results.append(judge(model, corpus, given.corpus_path))
        if not given.json:
            print(_lines(results[-1]) + "\n", flush=True)
    scale = baselines(corpus, run.config.model.context)
    if given.json:
        results = [result | scale | {"start_s": parts.seconds} for result in results]
        print(json.dumps(results[0] if len(results) == 1 else {"evaluations": results}))
    else:
        print(_scale(results[0], scale))
        if flatters:
            print(CHOSEN)
    return 0


def evaluate(run_dir: Path | str, step: Step = None, corpus_path: str | None = None) -> dict[str, Any]:
    """Evaluates the weights of `step` (default: the newest sealed) on every held-out window.

    Args:
        step: a sealed step, or "best": the one with the lowest validation loss in the ledger.
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
    model = open_run(run_dir).model(step)
    return judge(model, model.corpus(corpus_path), corpus_path)


def judge(model: TrainedModel, corpus: "Corpus", corpus_path: str | None = None) -> dict[str, Any]:
    """What `evaluate` returns, of a model and a text already opened."""
    from pipeline.corpus.uncertainty import mean_interval, standard_error
    from pipeline.ground.token_losses import window_losses

    config = model.run.config
    windows = corpus.held_out_windows(config.model.context)
    losses = window_losses(config, model.weights.params, windows)
    loss, interval = float(losses.mean(dtype="float64")), mean_interval(losses)
    low, high = (interval.low, interval.high) if interval else (math.nan, math.nan)
    bits = loss * (corpus.bits_per_nat or math.nan)
    in_bits = corpus.bits_per_byte(losses, windows)
    spread = mean_interval(in_bits) if in_bits is not None else None
    half = 0.5 * (spread.high - spread.low) if spread else math.nan
    figures = {
        "loss": loss,
        "standard_error": standard_error(losses),
        "bits_per_byte": bits,
        "unigram_loss": corpus.unigram_loss,
        "windows": len(losses),
        "loss_low": low,
        "loss_high": high,
        "bits_per_byte_low": bits - half,
        "bits_per_byte_high": bits + half,
        "perplexity": _exp(loss),
        "perplexity_low": _exp(low),
        "perplexity_high": _exp(high),
    }
    about = {
        "step": model.step,
        "tokens": model.step * config.tokens_per_step,
        "context": config.model.context,
        "precision": config.train.precision,
        "corpus": corpus_path or config.corpus.path or config.corpus.source,
        "damaged": model.weights.damaged,
    }
    return finite(figures) | about


def baselines(corpus: "Corpus", context: int) -> dict[str, float | None]:
    """What counting reaches on the same held-out windows, for scale: `unigram_loss` knows how often each token occurs,
    `fivegram_loss` the four tokens before it too [nats per token]; and the same in `..._bits_per_byte`."""
    from pipeline.ground.ngram import NGram

    losses = NGram(corpus.train, corpus.vocab_size).losses(corpus.held_out_windows(context))
    found = {"unigram": corpus.unigram_loss, "fivegram": float(losses.mean())}
    bits = corpus.bits_per_nat
    in_bits = {f"{name}_bits_per_byte": loss * bits if bits else None for name, loss in found.items()}
    return {f"{name}_loss": loss for name, loss in found.items()} | in_bits


def _steps(text: str) -> list[Step]:
    """`500,1000,best` -> [500, 1000, "best"]."""
    try:
        return [a_step(word) for word in text.split(",")]
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}, nor several, as 500,1000,best") from error


def _exp(loss: float) -> float:
    return math.exp(loss) if loss < 700 else math.inf


def _lines(result: dict[str, Any]) -> str:
    def row(name: str, key: str, unit: str, digits: int) -> str:
        if result[key] is None:
            return f"{name:<16}unknown"
        low, high = result[f"{key}_low"], result[f"{key}_high"]
        interval = "" if low is None or high is None else f"  [{low:.{digits}f}, {high:.{digits}f}]"
        return f"{name:<16}{result[key]:.{digits}f}{interval}  {unit}".rstrip()

    return "\n".join(
        [
            f"{'weights':<16}step {result['step']:,}, {result['tokens']:,} training tokens",
            row("loss", "loss", "nats per token", 4),
            row("bits per byte", "bits_per_byte", "", 4),
            row("perplexity", "perplexity", "", 2),
        ]
    )


def _scale(result: dict[str, Any], scale: dict[str, float | None]) -> str:
    def row(name: str, key: str) -> str:
        bits = scale[f"{key}_bits_per_byte"]
        return f"{name:<16}{scale[f'{key}_loss']:.4f}  nats per token" + (f", {bits:.4f} bits per byte" if bits else "")

    return "\n".join(
        [
            row("5-gram model", "fivegram"),
            row("unigram model", "unigram"),
            f"{'measured on':<16}{result['windows']:,} windows of {result['context']:,} tokens: {result['corpus']}",
            "in brackets: 95 % interval (few documents: nearer 90 %) for text of this kind, by means of stretches",
        ]
    )
