"""Which outage comes next: every kind as often, and one for which there is never time holds up no other."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import load
from pipeline.drill import drill
from pipeline.drill.drill import LATE
from pipeline.drill.setting import Setting
from pipeline.drill.tally import Tally
from pipeline.flight.display import Display


class ShortRun:
    """Has time for `most` outages."""

    most = 3

    def __init__(self, setting: Setting, at: Path, name: str, *rest: Any) -> None:
        self.setting, self.directory, self.came, self.step = setting, at / name, 0, 0
        self.directory.mkdir()

    def take_programs(self, other: Path) -> None:
        pass

    @contextmanager
    def closing(self) -> Iterator[None]:
        yield

    @property
    def at_end(self) -> bool:
        return self.came == self.most

    def finish(self) -> None:
        pass


def outage(kind: str, comes: Callable[[ShortRun], bool]) -> Any:
    def strike(run: ShortRun) -> bool:
        if not comes(run):
            return False
        run.came += 1
        run.setting.tally.outages += 1
        run.setting.tally.kinds[kind] += 1
        return True

    return strike


@pytest.mark.parametrize(
    ("comes", "expected"),
    [
        (lambda run: True, {"kill": 10, "disk-full": 10}),
        (lambda run: run.came == 0, {"kill": 10, "disk-full": 10}),
        (lambda run: False, {"kill": 20}),
    ],
    ids=["any time", "only at first", "never"],
)
def test_every_kind_comes_as_often_if_it_can(
    comes: Callable[[ShortRun], bool], expected: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drill, "Run", ShortRun)
    monkeypatch.setattr(drill, "differences", lambda here, there: [])
    tally = Tally()
    setting = Setting(load(["--budget.steps", "1"]), [], {}, tmp_path, tally, random.Random(1))
    setting.undisturbed.directory = tmp_path / "undisturbed"
    outages = {"kill": outage("kill", lambda run: True), "disk-full": outage("disk-full", comes)}
    drill._break(setting, None, outages, 20, Display(quiet=True))
    assert tally.kinds == expected
    assert tally.runs <= 20 + LATE
