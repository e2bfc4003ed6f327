"""What a launch is doing, seen from outside: from its ledger, its files and /proc."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

# In the order in which a launch goes through them; saving and evaluation come again and again.
PHASES = ("imports", "corpus", "restore", "compilation", "training", "saving", "evaluation", "closing")


def phase(
    process: int, run: Path, corpus: Path, at: Mapping[str, int], step: int, eval_every: int, last: int | None
) -> str:
    """The phase of a process that trains in `run`.

    Args:
        corpus: directory of the token caches that it uses.
        at: of each event that it has written in the ledger so far, the last step.
        step: the last one that it has shown.
        eval_every, last: steps between validations, and the last step of the run where it is known.
    """
    if "done" in at:
        return "closing"
    if "first_step" in at:
        if next((run / "checkpoints").glob("*.saving*"), None):
            return "saving"
        ended = last is not None and step >= last
        if step and (step % eval_every == 0 or ended) and at.get("validation") != step:
            return "evaluation"
        return "closing" if ended else "training"
    if "launch" in at or "resume" in at:
        return "compilation"
    files = _files(process)
    if str(run / "checkpoints" / ".lock") in files:
        return "restore"
    return "corpus" if f"{corpus}/" in files else "imports"


def _files(process: int) -> str:
    """The names of all files that are open or mapped; none once the process is gone."""
    found = []
    with suppress(OSError):
        found += [Path(f"/proc/{process}/maps").read_text()]
        for link in Path(f"/proc/{process}/fd").iterdir():
            found.append(str(link.readlink()))
    return "\n".join(found)
