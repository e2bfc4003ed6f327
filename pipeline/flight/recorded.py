"""What a run was begun with: config.yaml and tokenizer.json, each under a hash that is known besides.

config.yaml ends in its own, and every checkpoint holds the configuration and the hash of the tokenizer under its seal.
So a flipped bit in either neither ends the run nor makes it another.
"""

from collections.abc import Sequence
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError
from xxhash import xxh3_128_hexdigest

from pipeline.config import BadInput, Config, dump_yaml, load_file
from pipeline.config.load import of_another_version, understood

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CONFIG, TOKENIZER, CHECKPOINTS, LEDGER = "config.yaml", "tokenizer.json", "checkpoints", "ledger.jsonl"
ANEW = ("checkpoint", "satellite", "gpu", "telemetry")  # sections of which each launch may give its own
_HEAD, _HASH = "# Of a run. The last line is the hash of all others.\n", "# xxh3_128: "


class Found(Enum):
    """How a file lies there."""

    WHOLE = "whole"
    DAMAGED = "damaged"
    LOST = "lost"
    UNHASHED = "unhashed"  # by a version that knew no hash, or by hand


def record(config: Config) -> None:
    """Makes the directory of `config` this run's. Done once everything has been checked, so that a mistake can be
    mended."""
    from pipeline.checkpoint import durable

    text = _HEAD + dump_yaml(config)
    durable.update(config.directory / CONFIG, f"{text}{_HASH}{xxh3_128_hexdigest(text.encode())}\n".encode())


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
    if digest == f"{xxh3_128_hexdigest(text)}\n".encode():
        return Found.WHOLE
    if not mark and _HEAD.encode() not in data:
        with suppress(BadInput):
            load_file(path)
            return Found.UNHASHED
    return Found.DAMAGED


def recorded(directory: Path, now: Config | None = None) -> Config | None:
    """That of the run in `directory`, from where it is whole; None if it is so nowhere, or no run has begun there.

    `now`: what a launch was given. Its satellite and such stand for those of the run where this version, which has
    other rules than the one that began it, would refuse them.

    Raises:
        BadInput: it is whole, and of a version with other keys or rules.
    """
    instead = {name: getattr(now, name) for name in ANEW} if now else None
    if look(directory) in (Found.WHOLE, Found.UNHASHED):
        return load_file(directory / CONFIG, instead)
    from pipeline.checkpoint import metas

    other: ValidationError | None = None
    for meta in metas(directory / CHECKPOINTS):
        try:
            return understood(meta["config"], instead)
        except (KeyError, TypeError):  # sealed by a version that left it out, or forged
            continue
        except ValidationError as error:
            other = other or error
    if other:
        raise BadInput(f"{directory}: the configuration in its checkpoints is {of_another_version(other)}")
    return None


def begun_with(config: Config) -> Config | None:
    """That of the run that `config` names: as its own directory has it, or else as the second device does."""
    return recorded(config.directory, config) or (recorded(config.mirror, config) if config.mirror else None)


def record_tokenizer(config: Config, tokenizer: "Tokenizer | None") -> str | None:
    """Puts tokenizer.json there, unless it lies there as it was sealed; its hash, for the checkpoints to come.

    One that was given must be what was sealed. Where it is so nowhere, whatever lies there is left alone, and the hash
    stays. One made of the text is right, even if other software writes it otherwise.
    """
    from pipeline.checkpoint import durable

    path, sealed = config.directory / TOKENIZER, sealed_tokenizer(config.directory)
    if tokenizer is None or lies(path, sealed) is Found.WHOLE:
        return sealed
    written = _written(tokenizer)
    digest = xxh3_128_hexdigest(written)
    if sealed and config.init_from and digest != sealed:
        return sealed
    durable.update(path, written)
    return digest


def look_at_tokenizer(directory: Path) -> Found:
    """At the tokenizer.json of the run in `directory`."""
    sealed = sealed_tokenizer(directory)
    return Found.UNHASHED if sealed is None else lies(directory / TOKENIZER, sealed)


def sealed_tokenizer(directory: Path) -> str | None:
    """The hash of tokenizer.json that the newest checkpoint holds; None if none holds one."""
    from pipeline.checkpoint import metas

    return next((meta["tokenizer"] for meta in metas(directory / CHECKPOINTS) if meta.get("tokenizer")), None)


def whole_tokenizers(places: Sequence[Path], cache_dir: Path) -> list[Path]:
    """Those of `places`, run and second device, and of the cache, where it lies as one of `places` sealed it."""
    sealed = _sealed_at(places)
    return [place for place in (*places, *cache_dir.glob("*")) if lies(place / TOKENIZER, sealed) is Found.WHOLE]


def was_sealed(tokenizer: "Tokenizer", places: Sequence[Path]) -> bool:
    """Whether it is the one of a run, by the checkpoints of one of `places`."""
    return xxh3_128_hexdigest(_written(tokenizer)) == _sealed_at(places)


def _sealed_at(places: Sequence[Path]) -> str:
    return next(filter(None, map(sealed_tokenizer, places)), "")


def _written(tokenizer: "Tokenizer") -> bytes:
    return tokenizer.to_str(pretty=True).encode()


def lies(path: Path, digest: str | None) -> Found:
    """How the file lies there whose hash is `digest`."""
    try:
        return Found.WHOLE if xxh3_128_hexdigest(path.read_bytes()) == digest else Found.DAMAGED
    except FileNotFoundError:
        return Found.LOST
    except OSError:
        return Found.DAMAGED
