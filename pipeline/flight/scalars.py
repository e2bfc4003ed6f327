"""Training curves for TensorBoard."""

from pathlib import Path


class Scalars:
    """Event files under `directory`. A resume drops the points of steps that will be computed again."""

    def __init__(self, directory: Path, resume_step: int):
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(directory), purge_step=resume_step or None, flush_secs=10)

    def add(self, step: int, values: dict[str, float]) -> None:
        for tag, value in values.items():
            self._writer.add_scalar(tag, value, step)

    def close(self) -> None:
        self._writer.close()
