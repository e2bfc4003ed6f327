"""`train.py` as a person starts it: in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.checkpoint import arrays, layout, restore

ROOT = Path(__file__).parents[2]


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, str(ROOT / "train.py"), *map(str, arguments)]
    environment = {**os.environ, "TERM": "dumb"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def finish(*arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    process = start(*arguments)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def ledger(run: Path, event: str | None = None) -> list[dict[str, Any]]:
    # The last line may be half written: the process is at work.
    whole = [line for line in (run / "ledger.jsonl").read_text().splitlines(keepends=True) if line.endswith("}\n")]
    lines = [json.loads(line) for line in whole]
    return [line for line in lines if event in (None, line["event"])]


def final_bits(run: Path) -> dict[str, Any]:
    """Every array of the newest checkpoint as bytes, and what it says of data position and schedule."""
    directory = run / "checkpoints"
    step = layout.steps(directory)[-1]
    here = layout.path(directory, step)
    sealed, problems = restore.seal.inspect(here, step)
    assert sealed is not None
    assert not problems
    found = arrays.read(here, sealed.leaves)
    progress = json.loads((here / restore.META).read_bytes())["progress"]
    kept = {key: progress[key] for key in ("step", "sequences", "cooldown")}
    return kept | {name: np.asarray(array).tobytes() for name, array in found.items()}
