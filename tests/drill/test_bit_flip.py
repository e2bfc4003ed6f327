"""Which checkpoints are struck."""

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.drill import bit_flip


@pytest.mark.parametrize("dice", range(20))
def test_a_step_whose_seal_is_not_written_down_yet_is_left_alone(
    dice: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Struck, it would count as sealed anew once that is read, and then as lost."""
    struck: list[int] = []
    for step in (100, 200, 300):
        (tmp_path / "checkpoints" / str(step)).mkdir(parents=True)
    run: Any = SimpleNamespace(directory=tmp_path, sealed={100: 1.0, 200: 2.0}, dice=random.Random(dice))
    monkeypatch.setattr(bit_flip, "strike_step", lambda run, step, seal_only=False: struck.append(step))
    monkeypatch.setattr(bit_flip, "strike_ledger", lambda run: None)
    monkeypatch.setattr(bit_flip, "strike_begun_with", lambda run, name, look: None)
    bit_flip.strike(run)
    assert set(struck) <= {100, 200}
    assert 100 not in struck or 200 in struck, "the newest, or all"
