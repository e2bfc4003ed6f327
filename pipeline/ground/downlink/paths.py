"""Where what a pack holds lies in a run directory."""

from pathlib import PurePosixPath

from pipeline.flight.recorded import LEDGER
from pipeline.ground.downlink import manifest

_FILES = {manifest.NAME, LEDGER, "config.yaml", "plan.json", "tokenizer.json"}
_FOLDERS = ("checkpoints", "weights")  # whose folders are of use whole


def is_packed(path: str) -> bool:
    """Whether `pack` sends such a file. Of others some would be believed: what lies in cache/ is run as it is."""
    folder = folder_of(path)
    return path in _FILES or path.startswith("tensorboard/") or (folder is not None and _is_step(folder))


def folder_of(path: str) -> str | None:
    """checkpoints/500 of checkpoints/500/state/x."""
    parts = path.split("/")
    return "/".join(parts[:2]) if len(parts) > 2 and parts[0] in _FOLDERS else None


def _is_step(folder: str) -> bool:
    """Whether it is that of a step: checkpoints/07 is not, and would pass for checkpoints/7."""
    step = PurePosixPath(folder).name
    return step.isdecimal() and str(int(step)) == step


def is_sealed(folder: str) -> bool:
    return folder.startswith("checkpoints/") and _is_step(folder)
