"""A run directory: made, or found to be of the same run."""

import json
import os
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from pipeline.config import BadInput, Config, dump_yaml, load_file
from pipeline.flight.ledger import recall

# What may differ between two launches of one run: it moves or watches the work, and does not change what is computed.
FREE = (
    *("name", "run_dir", "corpus.path", "corpus.cache_dir", "checkpoint", "orbit", "satellite", "gpu", "telemetry"),
    *(
        "mission.policy",
        "mission.step_flops",
        "mission.harvest_error",
        "mission.restart_s",
        "mission.not_before_s",
        "train.chunk_steps",
        "train.device",
    ),
    *("train.log_every", "train.tracker", "train.replay_every", "train.max_skipped"),
    *("train.eval_every", "train.eval_batches"),
)
CONFIG, LEDGER = "config.yaml", "ledger.jsonl"


def open_directory(config: Config) -> Path:
    """The run directory of `config`: a new one, or one that holds the same run.

    Raises:
        BadInput: it belongs to another run, or cannot be written.
    """
    directory = config.directory
    if (directory / CONFIG).exists():
        _require_same(directory, config, load_file(directory / CONFIG))
    elif any((directory / "checkpoints").glob("[0-9]*")):
        raise BadInput(f"run_dir: {directory}: checkpoints, but no {CONFIG}; copy it back, or give another --run_dir")
    elif config.mirror:
        _require_same_mirror(config.mirror, config)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=directory):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise BadInput(f"run_dir: {directory}: cannot be written ({reason}); give a --run_dir that can") from error
    return directory


def record_config(config: Config) -> None:
    """Makes the directory this run's. Done once everything has been checked, so that a mistake can be mended."""
    write_atomically(config.directory / CONFIG, dump_yaml(config))


def share(config: Config) -> None:
    """Puts what a resume needs beside the copies on the second device, if it is there: should the first be lost."""
    if config.mirror and config.mirror.parent.is_dir():
        with suppress(OSError):  # of no use, or full: the store says so
            config.mirror.mkdir(exist_ok=True)
            for name in (CONFIG, "tokenizer.json", "plan.json"):
                ours, theirs = config.directory / name, config.mirror / name
                if ours.exists() and not (theirs.exists() and theirs.read_bytes() == ours.read_bytes()):
                    write_atomically(theirs, ours.read_text(encoding="utf-8"))


def write_atomically(path: Path, text: str) -> None:
    """The whole new file or the whole old one, whenever the power goes. What is there already needs no disk space."""
    if path.exists() and path.read_bytes() == text.encode():
        return
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _require_same(directory: Path, config: Config, saved: Config) -> None:
    ours, theirs = _flat(config.model_dump(mode="json")), _flat(saved.model_dump(mode="json"))
    # The budget may be changed until the cooldown that ends it is decided.
    known = recall(directory / LEDGER, "cooldown")
    free = FREE if known.found or known.damaged else (*FREE, "budget")
    changed = [key for key in ours if ours[key] != theirs.get(key) and not _under(key, free)]
    if changed:
        now = ", ".join(f"{key} {json.dumps(ours[key])} (was {json.dumps(theirs.get(key))})" for key in changed)
        raise BadInput(f"run_dir: {directory} holds another run: {now}; give the old values, or another --run_dir")


def _require_same_mirror(mirror: Path, config: Config) -> None:
    """A new run directory: the first launch, or the first device was lost. Only the second device can tell."""
    if not mirror.parent.is_dir():
        raise BadInput(
            f"checkpoint.mirror_dir: {mirror.parent} is not there, and {config.directory} is new: it may hold the only "
            "copies of this run; mount it, or leave the key out to start anew"
        )
    if (mirror / CONFIG).exists():
        _require_same(mirror, config, load_file(mirror / CONFIG))


def _under(key: str, sections: tuple[str, ...]) -> bool:
    return any(key == section or key.startswith(f"{section}.") for section in sections)


def _flat(tree: dict[str, Any], path: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{path}{key}.") if isinstance(value, dict) else {path + key: value}
    return flat
