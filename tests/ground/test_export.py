"""Export without transformers: bytes, safety of the folder, atomicity. `test_export_interop.py` has the rest."""

import json
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from pipeline.checkpoint import durable
from pipeline.config import BadInput, RunFailed
from pipeline.ground import export_folder as module
from pipeline.ground.export import export, main
from pipeline.ground.run_directory import open_run


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_equal_weights_give_equal_bytes_and_other_weights_do_not(run_dir: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run_dir, tmp_path / "copy"))
    export(run_dir, tmp_path / "a")
    export(copy, tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    export(run_dir, tmp_path / "c", step=20)
    assert contents(tmp_path / "a")["model.safetensors"] != contents(tmp_path / "c")["model.safetensors"]


def test_every_parameter_is_there_once(run_dir: Path, tmp_path: Path) -> None:
    about = export(run_dir, tmp_path / "out")
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    weights = open_run(run_dir).weights()
    np.testing.assert_array_equal(tensors["model.layers.1.mlp.up_proj.weight"].T, weights.params["blocks"]["up"][1])
    assert {t.dtype for t in tensors.values()} == {np.dtype(np.float32)}
    assert sum(t.size for t in tensors.values()) == about["parameters"]
    assert about == json.loads((tmp_path / "out" / "export.json").read_text()) | {"damaged": {}}


def test_an_earlier_export_is_replaced(run_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    export(run_dir, out, step=20)
    assert export(run_dir, out)["step"] == 40
    assert json.loads((out / "export.json").read_text())["step"] == 40
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_with_anything_else_is_left_alone(run_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(run_dir, out)
    (out / "notes.txt").write_text("mine")
    before = contents(out)
    with pytest.raises(BadInput, match=r"--out: .*notes\.txt"):
        export(run_dir, out, step=20)
    assert contents(out) == before
    with pytest.raises(BadInput, match="no export of ours"):
        export(run_dir, run_dir)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(BadInput, match="is a file"):
        export(run_dir, tmp_path / "file")


@pytest.mark.parametrize("renames", [0, 1])
def test_a_cut_at_any_rename_leaves_an_export_that_the_next_one_finds(
    renames: int, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before the old folder moves, or between its move and the new one's."""
    out, real, done = tmp_path / "out", durable.rename, []
    export(run_dir, out, step=20)

    def rename(source: Path, target: Path) -> None:
        if len(done) == renames:
            raise KeyboardInterrupt
        done.append(target)
        real(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(module.durable, "rename", rename)
        with pytest.raises(KeyboardInterrupt):
            export(run_dir, out)
    assert (out if renames == 0 else tmp_path / ".out.old").is_dir()
    export(run_dir, out)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert json.loads((out / "export.json").read_text())["step"] == 40


def test_a_full_disk_leaves_the_earlier_export(run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    export(run_dir, out, step=20)
    before = contents(out)

    def full(root: Path) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(module.durable, "fsync_tree", full)
    with pytest.raises(RunFailed, match="no space"):
        export(run_dir, out)
    assert contents(out) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_second_export_to_the_same_place_waits_for_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They share a draft: each would sweep away what the other writes."""
    out, real = tmp_path / "out", durable.fsync_tree
    second = threading.Thread(target=lambda: module.put(out, {"b": b"2"}))

    def fsync_tree(root: Path) -> None:
        if second.ident is None:
            second.start()
            second.join(0.3)
        real(root)

    monkeypatch.setattr(module.durable, "fsync_tree", fsync_tree)
    module.put(out, {"a": b"1"})
    second.join()
    assert contents(out) == {"b": b"2"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_verb_needs_a_folder_and_reports(run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BadInput, match="required: --out"):
        main([str(run_dir)])
    assert main([str(run_dir), "--out", str(tmp_path / "out"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["step"] == 40
    assert main([str(run_dir), "--out", str(tmp_path / "out")]) == 0
    assert "step 40" in capsys.readouterr().out


def test_an_export_without_a_tokenizer_says_so(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(run_dir, tmp_path / "run"))
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("source: text", "source: tokens"))
    assert main([str(run), "--out", str(tmp_path / "out")]) == 0
    assert "no tokenizer" not in capsys.readouterr().out
    (run / "tokenizer.json").unlink()
    assert main([str(run), "--out", str(tmp_path / "out")]) == 0
    assert "no tokenizer.json: a run on token files knows none" in capsys.readouterr().out
    assert not (tmp_path / "out" / "tokenizer.json").exists()
