"""Small run directories to bring down, and what their chunks are."""

import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.config import Config, dump_yaml
from pipeline.flight.ledger import Ledger


@pytest.fixture(scope="session")
def quick_dir() -> Iterator[Path]:
    """In memory where that can be had: what is asked of a thousand patterns is not how fast a disk flushes."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as path:
        yield Path(path)


def write_ledger(run: Path, steps: range, back_s: float = 0.0) -> None:
    (run / "ledger.jsonl").touch()
    ledger = Ledger(run / "ledger.jsonl")
    for step in steps:
        ledger.position = lambda step=step: (10.0 * step - back_s, step)
        ledger.append("step", at=step, loss=random.Random(step).random())
    ledger.close()


@pytest.fixture(scope="session")
def make_bare_run() -> Callable[[Path], Path]:
    """A run that was never saved: ledger, configuration, plan and an event file, and an empty one."""

    def make(path: Path) -> Path:
        (path / "tensorboard").mkdir(parents=True)
        (path / "config.yaml").write_text(dump_yaml(Config()))
        (path / "plan.json").write_text("{}\n" * 200)
        (path / "tensorboard" / "events.1").write_bytes(random.Random(0).randbytes(3000))
        (path / "tensorboard" / "events.2").touch()
        write_ledger(path, range(40))
        return path

    return make


@pytest.fixture(scope="session")
def go_on() -> Callable[..., None]:
    """Makes a bare run longer: its ledger and one event file grow, its plan is another."""

    def more(path: Path, back_s: float = 0.0) -> None:
        write_ledger(path, range(40, 55), back_s)
        with (path / "tensorboard" / "events.1").open("ab") as file:
            file.write(random.Random(1).randbytes(1100))
        (path / "plan.json").write_text("{ }\n" * 300)

    return more
