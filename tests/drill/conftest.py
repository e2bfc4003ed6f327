from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.drill.disk import Disk, NoDisk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A disk of 64 MB that can be cut off and filled; the test is skipped where there can be none."""
    try:
        made = Disk(tmp_path / "made", 64)
    except NoDisk as lack:
        pytest.skip(str(lack))
    with made:
        yield made
