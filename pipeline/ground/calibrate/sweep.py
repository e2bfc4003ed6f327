"""What `--sweep` names: the same training with another value of one key, or with another flag of XLA's."""

from collections.abc import Iterator
from typing import NamedTuple

from pydantic import ValidationError

from pipeline.config import BadInput, Config
from pipeline.ground.bench.changed import changed

KEYS = {
    "batch": "train.batch",
    "context": "model.context",
    "precision": "train.precision",
    "chunk_steps": "train.chunk_steps",
    "attention": "model.attention",
}
FLAG = "xla"
_BOOLEANS = {"true": "True", "false": "False"}  # as JAX hands them over
EXAMPLE = f"--sweep 'batch=8,64;{FLAG}=xla_gpu_enable_triton_gemm:true'"


class Variant(NamedTuple):
    config: Config
    xla: dict[str, str] | None = None  # flags of XLA's, for its step alone


def swept(config: Config, text: str | None) -> dict[str, Variant]:
    """`batch=8,64;xla=NAME:VALUE` -> {"batch 8": variant, "batch 64": …, "NAME VALUE": …}.

    Raises:
        BadInput: a name is not known, or a value is not one of its key.
    """
    found = {}
    for name, value in _pairs(text or ""):
        if name == FLAG:
            flag, _, setting = value.partition(":")
            if not flag.startswith("xla_") or not setting:
                raise BadInput(f"--sweep: {FLAG}={value}: not NAME:VALUE of a flag of XLA's; give {EXAMPLE}")
            found[f"{flag} {setting}"] = Variant(config, {flag: _BOOLEANS.get(setting, setting)})
            continue
        try:
            found[f"{name} {value}"] = Variant(changed(config, {KEYS[name]: int(value) if value.isdigit() else value}))
        except (ValidationError, ValueError) as error:
            raise BadInput(f"--sweep: {name}={value}: {str(error).splitlines()[-1].strip()}; another value") from error
    return found


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for part in filter(None, text.split(";")):
        name, _, values = part.partition("=")
        if (name not in KEYS and name != FLAG) or not values:
            raise BadInput(f"--sweep: {part}: not known; give {', '.join([*KEYS, FLAG])}, as {EXAMPLE}")
        for value in values.split(","):
            yield name, value
