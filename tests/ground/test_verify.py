"""The verb `verify`: what it says and how it exits. What it finds is tested with the checkpoints."""

import json
import shutil
from pathlib import Path

import pytest

from pipeline.config import BadInput, dump_yaml, load_file
from pipeline.ground.verify import main


def test_a_whole_run_exits_0(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(run_dir)]) == 0
    assert capsys.readouterr().out == "step 20: whole\nstep 40: whole\n"


def test_each_bad_file_is_named_and_the_exit_is_1(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Path(shutil.copytree(run_dir, tmp_path / "copy"))
    (copy / "checkpoints/20/meta.json").unlink()
    (copy / "checkpoints/40/meta.json").write_text("{}")
    (copy / "checkpoints/40/stranger").write_text("")
    assert main([str(copy)]) == 1
    said = capsys.readouterr()
    for name in ("20/meta.json: missing", "40/meta.json: ", "40/stranger: not in the SEAL"):
        assert f"{copy}/checkpoints/{name}" in said.err
    assert "step 40: DAMAGED" in said.out
    assert main([str(copy), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert not found["whole"]
    assert [c["step"] for c in found["checkpoints"] if c["problems"]] == [20, 40]


def mirrored(run_dir: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A copy of a run, as another machine would have it, and its copies on a second device."""
    copy = Path(shutil.copytree(run_dir, tmp_path / "copy"))
    config = load_file(copy / "config.yaml")
    checkpoint = config.checkpoint.model_copy(update={"mirror_dir": tmp_path / "second"})
    named = config.model_copy(update={"checkpoint": checkpoint, "run_dir": Path("/elsewhere/char")})
    (copy / "config.yaml").write_text(dump_yaml(named))
    shutil.copytree(run_dir / "checkpoints", tmp_path / "second/char/checkpoints")
    return copy, tmp_path / "second/char"


def test_the_copies_on_the_second_device_are_verified_too(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy, second = mirrored(run_dir, tmp_path)
    assert main([str(copy)]) == 0
    assert f"step 40 in {second}: whole" in capsys.readouterr().out
    (second / "checkpoints/40/meta.json").unlink()
    assert main([str(copy), "--json"]) == 1
    said = capsys.readouterr()
    assert f"{second}/checkpoints/40/meta.json: missing" in said.err
    found = json.loads(said.out)
    assert not found["whole"]
    assert [c["step"] for c in found["checkpoints"] if c["problems"]] == []
    assert [c["step"] for c in found["mirror"]["checkpoints"] if c["problems"]] == [40]


def test_a_run_copied_to_a_machine_without_the_second_device_is_whole(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy, second = mirrored(run_dir, tmp_path)
    shutil.rmtree(second)
    assert main([str(copy), "--json"]) == 0
    said = capsys.readouterr()
    assert "were not checked" in said.err
    assert json.loads(said.out)["mirror"] is None
    (copy / "checkpoints/40/meta.json").unlink()
    assert main([str(copy)]) == 1


def test_nothing_to_verify_is_not_whole(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no checkpoints/"):
        main([str(tmp_path)])
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(BadInput, match="no sealed checkpoint"):
        main([str(tmp_path)])
