"""The configuration that a run was begun with: in config.yaml under a hash, and in every checkpoint under its seal.

So a flipped bit in config.yaml neither ends the run nor makes it another.
"""

from contextlib import suppress
from enum import Enum
from pathlib import Path

import xxhash
from pydantic import ValidationError

from pipeline.config import BadInput, Config, dump_yaml, load_file

CONFIG, CHECKPOINTS = "config.yaml", "checkpoints"
_HEAD, _HASH = "# Of a run. The last line is the hash of all others.\n", "# xxh3_128: "


class Found(Enum):
    """How config.yaml lies there."""

    WHOLE = "whole"
    DAMAGED = "damaged"
    LOST = "lost"
    UNHASHED = "unhashed"  # written by a version that knew no hash, or by hand


def record(config: Config) -> None:
    """Makes the directory of `config` this run's. Done once everything has been checked, so that a mistake can be
    mended."""
    from pipeline.checkpoint import durable

    text = _HEAD + dump_yaml(config)
    durable.update(config.directory / CONFIG, f"{text}{_HASH}{_digest(text.encode())}\n".encode())


def look(directory: Path) -> Found:
    """At the config.yaml of the run in `directory`."""
    path = directory / CONFIG
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Found.LOST
    except OSError:
        return Found.DAMAGED
    text, mark, digest = data.rpartition(_HASH.encode())
    if digest == f"{_digest(text)}\n".encode():
        return Found.WHOLE
    if not mark and _HEAD.encode() not in data:
        with suppress(BadInput):
            load_file(path)
            return Found.UNHASHED
    return Found.DAMAGED


def recorded(directory: Path) -> Config | None:
    """That of the run in `directory`, from where it is whole; None if it is so nowhere, or no run has begun there.

    Raises:
        BadInput: it is whole, and of a version with other keys.
    """
    if look(directory) in (Found.WHOLE, Found.UNHASHED):
        return load_file(directory / CONFIG)
    from pipeline.checkpoint import metas

    for meta in metas(directory / CHECKPOINTS):
        with suppress(KeyError, ValidationError):  # sealed by a version that left it out, or had other keys
            return Config(**meta["config"])
    return None


def begun_with(config: Config) -> Config | None:
    """That of the run that `config` names: as its own directory has it, or else as the second device does."""
    return recorded(config.directory) or (recorded(config.mirror) if config.mirror else None)


def _digest(data: bytes) -> str:
    return xxhash.xxh3_128_hexdigest(data)
