"""Dayside's one command. `train.py --config FILE` trains, or resumes; `train.py VERB --help` explains each verb."""

import importlib
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from io import TextIOWrapper
from types import FrameType
from typing import Any, NoReturn

# 75 is EX_TEMPFAIL of sysexits.h: start the same command again. 130 is what a shell reports for Ctrl-C.
DONE, FAILED, BAD_INPUT, RESUMABLE, INTERRUPTED = 0, 1, 2, 75, 130
STOPS = signal.SIGTERM, signal.SIGHUP, signal.SIGPWR

VERBS = {
    "run": ("train", "train, or resume: the same line both times"),
    "plan": ("pipeline.ground.plan", "what an orbit buys before launch: forecast, policies, bound"),
    "evaluate": ("pipeline.ground.evaluate", "loss, bits per byte and perplexity on held-out text"),
    "report": ("pipeline.ground.report", "one self-contained HTML page about a run; --follow serves it live"),
    "sample": ("pipeline.ground.sample", "text from the trained model"),
    "verify": ("pipeline.ground.verify", "check every seal of a run"),
    "export": ("pipeline.ground.export", "safetensors for transformers, vLLM and llama.cpp"),
    "downlink": ("pipeline.ground.downlink", "brings a run down through the passes of a ground station"),
    "drill": ("pipeline.drill.command", "breaks a run on purpose, many times, and proves that nothing was lost"),
    "calibrate": ("pipeline.ground.calibrate", "what this GPU computes and draws under load: a measured curve"),
    "bench": ("pipeline.ground.bench", "measures one promise on this machine"),
}


def main(arguments: Sequence[str]) -> int:
    """Runs one verb and returns the exit code: 0 done, 75 stopped and resumable, 2 bad input, 1 failed."""
    from pipeline.config import BadInput, RunFailed

    words = [word for word in arguments if word != "--debug"] or ["--help"]
    verb = words[0] if words[0] in VERBS else "run"
    try:
        try:
            if words[0] in ("-h", "--help"):
                print(f"{__doc__}\n\n" + "\n".join(f"  {verb:<10}{about}" for verb, (_, about) in VERBS.items()))
                print("\n`train.py run --help` lists every key of a run; --json: one JSON object; --debug: tracebacks")
                return DONE
            return _entry(verb)(words[1:] if words[0] in VERBS else words)
        finally:
            if sys.stdout:
                sys.stdout.flush()  # what fails here would be a traceback at exit
    except (BadInput, RunFailed) as error:
        if "--debug" in arguments:
            raise
        _say(f"train.py {verb}: {error}")
        return BAD_INPUT if isinstance(error, BadInput) else FAILED
    except BrokenPipeError:
        _silence()
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        if "--debug" in arguments:
            raise
        reason = " ".join(str(error).split())[:500]
        _say(f"train.py {verb}: {type(error).__name__}: {reason} (--debug shows where)")
        return FAILED


def run(arguments: Sequence[str]) -> int:
    """`train.py run`: the training itself, then the closing table."""
    from pipeline.config import BadInput, load
    from pipeline.flight.run import Outcome, fly

    try:
        if arguments and not arguments[0].startswith("-"):
            raise BadInput(f"verb: {arguments[0]}: not known; one of {', '.join(VERBS)}")
        config = load([word for word in arguments if word != "--json"])
        outcome, totals = fly(config, quiet="--json" in arguments)
    finally:
        _hand_on(signal.SIG_IGN, *STOPS)  # how it ended stands, and Python takes a while to close
    try:
        if "--json" in arguments:
            print(json.dumps({"outcome": outcome.value, "run_dir": str(config.directory)} | totals), flush=True)
        elif outcome is Outcome.DONE:
            from pipeline.ground.summary import show

            show(config.directory)
        else:
            _say("stopped; the same command resumes")
    except (Exception, SystemExit) as error:  # it is done, whatever of it can be shown, and whoever reads of it
        if not isinstance(error, BrokenPipeError | SystemExit):  # rich exits where nobody does
            _say(f"train.py run: {error}")
        if isinstance(error, OSError | SystemExit):
            _silence()
    return DONE if outcome is Outcome.DONE else RESUMABLE


def _say(line: str) -> None:
    """On standard error, if anybody reads it: the exit code says the same."""
    with suppress(OSError):
        print(line, file=sys.stderr)


def _silence() -> None:
    """Nobody reads the output, or its disk is full. Python would complain once more when it flushes at exit."""
    with suppress(OSError, AttributeError):  # that of a notebook has no descriptor; there may be none
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _entry(verb: str) -> Callable[[Sequence[str]], int]:
    module, _ = VERBS[verb]
    if verb == "run":
        return run
    entry = importlib.import_module(module).main
    _hand_on(signal.default_int_handler, signal.SIGINT)  # it may have something to clear up
    _hand_on(signal.SIG_DFL, *STOPS)
    return entry


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    """While everything is imported there is nothing to save, and an exception may be lost in whatever is loading."""
    os._exit(INTERRUPTED if number == signal.SIGINT else RESUMABLE)


def _hand_on(handler: Callable[[int, FrameType | None], Any] | signal.Handlers, *numbers: signal.Signals) -> None:
    """Gives `handler` what `_leave` has; what was ignored from the start stays so, and so does a caller's own."""
    for number in numbers:
        if signal.getsignal(number) is _leave:
            signal.signal(number, handler)


if __name__ == "__main__":
    for stop in (signal.SIGINT, *STOPS):
        if signal.getsignal(stop) != signal.SIG_IGN:
            signal.signal(stop, _leave)  # until the flight's notices take it over
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as on standard error: tables have signs beyond ASCII
    sys.exit(main(sys.argv[1:]))
