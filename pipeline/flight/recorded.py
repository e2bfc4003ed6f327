"""The configuration that a run was begun with: in config.yaml under its hash, and in every checkpoint under its seal.

So a flipped bit in the one file that every launch reads neither stops the run for good nor makes it another.
"""

from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from pipeline.checkpoint import durable, metas, seal
from pipeline.config import BadInput, Config, dump_yaml, load_file

CONFIG, CHECKPOINTS = "config.yaml", "checkpoints"
_HASH = "# xxh3_128 of the lines above: "


def record(config: Config) -> None:
    """Makes the directory of `config` this run's. Done once everything has been checked, so that a mistake can be
    mended."""
    text = dump_yaml(config)
    durable.update(config.directory / CONFIG, f"{text}{_HASH}{seal.digest(text.encode())}\n".encode())


def is_whole(directory: Path) -> bool:
    """Whether config.yaml is there, as it was written."""
    try:
        text, _, digest = (directory / CONFIG).read_bytes().rpartition(_HASH.encode())
    except OSError:
        return False
    return digest == f"{seal.digest(text)}\n".encode()


def recorded(directory: Path) -> Config | None:
    """That of the run in `directory`, from where it is whole; None if it is so nowhere, or no run has begun there."""
    if is_whole(directory):
        return load_file(directory / CONFIG)
    for meta in metas(directory / CHECKPOINTS):
        with suppress(KeyError, ValidationError):  # sealed by a version that left it out, or had other keys
            return Config(**meta["config"])
    with suppress(BadInput):
        return load_file(directory / CONFIG)  # of a run that began before there were hashes
    return None
