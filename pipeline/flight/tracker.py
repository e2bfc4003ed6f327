"""Curves for whoever watches a training: what the ledger is told, told on as scalars in groups."""

import importlib.util
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol

from pipeline.config import BadInput, Config
from pipeline.flight.scalars import Scalars

# Event of the ledger -> the group of its scalars, and which of its fields they are.
GROUPS = {
    "step": ("train", ("loss", "grad_norm", "rate", "tokens_per_s")),
    "validation": ("validation", ("loss", "bits_per_byte")),
    "telemetry": ("mission", ("charge", "charge_wh", "temperature_c", "sunlit", "orbit", "train_wh")),
    "resume": ("mission", ("lost_steps",)),
    "sealed": ("checkpoint", ("seconds", "blocking_s", "bytes")),
}


class Backend(Protocol):
    """Where scalars go."""

    def add(self, step: int, values: dict[str, float]) -> None: ...

    def close(self) -> None: ...


class Tracker:
    """Hears every line of the ledger and passes its scalars on; without a backend it passes nothing on.

    A backend that fails is left, and `lost` is told why, once: what only watches ends no run.
    """

    def __init__(self, make: Callable[[], Backend | None], lost: Callable[[str], None]):
        self._backend: Backend | None = None
        self._lost = lost
        with self._watching():
            self._backend = make()

    def hear(self, line: dict[str, Any]) -> None:
        if self._backend is None or line["event"] not in GROUPS:
            return
        group, names = GROUPS[line["event"]]
        values = {f"{group}/{name}": float(line[name]) for name in names if _is_number(line.get(name))}
        with self._watching():
            self._backend.add(int(line.get("at", line["step"])), values)

    def close(self) -> None:
        """From here on nothing is passed on: the last save may be reported after this."""
        backend, self._backend = self._backend, None
        if backend:
            with self._watching():
                backend.close()

    @contextmanager
    def _watching(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # those of wandb are of many kinds
            backend, self._backend = self._backend, None
            if backend:
                with suppress(Exception):
                    backend.close()
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            self._lost(f"{reason}; this launch goes on without curves")


def check(config: Config) -> None:
    """Whether the tracker that was asked for can be had, before anything is computed.

    Raises:
        BadInput: it is not installed.
    """
    if config.train.tracker == "wandb" and importlib.util.find_spec("wandb") is None:
        raise BadInput("train.tracker: wandb: not installed; `pip install '.[wandb]'`, or give another tracker")


def make_tracker(config: Config, resume_step: int, lost: Callable[[str], None]) -> Tracker:
    """The tracker of a run that goes on at `resume_step`. It writes into the run directory and calls nobody."""

    def backend() -> Backend | None:
        if config.train.tracker == "none":
            return None
        if config.train.tracker == "wandb":
            from pipeline.flight.wandb_run import WandbRun

            return WandbRun(config)
        return Scalars(config.directory / "tensorboard", resume_step)

    return Tracker(backend, lost)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
