"""Text from a trained model, written as it comes."""

import json
import sys
from collections.abc import Iterator, Sequence

from pipeline.config import BadInput
from pipeline.config.arguments import within
from pipeline.flight.parts import Parts
from pipeline.ground.arguments import RunParser, say_passed_over, set_up_jax
from pipeline.ground.run_directory import RunDirectory, open_run
from pipeline.lm.generate import Sampling

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
    run = open_run(given.run)
    prompts = given.prompt or [default_prompt(run)]
    model = run.model(given.step)
    pieces = model.stream(prompts, given.tokens, sampling, given.seed)
    say_passed_over(model.weights.damaged)
    parts.done("weights")
    if given.json:
        written = [next(pieces)]
        parts.done("first_text")
        texts = ["".join(row) for row in zip(*written, *pieces, strict=True)]
        about = [
            {"prompt": p, "text": t, "seed": given.seed + i}
            for i, (p, t) in enumerate(zip(prompts, texts, strict=True))
        ]
        print(json.dumps({"step": model.step, "samples": about, "seconds": parts.seconds}))
    else:
        _print(prompts, pieces)
    return 0


def default_prompt(run: RunDirectory) -> str:
    """A line break where the run knows it, otherwise its first token."""
    from pipeline.corpus import encode

    tokenizer = run.require_tokenizer()
    try:
        encode(tokenizer, "\n")
    except BadInput:
        return tokenizer.decode([0])
    return "\n"


def printable(text: str) -> str:
    """`text` without the characters that a terminal would obey, line breaks and tabs excepted."""
    return text.translate(_CONTROLS)


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
