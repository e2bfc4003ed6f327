"""Flips in a live run: whatever strikes the state at rest or a batch is mended, and without guards it is not."""

from pathlib import Path

import pytest

from pipeline.config import Config, load
from pipeline.drill.flip import BATCH, TARGETS
from pipeline.drill.live_flips import CONTROL, REPLAY_EVERY, LiveFlips, run_live_flips, small

ROOT = Path(__file__).parents[2]
SURE = (*(target for target in TARGETS if target.endswith("at rest")), BATCH)


def words(folder: Path) -> Config:
    """A text that is learned in a hundred steps."""
    made = [f"{a}{b}{c}" for a in ("sun", "orbit", "battery") for b in ("rise", "set", "less") for c in ".,;"]
    (folder / "text.txt").write_text(" ".join(made[(i * i + i // 7) % len(made)] for i in range(20_000)))
    arguments = ["--config", ROOT / "configs" / "demo.yaml", "--corpus.source", "text", "--corpus.split", "tail"]
    arguments += ["--corpus.path", folder / "text.txt", "--corpus.tokenizer", "byte"]
    return load([*map(str, arguments), "--corpus.cache_dir", str(folder / "corpus")])


def require_well(result: LiveFlips, flips: int) -> None:
    assert result.injected == flips
    assert result.injected == result.detected + result.harmless + result.missed + result.crashed
    assert not result.failures
    assert result.repaired == result.detected
    assert result.within == result.detected
    for (target, bits), counts in result.table.items():
        if target in SURE:
            assert counts.detected == counts.injected, (target, bits)
    assert result.control["injected"] == -(-flips // CONTROL)
    assert result.control["corrupted"] > 0
    assert result.control["detected"] == 0


@pytest.mark.slow
def test_flips_at_rest_are_all_mended_and_the_control_ends_corrupted(tmp_path: Path) -> None:
    result = run_live_flips(small(words(tmp_path), tmp_path), flips=24, seed=3)
    require_well(result, 24)
    assert {target for target, _ in result.table} == set(TARGETS)
    assert result.noise > 0.0
    assert result.as_json()["latency_steps"]["p100"] <= REPLAY_EVERY


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_thousand_flips_in_parameters_and_optimizer_and_half_as_many_elsewhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the demo's text: 1,000 in the state, 500 in gradients and batches. `pytest -s -m slow tests/drill`"""
    demo = load(["--config", str(ROOT / "configs" / "demo.yaml"), "--corpus.cache_dir", str(tmp_path / "corpus")])
    result = run_live_flips(small(demo, tmp_path), flips=1500)
    with capsys.disabled():
        told = result.as_json()
        print("", *told.pop("table"), told, sep="\n")
    require_well(result, 1500)
    assert result.missed <= 15
