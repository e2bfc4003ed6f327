"""From the launch of `train.py run` to its first step, by part: real launches, as a person starts them."""

import os
import signal
import time
from pathlib import Path
from typing import Any

from pipeline.config import Config, RunFailed, dump_yaml
from pipeline.corpus.cache import Cache
from pipeline.corpus.download import tiny_shakespeare
from pipeline.flight import child
from pipeline.flight.ledger import parse
from pipeline.ground.bench.spread import spread
from pipeline.ground.bench.worker import on_the_ground

KINDS = {
    "cold": "text not tokenised, nothing compiled",
    "new run": "text tokenised, nothing compiled",
    "warm": "an interrupted run resumes",
}
PATIENCE_S = 600.0


def measure(config: Config, folder: Path, repeats: int) -> dict[str, Any]:
    """For each kind the spread of the total, from the start of the process on, and of each part [s]."""
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    config = on_the_ground(config)
    corpus = config.corpus
    if corpus.source == "tiny-shakespeare" and corpus.path is None:  # nothing is downloaded for a measurement
        corpus = corpus.model_copy(update={"path": str(tiny_shakespeare(Cache(corpus.cache_dir)).absolute())})
    for repeat in range(repeats):
        cache = corpus.model_copy(update={"cache_dir": folder / f"cache-{repeat}"})
        for kind in KINDS:
            run_dir = folder / f"{'cold' if kind == 'cold' else 'run'}-{repeat}"
            found[kind].append(launch(config.model_copy(update={"corpus": cache, "run_dir": run_dir}), folder))
    return {
        kind: {part: spread([one.get(part, 0.0) for one in launches]) for part in launches[-1]}
        for kind, launches in found.items()
    }


def launch(config: Config, folder: Path) -> dict[str, float]:
    """Seconds of each part of one launch up to its first step, and the processor time meanwhile; it is then asked to
    stop, and seals.

    Raises:
        RunFailed: it ended before its first step, or takes for ever.
    """
    written, log, ledger = folder / "start.yaml", folder / "start.log", config.directory / "ledger.jsonl"
    written.write_text(dump_yaml(config))
    read = ledger.stat().st_size if ledger.exists() else 0
    until_s = time.monotonic() + PATIENCE_S
    with log.open("wb") as errors:
        process = child.train(["--config", str(written), "--json"], errors, os.environ)
    try:
        used_s = 0.0
        while (parts := _first_step(ledger, read)) is None:
            used_s = _processor_s(process.pid) or used_s
            if process.poll() is not None or time.monotonic() > until_s:
                said = log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
                raise RunFailed(f"train.py run came to no first step: {said[-1][:300]}")
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60.0)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    return parts | {"processor": round(used_s, 2)}


def _processor_s(pid: int) -> float | None:
    """All the processor time that a process has used [s]: what its start takes however busy the machine is."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _first_step(ledger: Path, read: int) -> dict[str, float] | None:
    """What the ledger says of the first step in what was written after its first `read` bytes."""
    try:
        new = ledger.read_bytes()[read:]
    except OSError:
        return None
    for line in new.splitlines():
        event = parse(line.decode(errors="replace"))
        if event and event["event"] == "first_step":
            return event["seconds"]
    return None
