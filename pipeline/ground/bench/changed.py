"""A configuration with other values, for what is measured beside it."""

from collections.abc import Sequence
from typing import Any

from pipeline.config import Config, load, shipped


def changed(config: Config, keys: dict[str, Any]) -> Config:
    """`config` with other values under dotted keys, validated again; what is given as None follows from the rest.

    Raises:
        pydantic.ValidationError: a value is not one of its key.
    """
    values = config.model_dump()
    for key, value in keys.items():
        *sections, last = key.split(".")
        inside = values
        for section in sections:
            inside = inside[section]
        inside[last] = value
    return Config(**values)


def given(arguments: Sequence[str], prog: str) -> Config:
    """The configuration of a command line; where it names none, that of Shakespeare for a CPU.

    Raises:
        BadInput: a key or a file is wrong.
    """
    named = any(word.partition("=")[0] == "--config" for word in arguments)
    default = [] if named else ["--config", str(shipped.CONFIGS / "shakespeare-cpu.yaml")]
    return load([*default, *arguments], prog=prog)
