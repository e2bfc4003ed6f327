"""Each mistake gets one line that names the key and the fix, exit code 2, and loses nothing."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from launching import ROOT, finish, start, wait_for

import train
from pipeline.config import load
from pipeline.config.tree import Budget
from pipeline.flight.recorded import record
from pipeline.flight.run import _other_budget


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line on standard error."""
    assert train.main([str(a) for a in arguments]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["--model.dept", "3"], "model.dept"),
        (["--model.depth", "three"], "model.depth"),
        (["--model.depth", "0"], "model.depth"),
        (["--train.precision", "fp64"], "train.precision"),
        (["--satellite.array.efficiency", "1.5"], "satellite.array.efficiency"),
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
        (["--corpus.path", "nowhere.txt"], "nowhere.txt"),
        (["--budget.orbits", "null"], "budget"),
        (["--budget.wh", "0.001", "--budget.orbits", "null"], "budget"),
        (["--mission.step_flops", "1e20"], "mission.step_flops"),
        (["--model.attention", "cudnn", "--train.precision", "bf16"], "model.attention"),
        (["--train.precision", "fp8"], "train.precision: fp8"),
        (["--budget.until", "2020-01-01T00:00Z"], "budget.until"),
        (["--satellite.battery.capacity_wh", "100"], "satellite.battery.capacity_wh"),
        (["--satellite.battery.capacity_wh", "10"], "satellite.battery.discharge_c_rate"),
        (["fly"], "fly"),
    ],
)
def test_a_wrong_argument_is_named(
    arguments: list[str], names: str, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = [] if arguments[0] == "fly" else ["run", "--config", tiny, "--run_dir", tmp_path / "run"]
    assert names in refused(capsys, *base, *arguments)


def test_unknown_keys_and_wrong_types_in_a_file_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text, names in (
        ("modle: {depth: 3}", "modle"),
        ("model: {depth: many}", "model.depth"),
        ("model: [", "config"),
    ):
        (tmp_path / "bad.yaml").write_text(text)
        assert names in refused(capsys, "--config", tmp_path / "bad.yaml")


def test_an_unreadable_tle_is_named_with_its_checksum(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    orbit = (ROOT / "configs" / "orbits" / "starcloud-1.yaml").read_text().replace("45.3997", "45.3998")
    (tmp_path / "orbit.yaml").write_text(orbit)
    line = refused(capsys, "--config", tiny, "--run_dir", tmp_path / "run", "--orbit", tmp_path / "orbit.yaml")
    assert "checksum" in line


@pytest.mark.parametrize(("text", "names"), [("", "corpus"), ("too short", "model.context")])
def test_an_empty_corpus_and_one_shorter_than_a_window_are_refused(
    text: str, names: str, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "short.txt").write_text(text)
    arguments = ["--config", tiny, "--run_dir", tmp_path / "run", "--corpus.path", tmp_path / "short.txt"]
    assert names in refused(capsys, *arguments)


def test_a_run_directory_of_another_model_is_left_as_it_is(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert train.main(["--config", str(tiny), "--run_dir", str(run), "--budget.orbits", "0.3", "--json"]) == 0
    capsys.readouterr()
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    line = refused(capsys, "--config", tiny, "--run_dir", run, "--model.depth", 3, "--seed", 5)
    assert "model.depth 3 (was 2)" in line
    assert "seed 5 (was 0)" in line
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_another_mission_second_0_is_refused_and_the_one_named_is_taken(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--config", tiny, "--run_dir", tmp_path / "run", "--budget.orbits", 0.3]
    assert train.main([str(a) for a in [*arguments, "--json"]]) == 0
    capsys.readouterr()
    line = refused(capsys, *arguments, "--orbit.start", "2026-08-04T00:00:00Z")
    assert line.startswith("train.py run: orbit.start: 2026-08-04T00:00:00+00:00: mission second 0 of the run in")
    named = line.partition("is 2026-07-26T")[2].partition(";")[0]
    assert train.main([str(a) for a in [*arguments, "--orbit.start", f"2026-07-26T{named}", "--json"]]) == 0


def test_another_text_in_the_same_run_is_refused(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, arguments = tmp_path / "text.txt", ["--config", tiny, "--run_dir", tmp_path / "run", "--budget.orbits", 0.3]
    text.write_text("the Sun rises over the limb. " * 500)
    assert train.main([str(a) for a in [*arguments, "--corpus.path", text, "--json"]]) == 0
    text.write_text("the Sun sets behind the limb. " * 500)
    assert "changed since this run began" in refused(capsys, *arguments, "--corpus.path", text)


def test_a_budget_changed_after_the_cooldown_was_decided_is_refused(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--config", str(tiny), "--run_dir", str(tmp_path / "run"), "--budget.orbits"]
    assert train.main([*arguments, "0.3", "--json"]) == 0
    capsys.readouterr()
    assert "budget" in refused(capsys, *arguments, "0.4")
    (tmp_path / "run" / "ledger.jsonl").unlink()
    assert "budget.orbits 0.4 (was 0.3)" in refused(capsys, *arguments, "0.4")
    assert train.main([*arguments, "0.3", "--json"]) == 0


def test_a_budget_is_the_same_whatever_keys_another_version_has() -> None:
    budget = Budget(steps=400)
    assert _other_budget(budget, {"steps": 400, "more": None}) == ""
    assert _other_budget(budget, {"steps": 300, "orbits": 2.0}) == (
        "budget.steps 400 (was 300), budget.orbits null (was 2.0)"
    )


def test_a_directory_that_cannot_be_written_is_named(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("not a directory")
    assert "run_dir" in refused(capsys, "--config", tiny, "--run_dir", tmp_path / "file" / "run")
    assert "name too long" in refused(capsys, "--config", tiny, "--run_dir", tmp_path / ("n" * 300))


@pytest.mark.parametrize(("options", "names"), [("size=4m", "free"), ("size=4m,ro", "Read-only")])
def test_a_full_disk_and_a_read_only_one_are_named(
    options: str, names: str, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", disk], capture_output=True).returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        assert names in refused(capsys, "--config", tiny, "--run_dir", disk / "run")
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_cuda_asked_for_and_absent_is_an_error_not_a_fallback(tiny: Path, tmp_path: Path) -> None:
    probe = subprocess.run([sys.executable, "-c", "import jax; jax.devices('cuda')"], capture_output=True)
    if probe.returncode == 0:
        pytest.skip("this machine has a CUDA device")
    code, _, err = finish("--config", tiny, "--run_dir", tmp_path / "run", "--train.device", "cuda")
    assert code == 2
    assert "train.device: cuda" in err.splitlines()[-1]
    assert "Traceback" not in err


@pytest.mark.parametrize(("device", "ends"), [("cuda", 2), ("auto", 0)])
def test_a_plugin_of_jax_that_fails_as_without_a_driver_is_named_in_one_line(
    device: str, ends: int, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = tmp_path / "path" / "jax_plugins" / "broken" / "__init__.py"
    plugin.parent.mkdir(parents=True)
    plugin.write_text("def initialize():\n    raise RuntimeError('no\\ndriver')\n")
    monkeypatch.setenv("PYTHONPATH", str(plugin.parents[2]), prepend=os.pathsep)
    words = "--config", tiny, "--run_dir", tmp_path / "run", "--train.device", device, "--budget.steps", 2
    code, _, err = finish(*words)
    assert code == ends
    assert "Traceback" not in err
    assert len([line for line in err.splitlines() if "no driver" in line]) == 1


def test_a_second_process_in_the_same_run_is_refused(tiny: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    first = start("--config", tiny, "--run_dir", run)
    try:
        wait_for("first_step", run, first)
        code, _, err = finish("--config", tiny, "--run_dir", run)
    finally:
        first.kill()
        first.communicate()
    assert code == 1, "it may have ended by the next try"
    assert "another process" in err


def test_what_an_earlier_launch_has_worked_with_is_no_bad_input(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A supervisor does not start again what ended with 2: a GPU that is gone for a while must not end a mission."""
    run = tmp_path / "run"
    words = ["--config", tiny, "--run_dir", run, "--mission.clock", "real", "--gpu.actuator", "nvml"]
    assert "gpu.actuator" in refused(capsys, *words)
    assert not (run / "config.yaml").exists(), "nothing has begun"
    config = load([str(word) for word in words])
    record(config)  # it has begun
    assert train.main([str(word) for word in words]) == 1
    assert "gpu.actuator" in capsys.readouterr().err
    assert "gpu.actuator" in refused(capsys, *words, "--train.log_every", 7)


def test_a_disk_that_makes_itself_read_only_is_no_bad_input_where_a_run_lies(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever else is given otherwise, which with a disk that takes writes goes on."""
    disk, words = tmp_path / "disk", ["--config", tiny, "--budget.orbits", "null", "--budget.steps"]
    assert train.main([str(word) for word in (*words, 2, "--run_dir", tmp_path / "run")]) == 0
    disk.mkdir()
    if subprocess.run(["mount", "--bind", "-o", "ro", tmp_path / "run", disk], capture_output=True).returncode:
        pytest.skip("needs the right to mount a small file system")
    capsys.readouterr()
    try:
        assert train.main([str(word) for word in (*words, 2, "--run_dir", disk, "--train.log_every", 7)]) == 1
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
    assert "Read-only" in capsys.readouterr().err


def test_a_port_that_is_taken_may_be_free_by_the_next_try(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--config", tiny, "--run_dir", tmp_path / "run", "--mission.clock", "real", "--telemetry.source", "udp"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        words += ["--telemetry.port", other.getsockname()[1]]
        assert train.main([str(word) for word in words]) == 1
    assert "telemetry.port: 127.0.0.1" in capsys.readouterr().err
