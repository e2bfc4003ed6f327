"""A run directory: made, or found to be of the same run."""

import json
import os
from pathlib import Path
from typing import Any

from pipeline.config import BadInput, Config, dump_yaml, load_file

# What may differ between two launches of one run: it moves or watches the work, and does not change what is computed.
# The budget is free until the cooldown is decided; the loop sees to that.
FREE = (
    *("name", "run_dir", "corpus.path", "corpus.cache_dir", "checkpoint", "orbit", "satellite", "gpu", "mission"),
    *("budget", "train.chunk_steps", "train.device", "train.log_every", "train.max_skipped", "train.eval"),
)


def open_directory(config: Config) -> Path:
    """The run directory of `config`, with `config.yaml` in it.

    Raises:
        BadInput: it belongs to another run, or cannot be written.
    """
    directory = config.directory
    saved = directory / "config.yaml"
    if saved.exists():
        _require_same(directory, config, load_file(saved))
    elif (directory / "ledger.jsonl").exists() or (directory / "checkpoints").exists():
        raise BadInput(f"run_dir: {directory}: has checkpoints but no config.yaml; copy it back, or give another --run_dir")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        write_atomically(saved, dump_yaml(config))
    except OSError as error:
        raise BadInput(f"run_dir: {directory}: cannot be written ({error.strerror}); give a --run_dir that can") from error
    return directory


def write_atomically(path: Path, text: str) -> None:
    """The whole new file or the whole old one, whenever the power goes."""
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
    changed = [key for key in ours if ours[key] != theirs.get(key) and not key.startswith(FREE)]
    if changed:
        now = ", ".join(f"{key} {json.dumps(ours[key])} (was {json.dumps(theirs.get(key))})" for key in changed)
        raise BadInput(f"run_dir: {directory} holds another run: {now}; give the old values, or another --run_dir")


def _flat(tree: dict[str, Any], path: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{path}{key}.") if isinstance(value, dict) else {path + key: value}
    return flat
