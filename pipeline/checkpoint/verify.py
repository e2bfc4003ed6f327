"""Whether the checkpoints of a run are still what was sealed."""

from pathlib import Path

from pipeline.checkpoint import layout, seal
from pipeline.config import BadInput


def verify(run_dir: Path) -> list[tuple[int, list[str]]]:
    """Checks every file of every checkpoint of a run against its SEAL, on the medium and not in the page cache.

    Returns (step, problems) oldest first; no problems means bit for bit what was sealed.

    Raises:
        BadInput: `run_dir` is no run directory, cannot be read, or was sealed by another version.
    """
    directory = run_dir / "checkpoints"
    if not directory.is_dir():
        raise BadInput(f"{run_dir}: holds no checkpoints/; name the directory of a run")
    checked = []
    try:
        for step in layout.steps(directory):
            path = layout.path(directory, step)
            problems = seal.inspect(path, step, cold=True)[1]
            if not problems or path.exists():  # else a run at work has moved it while it was read
                checked.append((step, problems))
    except seal.OtherVersion as error:
        raise BadInput(f"{error.filename}: {error.strerror}; use that version") from error
    except OSError as error:
        raise BadInput(f"{error.filename or directory}: {error.strerror}; make it readable") from error
    return checked
