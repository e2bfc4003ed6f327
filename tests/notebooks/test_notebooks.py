"""The notebooks run from top to bottom, keep to the public API, and their rendered copies are of what they say."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

import pipeline

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
QUICK = {"01_evaluate_run"}


def cells(path: Path) -> list[dict[str, Any]]:
    """As the file has them: what reads and runs notebooks takes seconds to import, in each worker that collects."""
    return json.loads(path.read_bytes())["cells"]


def code(path: Path) -> list[str]:
    return ["".join(cell["source"]) for cell in cells(path) if cell["cell_type"] == "code"]


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, id=path.stem, marks=[] if path.stem in QUICK else [pytest.mark.slow]) for path in NOTEBOOKS],
)
def test_a_notebook_runs_from_top_to_bottom_on_a_run_that_it_makes(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a copy of the house, so that what it writes stays out of this one."""
    import nbformat
    from nbclient import NotebookClient

    for name in ("configs", "train.py"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "data").mkdir()
    copy = Path(shutil.copy(path, tmp_path / "notebooks"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.delenv("DAYSIDE_RUN", raising=False)
    made = nbformat.read(copy, 4)
    NotebookClient(made, timeout=500, resources={"metadata": {"path": str(copy.parent)}}).execute(env=dict(os.environ))
    pictures = [
        output for cell in made.cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})
    ]
    assert len(pictures) >= 2
    errors = [output for cell in made.cells for output in cell.get("outputs", []) if output.get("name") == "stderr"]
    assert errors == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs_and_uses_the_public_api_alone(path: Path) -> None:
    for cell in cells(path):
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
    text = "\n".join(code(path))
    assert set(re.findall(r"\bpipeline\.(\w+)", text)) <= set(pipeline.__all__)
    assert not re.search(r"(from|import) pipeline\.", text)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_rendered_copy_is_of_this_notebook(path: Path) -> None:
    rendered = path.parent / "rendered" / f"{path.stem}.md"
    text = rendered.read_text(encoding="utf-8")
    for source in code(path):
        assert source in text, f"render it anew (see README): {rendered}"
    for picture in re.findall(r"!\[png\]\(([^)]+)\)", text):
        assert (rendered.parent / picture).stat().st_size < 200_000
