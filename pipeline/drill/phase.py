"""What a launch is doing, seen from outside: from its ledger, its files and /proc."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

# In the order in which a launch goes through them; saving and evaluation come again and again.
PHASES = ("imports", "corpus", "restore", "compilation", "training", "saving", "evaluation", "closing")


def phase(
    process: int, run: Path, corpus: Path, events: Sequence[dict[str, Any]], eval_every: int, last: int | None
) -> str:
    """The phase of a process that trains in `run`.

    Args:
        corpus: directory of the token caches that it uses.
        events: what it has written in the ledger so far.
        eval_every, last: steps between validations, and the last step of the run where it is known.
    """
    at = {event["event"]: event["step"] for event in events}
    if "done" in at:
        return "closing"
    if "first_step" in at:
        if next((run / "checkpoints").glob("*.saving*"), None):
            return "saving"
        step = events[-1]["step"]
        ended = last is not None and step >= last
        if step and (step % eval_every == 0 or ended) and at.get("validation") != step:
            return "evaluation"
        return "closing" if ended else "training"
    if "launch" in at or "resume" in at:
        return "compilation"
    files = _files(process)
    if str(run / "checkpoints" / ".lock") in files:
        return "restore"
    return "corpus" if any(name.startswith(f"{corpus}/") for name in files) else "imports"


def _files(process: int) -> set[str]:
    """Files that are open or mapped; none once the process is gone."""
    found = set()
    try:
        for link in Path(f"/proc/{process}/fd").iterdir():
            found.add(str(link.readlink()))
        for line in Path(f"/proc/{process}/maps").read_text().splitlines():
            found.add(line[73:])
    except OSError:
        pass
    return found
