"""What stands in deploy/ is what the command does."""

import configparser
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import train

ROOT = Path(__file__).parents[1]
UNIT = ROOT / "deploy" / "dayside@.service"


def service() -> dict[str, str]:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(UNIT)
    return dict(parser["Service"])


def test_the_unit_follows_the_exit_codes() -> None:
    unit = service()
    assert unit["RestartPreventExitStatus"] == str(train.BAD_INPUT)
    assert unit["SuccessExitStatus"] == str(train.RESUMABLE)
    # The signals are clean exits to systemd, and may come before Python can catch any.
    assert unit["RestartForceExitStatus"].split() == [str(train.RESUMABLE), "SIGTERM", "SIGHUP", "SIGINT", "SIGPIPE"]
    assert unit["Restart"] == "on-failure"


def test_every_key_that_the_unit_gives_is_a_key(capsys: pytest.CaptureFixture[str]) -> None:
    words = service()["ExecStart"].replace("%i", "demo").split()
    assert words[1:3] == ["train.py", "run"]
    options = [word for word in words if word.startswith("--")]
    from pipeline.config import load

    load([word.replace("configs/", f"{ROOT}/configs/") for word in words[3:]])
    assert options == ["--config", "--run_dir", "--corpus.cache_dir"]


@pytest.mark.parametrize("arguments", [["--help"], ["plan", "--help"]])
def test_help_that_nobody_reads_is_no_traceback(arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, ROOT / "train.py", *arguments]
    ended = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, timeout=60)
    os.close(writer)
    assert ended.stderr == b""
    assert ended.returncode in (train.DONE, train.FAILED)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze here")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    text = UNIT.read_text().replace("/opt/dayside/.venv/bin/python", sys.executable)
    (tmp_path / "dayside@demo.service").write_text(text)
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", tmp_path / "dayside@demo.service"], capture_output=True, text=True
    )
    ours = [line for line in (checked.stdout + checked.stderr).splitlines() if "dayside" in line]
    assert checked.returncode == 0, ours
    assert not ours
