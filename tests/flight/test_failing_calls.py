"""Every call on a file may fail, once or from then on, or be the last: no bit is lost, and how it ends is said."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from launching import ROOT, final_bits, keep, lend

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not shutil.which("cc"), reason="what makes calls fail is compiled with cc"),
]
CALLS = ("open", "mkdir", "write", "fsync", "rename", "unlink")
PASSING = (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ESTALE)
POINTS = 5  # of each call, from the first to the last
SHORT = [
    *("--config", ROOT / "configs" / "drill.yaml", "--budget.steps", 40, "--train.eval_every", 20, "--json"),
    *("--checkpoint.interval_s", 60, "--checkpoint.keep", 2, "--checkpoint.keep_orbits_s", 0),
]
Fail = Callable[..., tuple[int, str, float]]


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tmp_path_factory.mktemp("shim") / "failing_calls.so"
    source = Path(__file__).with_name("failing_calls.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", built, source, "-ldl"], check=True)
    return built


@pytest.fixture(scope="module")
def fail(shim: Path) -> Fail:
    def failing(command: list[object], under: Path, call: str, at: int, **how: object) -> tuple[int, str, float]:
        """Exit code, standard error and seconds of a command of which one call fails."""
        told = {"FAIL_UNDER": under, "FAIL_CALL": call, "FAIL_AT": at, "LD_PRELOAD": shim}
        told |= {f"FAIL_{key.upper()}": value for key, value in how.items()}
        environment = os.environ | {key: str(value) for key, value in told.items()}
        began = time.monotonic()
        ended = subprocess.run(
            [sys.executable, *map(str, command)], env=environment, capture_output=True, text=True, timeout=120
        )
        return ended.returncode, ended.stderr, time.monotonic() - began

    return failing


def fly(run: Path) -> list[object]:
    return [ROOT / "train.py", *SHORT, "--run_dir", run]


@pytest.fixture(scope="module")
def undisturbed(fail: Fail, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, object], dict[str, int]]:
    """The bits at the end, and how often each call is made."""
    folder, counts = tmp_path_factory.mktemp("undisturbed"), {}
    for call in CALLS:
        run = folder / call
        lend(run)
        code, err, _ = fail(fly(run), run, call, 0, log=folder / "count")
        assert (code, err) == (0, "")
        keep(run)
        counts[call] = int((folder / "count").read_text())
    return final_bits(run), counts


@pytest.mark.parametrize("call", CALLS)
def test_whatever_fails_the_next_launch_ends_with_the_same_bits(
    call: str, fail: Fail, undisturbed: tuple[dict[str, object], dict[str, int]], tmp_path: Path
) -> None:
    bits, counts = undisturbed
    most, came = counts[call], Counter[str]()
    for point in range(POINTS):
        at = 1 + round(point * (most - 1) / (POINTS - 1))
        for mode in ("once", "for ever", "killed"):
            run = tmp_path / f"{call}-{at}-{mode.replace(' ', '-')}"
            lend(run)
            why = 0 if mode == "killed" else PASSING[(point + CALLS.index(call)) % len(PASSING)]
            code, err, seconds = fail(fly(run), run, call, at, **{"with": why, "for_ever": int(mode == "for ever")})
            case = f"{mode} {errno.errorcode.get(why, '')} at {call} {at} of {most}: {code}, {err}"
            if code != -signal.SIGKILL:
                assert code in (0, 1), case
                assert err.count("\n") == code, case
                assert "Traceback" not in err, case
                assert seconds < 60.0, case
            came[f"{mode}: {'killed' if code < 0 else code}"] += 1
            code, err, _ = fail(fly(run), run, call, 0)
            assert (code, err) == (0, ""), case
            assert final_bits(run) == bits, case
            shutil.rmtree(run)
    print(f"{call}, {most} in a run: {dict(came)}")


def test_a_file_that_is_written_anew_in_place_is_lost_by_the_same_faults(fail: Fail, tmp_path: Path) -> None:
    """The control: the faults strike."""
    file = tmp_path / "state"
    file.write_text("what was")
    write = ["-c", f"from pathlib import Path; Path({str(file)!r}).write_text('what is')"]
    assert fail(write, file, "write", 1, for_ever=1, **{"with": errno.EIO})[0] == 1
    assert file.read_text() == ""
    file.write_text("what was")
    assert fail(write, file, "write", 1)[0] == -signal.SIGKILL
    assert file.read_text() == ""
