"""A store on a real directory, opened as a restarted process would."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from checkpoint_states import Events, Saver

from pipeline.checkpoint import Store
from pipeline.config.tree import Checkpoint


@pytest.fixture
def events() -> Events:
    return Events()


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def open_store(run_dir: Path, events: Events) -> Iterator[Callable[..., Store]]:
    """Opens the run's store, as a restarted process would; closes what is still open at the end."""
    opened: list[Store] = []

    def opener(directory: Path = run_dir, **config: Any) -> Store:
        for store in opened:
            store.close()
        opened[:] = [Store(directory / "checkpoints", directory / "quarantine", Checkpoint(**config), events)]
        return opened[0]

    yield opener
    for store in opened:
        store.close()


@pytest.fixture(autouse=True)
def no_saver_left() -> Iterator[None]:
    yield
    for saver in list(Saver.running):
        saver.kill()
