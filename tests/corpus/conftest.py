"""A corpus configuration whose cache lies in the test's own folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.learning import Corpus as CorpusConfig


@pytest.fixture
def configure(tmp_path: Path) -> Callable[..., CorpusConfig]:
    def make(**settings: Any) -> CorpusConfig:
        return CorpusConfig(**{"source": "text", "tokenizer": "byte", "cache_dir": tmp_path / "cache", **settings})

    return make
