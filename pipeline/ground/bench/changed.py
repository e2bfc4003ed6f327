"""A configuration with other values, for what is measured beside it."""

from typing import Any

from pipeline.config import Config


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
