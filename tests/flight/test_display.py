"""What a person watches."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from launching import ROOT, keep, ledger, lend

from pipeline.flight.display import Display, View, clock

VIEW = View(
    step=120, steps=1449, loss=3.25, tokens_per_s=12345.6, orbit=2, sunlit=0.0, charge=0.713, mode="TRAIN",
    next_save_s=222.0, eta_s=3725.0,
)  # fmt: skip


def test_without_a_terminal_a_plain_line_says_everything(capsys: pytest.CaptureFixture[str]) -> None:
    display = Display()
    display.show(VIEW)
    display.close()
    line = capsys.readouterr().err
    for part in ("120/1,449", "3.250", "12,346 tok/s", "orbit 2", "shadow", "71%", "TRAIN", "3:42", "1:02:05"):
        assert part in line
    assert "\x1b" not in line
    assert line.count("\n") == 1


def test_a_drill_says_in_a_line_of_its_own_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    Display().show("run 3, outage [2]")
    assert capsys.readouterr().err == "run 3, outage [2]\n"


def test_plain_lines_do_not_flood_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    display = Display()
    for _ in range(100):
        display.show(VIEW)
    assert capsys.readouterr().err.count("\n") == 1


def test_a_quiet_run_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    display = Display(quiet=True)
    display.say("hello")
    display.show(VIEW)
    display.close()
    assert capsys.readouterr() == ("", "")


def test_before_the_first_step_there_is_no_loss_and_no_eta(capsys: pytest.CaptureFixture[str]) -> None:
    Display().show(VIEW._replace(loss=None, eta_s=None))
    line = capsys.readouterr().err
    assert "loss -" in line
    assert "ETA -" in line


def test_a_charge_that_nothing_has_told_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    Display().show(VIEW._replace(charge=None))
    assert "charge -  TRAIN" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (600, "10:00"), (3600, "1:00:00"), (-5, "0:00")]
)
def test_durations_read_as_on_a_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


@pytest.mark.parametrize("lost", ["full", "closed", "ascii"])
def test_a_run_whose_output_cannot_be_written_trains_to_its_end(lost: str, tiny: Path, tmp_path: Path) -> None:
    """Standard error is a full disk, or a pipe that nobody reads; standard output knows no sign beyond ASCII."""
    command = [sys.executable, ROOT / "train.py", "--config", tiny, "--run_dir", tmp_path / "run"]
    lend(tmp_path / "run")
    reader, writer = os.pipe()
    os.close(reader)
    environment = {**os.environ, "PYTHONIOENCODING": "ascii" if lost == "ascii" else "utf-8"}
    with open("/dev/full", "w") as full:
        err = {"full": full, "closed": writer, "ascii": subprocess.PIPE}[lost]
        whole = [*command, "--budget.orbits", "null", "--budget.steps", "20", "--train.eval_every", "10"]
        whole += [] if lost == "ascii" else ["--json"]  # the closing table takes a sample, and that a compiler
        ended = subprocess.run(whole, stdout=subprocess.PIPE, stderr=err, env=environment, timeout=300)
    os.close(writer)
    keep(tmp_path / "run")
    assert ended.returncode == 0, ended.stderr
    assert ledger(tmp_path / "run", "done")
    assert (b"validation" if lost == "ascii" else b'"outcome": "done"') in ended.stdout


def test_a_terminal_that_goes_away_silences_the_live_line_and_nothing_else() -> None:
    program = """
import sys, time
from test_display import VIEW, Display
display = Display()
print(display._terminal, file=sys.__stdout__, flush=True)  # rich redirects the other
sys.stdin.readline()
for _ in range(4):
    display.say("hello")
    display.show(VIEW)
    time.sleep(0.2)
display.close()
print("done", file=sys.__stdout__)
"""
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "PYTHONPATH": f"{Path(__file__).parent}:{ROOT}"}
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=slave, env=environment
    )
    os.close(slave)
    assert process.stdout
    assert process.stdout.readline() == b"True\n"
    os.close(master)
    out, _ = process.communicate(b"\n", timeout=60)
    assert (process.returncode, out) == (0, b"done\n")
