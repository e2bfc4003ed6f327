"""The bench of sampling, with few tokens; beside nanoGPT it is run by hand, for its code is not ours to keep."""

import json
from pathlib import Path

import pytest

from pipeline.config import BadInput
from pipeline.ground.bench import main


@pytest.mark.slow
def test_it_times_both_shapes_and_a_start_by_parts(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", "--tokens", "3", "--rounds", "1", "--run", str(run_dir), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["shapes"]) == 2
    assert all(shape["ours_tokens_per_s"] > 0 for shape in found["shapes"].values())
    parts = found["start"]
    assert {"python", "weights", "first_text"} <= parts.keys()
    of_it = [seconds for name, seconds in parts.items() if name not in ("total", "processor")]
    assert sum(of_it) == pytest.approx(parts["total"], abs=0.1)


def test_a_folder_without_a_model_is_no_peer(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    with pytest.raises(BadInput, match=r"--peer-path: .*holds no model\.py"):
        main(["sample", "--peer-path", str(tmp_path)])
