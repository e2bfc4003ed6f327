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
    try:
        data = (directory / CONFIG).read_bytes()
    except FileNotFoundError:
        return Found.LOST
    except OSError:
        return Found.DAMAGED
    text, mark, digest = data.rpartition(_HASH.encode())
    if digest == f"{_digest(text)}\n".encode():
        return Found.WHOLE
    return Found.DAMAGED if mark or _HEAD.encode() in data else Found.UNHASHED


def recorded(directory: Path) -> Config | None:
    """That of the run in `directory`, from where it is whole; None if it is so nowhere, or no run has begun there."""
    found = look(directory)
    if found is Found.WHOLE:
        return load_file(directory / CONFIG)
    from pipeline.checkpoint import metas

    for meta in metas(directory / CHECKPOINTS):
        with suppress(KeyError, ValidationError):  # sealed by a version that left it out, or had other keys
            return Config(**meta["config"])
    with suppress(BadInput):
        return load_file(directory / CONFIG) if found is Found.UNHASHED else None
    return None


def _digest(data: bytes) -> str:
    return xxhash.xxh3_128_hexdigest(data)
