"""`train.py` as a person starts it: in a process of its own."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from xxhash import xxh3_128_hexdigest

from pipeline.checkpoint import arrays, layout, restore
from pipeline.flight.programs import LIST

ROOT = Path(__file__).parents[2]
SHELF = ROOT / ".pytest_cache" / "programs"  # what launches have compiled, for launches that test other things


def start(*arguments: object, cold: bool = False) -> subprocess.Popen[str]:
    """`cold`: with nothing compiled yet, and no directory made for the run."""
    if (run := run_of(arguments)) and not cold:
        lend(run)
    command = [sys.executable, str(ROOT / "train.py"), *map(str, arguments)]
    environment = {**os.environ, "TERM": "dumb"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def finish(*arguments: object, cold: bool = False) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    process = start(*arguments, cold=cold)
    out, err = process.communicate(timeout=300)
    if run := run_of(arguments):
        keep(run)
    return process.returncode, out, err


def wait_for(event: str, run: Path, process: subprocess.Popen[str]) -> None:
    """Until a launch has written it down."""
    while not (run / "ledger.jsonl").exists() or not ledger(run, event):
        assert process.poll() is None
        time.sleep(0.05)


def run_of(arguments: tuple[object, ...]) -> Path | None:
    """The run directory that a command names."""
    return Path(str(arguments[arguments.index("--run_dir") + 1])) if "--run_dir" in arguments else None


def lend(run: Path) -> None:
    """Gives a run that is not begun yet what others have compiled, as if it had run before."""
    if not SHELF.is_dir() or (run / "cache").exists():
        return
    cache = run / "cache" / "xla"
    cache.mkdir(parents=True)
    programs = {path.name: path.read_bytes() for path in SHELF.glob("*-cache")}
    for name, program in programs.items():
        (cache / name).write_bytes(program)
    (cache / LIST).write_text(json.dumps({name: xxh3_128_hexdigest(program) for name, program in programs.items()}))


def keep(run: Path) -> None:
    """Puts what a run has compiled on the shelf. Both workers of the suite may, at once."""
    cache = run / "cache" / "xla"
    if not (cache / LIST).exists():
        return
    SHELF.mkdir(parents=True, exist_ok=True)
    for name, digest in json.loads((cache / LIST).read_bytes()).items():
        program = (cache / name).read_bytes() if (cache / name).is_file() else b""
        if xxh3_128_hexdigest(program) == digest and not (SHELF / name).exists():
            draft = SHELF / f"{name}.{os.getpid()}"
            draft.write_bytes(program)
            draft.replace(SHELF / name)


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
