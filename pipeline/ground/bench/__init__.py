"""`train.py bench NAME`: measures one promise of Dayside on this machine, and prints the figures that it rests on.

Without a name, `bench --config FILE` is `bench speed`, and `bench --peer nanogpt --peer-path DIR` is `bench peer`.
"""

import importlib
from collections.abc import Sequence

from pipeline.config import BadInput

# Each module has `main(arguments) -> exit code`, and prints JSON under --json.
BENCHES: dict[str, tuple[str, str]] = {
    "speed": ("pipeline.ground.bench.speed", "a run's tokens/s, share of the peak, start, saves, energy and memory"),
    "peer": ("pipeline.ground.bench.peer", "the same learning beside a checkout of nanoGPT, by turns"),
    "recipe": ("pipeline.ground.bench.recipe", "what each part of the recipe is worth: loss with and without it"),
    "scaling": ("pipeline.ground.bench.scaling", "time and memory of 1 M to 100 M parameters against the formulas"),
    "gpu": ("pipeline.ground.bench.gpu", "all that is to be shown on a GPU, in one command of 25 minutes"),
    "planner": (
        "pipeline.ground.bench.planner",
        "orbit, optimal plan and scheduler: speed, percent of the bound, safety",
    ),
    "checkpoint": ("pipeline.ground.bench.checkpoint", "what saving costs, beside plain Orbax; verify and restore"),
    "checkpoint-policy": ("pipeline.ground.bench.checkpoint_policy", "bytes, goodput and lost work of save policies"),
    "sample": ("pipeline.ground.bench.sample", "tokens/s of sampling, beside nanoGPT's, and how soon text appears"),
}


def main(arguments: Sequence[str]) -> int:
    """Runs the bench that the first argument names.

    Raises:
        BadInput: there is no such bench, or one of its arguments is wrong.
    """
    about = "\n".join(f"  {name:<20}{what}" for name, (_, what) in BENCHES.items())
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"{__doc__}\n\n{about}")
        return 0
    if arguments[0].startswith("--"):
        wants_peer = any(word.partition("=")[0] == "--peer" for word in arguments)
        arguments = ["peer" if wants_peer else "speed", *arguments]
    if arguments[0] not in BENCHES:
        raise BadInput(f"bench: {arguments[0]}: not known; one of {', '.join(BENCHES)}")
    return importlib.import_module(BENCHES[arguments[0]][0]).main(arguments[1:])
