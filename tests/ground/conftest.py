"""A small run made of the real parts: a corpus, a state trained for some steps, sealed checkpoints, a tokenizer."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.checkpoint import Store
from pipeline.config import Config, dump_yaml
from pipeline.corpus import open_corpus
from pipeline.lm.schedule import Cooldown
from pipeline.lm.step import init_state, make_train_chunk

SENTENCES = [
    "the sun rises over the sea.\n",
    "the satellite sleeps in shadow.\n",
    "a model learns while the array turns.\n",
]
STEPS = (20, 40)
# No two sizes alike and nothing at its default, so that a mix-up shows.
MODEL = {"depth": 2, "width": 40, "heads": 6, "kv_heads": 2, "head_dim": 16, "hidden": 72, "context": 24}
MODEL |= {"rope_theta": 3000.0, "norm_eps": 1e-4}


def make_run(path: Path, text: str, **learning: Any) -> Path:
    """A run directory at `path` with the steps of STEPS sealed."""
    path.mkdir()
    (path.parent / f"{path.name}.txt").write_text(text, encoding="utf-8")
    corpus_config = {
        "source": "text",
        "path": str(path.parent / f"{path.name}.txt"),
        "cache_dir": str(path.parent / "cache"),
    }
    config = Config(
        corpus={"tokenizer": "char", **corpus_config, **learning.get("corpus", {})},
        model={**MODEL, **learning.get("model", {})},
        train={"batch": 8, "chunk_steps": 20, "precision": "fp32"},
        optimizer={"warmup_steps": 5},
    )
    corpus = open_corpus(config.corpus, config.model.context, config.seed)
    (path / "config.yaml").write_text(dump_yaml(config))
    if corpus.tokenizer:
        corpus.tokenizer.save(str(path / "tokenizer.json"))
    state = init_state(config, corpus.vocab_size)
    train_chunk = make_train_chunk(config)
    with Store(path / "checkpoints", path / "quarantine", config.checkpoint, lambda event, fields: None) as store:
        for step in STEPS:
            tokens = corpus.batches.chunk((step - 20) * 8, 20, 8)
            state, _ = train_chunk(state, tokens, 20, Cooldown())
            assert store.save(step, state, {"corpus": corpus.content_hash}, urgent=True)
            assert store.wait(None)
    return path


def some_text(sentences: int = 400, seed: int = 0) -> str:
    order = np.random.default_rng(seed).integers(len(SENTENCES), size=sentences)
    return "".join(SENTENCES[i] for i in order)


@pytest.fixture(scope="session", autouse=True)
def tokens_elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is tokenised here does not stay in the cache of whoever runs the tests."""
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.ground.run_directory.user_cache", lambda: cache)
        yield


@pytest.fixture(scope="session")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read-only for every test: whoever damages it copies it first."""
    return make_run(tmp_path_factory.mktemp("runs") / "char", some_text())


@pytest.fixture(scope="session")
def bpe_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    text = some_text() + "żółw, 東京, 🛰️, naïve\n" * 40
    return make_run(tmp_path_factory.mktemp("runs") / "bpe", text, corpus={"tokenizer": "bpe", "vocab_size": 300})


@pytest.fixture(scope="session")
def new_run() -> Callable[..., Path]:
    """`make_run`, for a test that needs a run of its own."""
    return make_run


@pytest.fixture(scope="session")
def text() -> Callable[..., str]:
    return some_text


@pytest.fixture
def fingerprint() -> Callable[[Path], dict[str, tuple[int, int]]]:
    """Size and time of change of everything under a directory, for tests that nothing was written."""

    def take(root: Path) -> dict[str, tuple[int, int]]:
        return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in [root, *root.rglob("*")]}

    return take
