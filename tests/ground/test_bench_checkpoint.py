"""The bench of saving measures what it says: a short run of it, and the table that it prints."""

import json
from pathlib import Path

import pytest

from pipeline.config.learning import Model
from pipeline.ground.bench import checkpoint


def test_the_answer_has_a_spread_of_every_figure_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = checkpoint.SHAPE.model_copy(update={"model": Model(depth=1, width=64, heads=2, context=256)})
    monkeypatch.setattr(checkpoint, "SHAPE", small)
    monkeypatch.setattr(checkpoint, "INTERVAL_S", 0.3)
    monkeypatch.setattr(checkpoint, "set_up_jax", lambda: None)  # the tests share a cache
    counts = ["--pairs", "2", "--saves", "2", "--restores", "2", "--restore_mb", "20", "--dir", str(tmp_path)]
    assert checkpoint.main([*counts, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    over, plain, back = answer["overhead"], answer["plain_orbax"], answer["restore"]
    for spread in (
        over["blocked_share"],
        plain["blocks_s"],
        plain["plain_blocks_s"],
        plain["seal_s"],
        back["restore_s"],
    ):
        assert 0.0 < spread["least"] <= spread["median"] <= spread["most"]
    assert over["polling_share"]["median"] < over["blocked_share"]["median"], "the control: without a save, no stop"
    assert plain["seal_s"]["median"] < plain["done_s"]["median"]
    assert "measured" in answer["provenance"]
    assert list(tmp_path.iterdir()) == []
    print(checkpoint.table(answer))
    assert "plain Orbax blocks" in capsys.readouterr().out
