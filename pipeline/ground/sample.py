"""Text from a trained model, written as it comes."""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tokenizers import Tokenizer

from pipeline.config import BadInput
from pipeline.config.arguments import within
from pipeline.flight.parts import Parts
from pipeline.ground.arguments import RunParser, say_passed_over, set_up_jax
from pipeline.ground.run_directory import RunDirectory, Step, Weights, open_run
from pipeline.ground.text_stream import TextStream
from pipeline.lm.generate import Sampling, generate

# A model may write any character; a terminal would obey some of them.
_CONTROLS = {code: "\ufffd" for code in [*range(32), *range(127, 160)] if chr(code) not in "\n\t"}


def main(arguments: Sequence[str]) -> int:
    """`train.py sample RUN`."""
    parser = RunParser("sample", "Continues one prompt or several with the model of a run.")
    parser.add_step()
    parser.add_argument(
        "--prompt", action="append", help="text to continue; may be given several times (default: a line break)"
    )
    parser.add_argument("--tokens", type=within(int, 1), default=200, help="tokens to write (default: 200)")
    parser.add_argument(
        "--temperature", type=within(float, 0), default=0.8, help="0: always the likeliest (default: 0.8)"
    )
    parser.add_argument("--top_k", type=within(int, 1), help="only the k likeliest tokens")
    parser.add_argument(
        "--top_p", type=within(float, 0, 1, above=True), help="only the likeliest that make up this share"
    )
    parser.add_argument(
        "--min_p", type=within(float, 0, 1, above=True), help="only those this share as likely as the likeliest"
    )
    parser.add_argument("--seed", type=within(int, 0, 2**31), default=0, help="of prompt i: seed + i (default: 0)")
    parser.add_json()
    given = parser.parse_args(arguments)
    parts = Parts()
    set_up_jax()
    sampling = Sampling(given.temperature, given.top_k, given.top_p, given.min_p)
    prompts = given.prompt or [default_prompt(open_run(given.run))]
    weights, pieces = sample(given.run, prompts, given.tokens, sampling, given.seed, given.step)
    say_passed_over(weights.damaged)
    parts.done("weights")
    if given.json:
        written = [next(pieces)]
        parts.done("first_text")
        texts = ["".join(row) for row in zip(*written, *pieces, strict=True)]
        about = [
            {"prompt": p, "text": t, "seed": given.seed + i}
            for i, (p, t) in enumerate(zip(prompts, texts, strict=True))
        ]
        print(json.dumps({"step": weights.step, "samples": about, "seconds": parts.seconds}))
    else:
        _print(prompts, pieces)
    return 0


def sample(
    run_dir: Path | str,
    prompts: Sequence[str],
    tokens: int,
    sampling: Sampling,
    seed: int = 0,
    step: Step = None,
) -> tuple[Weights, Iterator[list[str]]]:
    """The weights used, and the continuations as they come: each item has the next piece of text of every prompt.

    It computes in fp32 whatever the run trained in: the weights are fp32, and so is an export of them.

    Raises:
        BadInput: no run, step or tokenizer, or a prompt that is empty or has a character that the run never saw.
        RunFailed: the checkpoint is damaged.
    """
    from pipeline.corpus import encode

    run = open_run(run_dir)
    weights = run.weights(step)
    tokenizer = _tokenizer(run, weights.vocab_size)
    try:
        ids = [encode(tokenizer, prompt).tolist() for prompt in prompts]
    except UnicodeEncodeError as error:
        raise BadInput(f"--prompt: {error.object!r}: not text ({error.reason}); give UTF-8") from error
    if not all(ids):
        raise BadInput("--prompt: empty; give at least one character")
    streams = [TextStream(tokenizer) for _ in ids]

    def pieces() -> Iterator[list[str]]:
        for new in generate(run.config.model, weights.params, ids, tokens, sampling, seed):
            yield [stream.push(row) for stream, row in zip(streams, new, strict=True)]
        yield [stream.finish() for stream in streams]

    return weights, pieces()


def default_prompt(run: RunDirectory) -> str:
    """A line break where the run knows it, otherwise its first token."""
    from pipeline.corpus import encode

    tokenizer = _tokenizer(run)
    try:
        encode(tokenizer, "\n")
    except BadInput:
        return tokenizer.decode([0])
    return "\n"


def printable(text: str) -> str:
    """`text` without the characters that a terminal would obey, line breaks and tabs excepted."""
    return text.translate(_CONTROLS)


def _tokenizer(run: RunDirectory, vocab_size: int | None = None) -> Tokenizer:
    tokenizer = run.tokenizer(vocab_size)
    if tokenizer is None:
        raise BadInput(
            f"corpus.source: tokens: {run.path} has no tokenizer; copy the tokenizer.json of its tokens there"
        )
    return tokenizer


def _print(prompts: Sequence[str], pieces: Iterator[list[str]]) -> None:
    """The first text appears as it is written; those after it when it is complete."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
    _write(prompts[0])
    waiting = list(prompts)
    for piece in pieces:
        _write(piece[0])
        waiting = [text + more for text, more in zip(waiting, piece, strict=True)]
    print()
    for text in waiting[1:]:
        print("-" * 40)
        _write(text)
        print()


def _write(text: str) -> None:
    print(printable(text), end="", flush=True)
