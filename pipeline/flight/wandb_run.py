"""Curves for Weights & Biases, kept in the run directory until somebody on the ground sends them: `wandb sync`."""

import os
import re

import xxhash

from pipeline.config import Config


class WandbRun:
    """An offline run of wandb under RUN/wandb. A resume is another part of the same run, by its directory.

    wandb takes steps in rising order only, and a resumed run computes some again; so `step` is a scalar like the
    others, and the axis of all of them. WANDB_MODE=online, set by whoever has a network, is heeded.
    """

    def __init__(self, config: Config):
        import wandb

        settings = wandb.Settings(
            mode=os.environ.get("WANDB_MODE", "offline"),  # type: ignore[arg-type]
            console="off",  # the display of a flight is no log
            silent=True,
            disable_git=True,
            disable_code=True,
            x_disable_stats=True,
        )
        name = re.sub(r"[^\w.-]", "-", config.directory.name)
        self._run = wandb.init(
            project="dayside",
            name=config.name,
            id=f"{name}-{xxhash.xxh32_hexdigest(bytes(config.directory.resolve()))}",
            resume="allow",
            dir=config.directory,
            config=config.model_dump(mode="json"),
            settings=settings,
        )
        self._run.define_metric("*", step_metric="step")

    def add(self, step: int, values: dict[str, float]) -> None:
        self._run.log({"step": step} | values)

    def close(self) -> None:
        self._run.finish()
