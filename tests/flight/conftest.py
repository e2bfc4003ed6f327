"""A run small enough to be started, killed and started again many times."""

import math
from pathlib import Path

import pytest
from launching import finish

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration file: 0.02 M parameters; a mission of two orbits with eclipses, holds, saves and validations."""
    folder = tmp_path_factory.mktemp("tiny")
    words = [f"{a}{b}{c}" for a in ("sun", "orbit", "battery") for b in ("rise", "set", "less") for c in ".,;"]
    text = " ".join(words[(i * i + i // 7) % len(words)] for i in range(20_000))
    (folder / "text.txt").write_text(text)
    (folder / "tiny.yaml").write_text(
        f"""
corpus: {{source: text, path: {folder}/text.txt, tokenizer: byte, cache_dir: {folder}/cache}}
model: {{depth: 2, width: 32, heads: 2, context: 32}}
train: {{batch: 4, precision: fp32, device: cpu, eval_every: 100, eval_batches: 20}}
budget: {{orbits: 1.5}}
checkpoint: {{interval_s: 300}}
orbit: {ROOT}/configs/orbits/starcloud-1.yaml
satellite: {ROOT}/configs/satellites/starved.yaml
gpu: {ROOT}/configs/gpus/h100-pcie.yaml
mission: {{step_flops: 1.3e15}}
"""
    )
    return folder / "tiny.yaml"


@pytest.fixture(scope="session")
def uninterrupted(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of `tiny` that nothing disturbed."""
    run = tmp_path_factory.mktemp("whole") / "run"
    code, _, err = finish("run", "--config", tiny, "--run_dir", run, "--json")
    assert code == 0, err
    return run


@pytest.fixture
def nothing_stands_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test counts steps to the per cent. How often a gradient of `tiny` stands out hangs on how a CPU rounds (in 500
    steps never or eight times), and each time takes steps for itself and for those expected after it."""
    monkeypatch.setattr("pipeline.flight.corruption.LOSS_LIMIT", math.inf)
    monkeypatch.setattr("pipeline.flight.corruption.NORM_LIMIT", math.inf)
