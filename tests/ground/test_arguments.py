"""What a command line may name."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from pipeline.config import BadInput
from pipeline.ground import downlink, evaluate, export, report, verify

LONG = "x" * 300  # bytes; a file system takes 255


@pytest.mark.parametrize(
    ("verb", "arguments", "named"),
    [
        (report.main, [LONG], "RUN"),
        (verify.main, [LONG], "RUN"),
        (evaluate.main, [LONG], "RUN"),
        (report.main, ["RUN", "--out", LONG], "--out"),
        (export.main, ["RUN", "--out", LONG], "--out"),
        (downlink.main, ["unpack", LONG, "--out", "OUT"], "INBOX"),
        (downlink.main, ["unpack", "RUN", "--out", LONG], "--out"),
        (downlink.main, ["pack", LONG, "--out", "OUT"], "RUN"),
    ],
)
def test_a_name_that_no_file_can_have_is_one_line(
    verb: Callable[[Sequence[str]], int], arguments: list[str], named: str, run_dir: Path, tmp_path: Path
) -> None:
    places = {"RUN": str(run_dir), "OUT": str(tmp_path / "out")}
    with pytest.raises(BadInput, match=rf"^{named}: 'xxx.*: File name too long; name another") as raised:
        verb([places.get(word, word) for word in arguments])
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 300
