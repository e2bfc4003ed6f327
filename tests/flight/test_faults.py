"""A disk that fails: what only watches or saves time is done without; all else is named, and tried again."""

import os
import resource
from pathlib import Path

import jax
import pytest
from launching import finish, ledger
from limited import limited

import train
from pipeline.checkpoint import durable
from pipeline.config import Config, RunFailed
from pipeline.flight.directory import open_directory
from pipeline.flight.ledger import Ledger
from pipeline.flight.run import _why_it_failed

FULL = Path("/dev/full")  # the kernel's own: every write is refused with ENOSPC
MEMORY = Path("/proc/self/mem")  # the first page of which is an I/O error

pytestmark = pytest.mark.skipif(not (FULL.exists() and MEMORY.exists()), reason="this system has no such files")


def test_a_run_does_without_curves(tiny: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "tensorboard").write_text("")  # where a folder should be
    code, _, err = finish("--config", tiny, "--run_dir", run, "--budget.orbits", "null", "--budget.steps", "3")
    assert code == 0, err
    (failed,) = ledger(run, "tracker_failed")
    assert err.count(f"tracker failed: {failed['reason']}\n") == 1
    assert f"{run}/tensorboard" in failed["reason"]


def test_a_run_does_without_compiled_programs(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def compiles(config: Config) -> None:
        assert jax.config.jax_compilation_cache_dir is None, "nothing vets what JAX would find there"
        raise RunFailed("this is far enough")  # to compile it takes long

    monkeypatch.setattr("pipeline.lm.step.make_train_chunk", compiles)
    run = tmp_path / "run"
    run.mkdir()
    (run / "cache").write_text("")  # where a folder should be
    assert train.main(["--config", str(tiny), "--run_dir", str(run)]) == 1
    (failed,) = ledger(run, "programs_failed")
    assert f"'{run}/cache/xla'" in failed["reason"]
    assert capsys.readouterr().err == f"programs failed: {failed['reason']}\ntrain.py run: this is far enough\n"


def test_a_ledger_that_cannot_be_read_is_named(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "ledger.jsonl").symlink_to(MEMORY)
    assert train.main(["--config", str(tiny), "--run_dir", str(run), "--json"]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"train.py run: {run}/ledger.jsonl: Input/output error; the same command goes on")


def test_what_ends_a_run_says_which_file_and_why(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("")
    (tmp_path / "plan.json.tmp").symlink_to(FULL)  # where a durable write of it begins
    with pytest.raises(OSError, match="No space left") as ended:
        durable.write(tmp_path / "plan.json", b"{}")
    written = Ledger(tmp_path / "ledger.jsonl")
    _why_it_failed(written, tmp_path / "config.yaml", OSError, ended.value, None)
    (failed,) = ledger(tmp_path, "failed")
    fix = "free some space, and the same command goes on from the newest sealed step, if there is one"
    assert failed["reason"] == f"{tmp_path}/plan.json: No space left on device; {fix}"


def test_a_directory_that_cannot_be_opened_now_is_no_bad_input(tmp_path: Path) -> None:
    """A supervisor does not start again what ended with bad input."""
    refused = pytest.raises(RunFailed, match=r"run_dir: .*: cannot be written \(Too many open files\); try again, or")
    with limited(resource.RLIMIT_NOFILE, 0), refused:
        open_directory(Config(run_dir=tmp_path / "run"))


def test_a_write_that_a_full_disk_refused_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    durable.write(path, b"old")
    (tmp_path / "file.tmp").symlink_to(FULL)
    with pytest.raises(OSError, match=f"No space left on device: '{path}'"):
        durable.write(path, b"new")
    assert os.listdir(tmp_path) == ["file"]
    assert path.read_bytes() == b"old"
