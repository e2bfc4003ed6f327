"""The drill as a person types it: its answer, its exit code, its refusals."""

import os
import random
import signal
from pathlib import Path

import pytest
from drilling import ROOT, TINY, drill

import train
from pipeline.config import RunFailed, load
from pipeline.drill import KINDS
from pipeline.drill import drill as module
from pipeline.drill.disk import lacking
from pipeline.drill.run import Run
from pipeline.drill.setting import Setting, Undisturbed
from pipeline.drill.tally import Tally
from pipeline.flight.display import Display

KEYS = {
    *("outages", "resumed", "bit_identical", "sealed_lost", "lost_steps", "lost_seconds", "restart_s"),
    *("corruptions", "control"),
}


def require_well(answer: dict, outages: int) -> None:
    assert answer.keys() >= KEYS
    assert answer["failures"] == []
    assert (answer["outages"], answer["resumed"], answer["sealed_lost"]) == (outages, outages, 0)
    assert answer["bit_identical"] is True
    assert answer["lost_steps"].keys() == answer["lost_seconds"].keys() == {"p50", "p99", "max"}
    assert answer["restart_s"].keys() == {"p50", "p99"}
    damage = answer["corruptions"]
    assert damage["injected"] == damage["detected"] + damage["harmless"]
    assert all(arm["lost"] > 0 for arm in answer["control"]["arms"])


def test_a_kill_loses_nothing_and_its_control_arm_does() -> None:
    short = "--budget.steps", 150
    require_well(drill(*TINY, *short, "--kind", "kill", "--outages", 1, "--seed", 2), 1)  # it strikes while it trains


@pytest.mark.slow
def test_one_outage_of_each_kind_loses_nothing_and_each_control_arm_does() -> None:
    kinds = set(KINDS) - {"mixed"} - ({"power-cut", "disk-full"} if lacking() else set())
    answer = drill(*TINY, "--kind", "mixed", "--outages", len(kinds), "--seed", 1)
    require_well(answer, len(kinds))
    assert answer["kinds"] == dict.fromkeys(kinds, 1)
    assert {kind for arm in answer["control"]["arms"] for kind in arm["kind"].split(", ")} == kinds
    assert answer["corruptions"]["injected"] >= 1


def test_a_run_that_is_to_be_broken_has_the_programs_of_the_undisturbed_one(tmp_path: Path) -> None:
    told = Undisturbed(tmp_path / "undisturbed")
    (told.directory / "cache" / "xla").mkdir(parents=True)
    (told.directory / "cache" / "xla" / "SEALED").write_text("listed")
    setting = Setting(load(TINY), TINY, {}, tmp_path, Tally(), random.Random(0), undisturbed=told)

    def outage(run: Run) -> bool:
        raise RunFailed((run.directory / "cache" / "xla" / "SEALED").read_text())

    with pytest.raises(RunFailed, match="listed"):
        module._break(setting, None, {"kill": outage}, 1, Display())


@pytest.mark.parametrize(
    ("number", "ignored"), [(signal.SIGTERM, False), (signal.SIGHUP, False), (signal.SIGHUP, True)]
)
def test_a_drill_stops_when_its_terminal_is_closed_unless_it_was_started_to_outlive_it(
    number: int, ignored: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(*_: object) -> Tally:
        os.kill(os.getpid(), number)
        return Tally()

    monkeypatch.setattr(module, "drill", ask)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = signal.signal(number, signal.SIG_IGN if ignored else lambda *_: None)
    try:
        assert train.main(["drill", *TINY]) == (1 if ignored else 130)
        assert any(tmp_path.glob("dayside-drill-*")) == ignored, "what a drill that was stopped worked in goes"
    finally:
        signal.signal(number, before)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "mixed"])
def test_eight_outages_of_a_kind_lose_nothing(kind: str) -> None:
    if kind in ("power-cut", "disk-full") and (lack := lacking()):
        pytest.skip(lack)
    answer = drill(*TINY, "--kind", kind, "--outages", 8, "--seed", 2)
    require_well(answer, 8)
    if kind in ("kill", "power-cut"):
        assert len(answer["phases"]) >= 6


@pytest.mark.slow
@pytest.mark.timeout(14_400)
@pytest.mark.parametrize(
    ("kind", "outages", "config"), [("kill", 100, "drill"), ("power-cut", 100, "drill"), ("mixed", 50, "demo")]
)
def test_a_hundred_outages_lose_nothing(kind: str, outages: int, config: str) -> None:
    if kind == "power-cut" and (lack := lacking()):
        pytest.skip(lack)
    arguments = ["--config", ROOT / "configs" / f"{config}.yaml", "--kind", kind, "--outages", outages, "--seed", 3]
    require_well(drill(*arguments), outages)


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["--kind", "flood"], "--kind: invalid choice: 'flood'"),
        (["--outages", "0"], "--outages: '0' is not a whole number of at least 1"),
        (["--outages", "many"], "--outages: 'many'"),
        (["--seed", "-1"], "--seed: '-1'"),
        (["--model.dept", "3"], "model.dept"),
        (["--run_dir", "somewhere"], "run_dir: somewhere: a drill makes its own runs; give --work-dir"),
        (["--work-dir", str(ROOT)], "not empty; give a new one"),
        (["--kind", "brown-out", "--mission.clock", "real"], "mission.clock: real"),
        (["--kind", "kill", "--corpus.source", "text", "--corpus.path", "nowhere.txt"], "nowhere.txt"),
    ],
)
def test_a_wrong_argument_is_named_in_one_line(
    arguments: list[str], names: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main(["drill", *TINY, *arguments]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert names in lines[0]


def test_a_power_cut_without_root_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    for kind in ("power-cut", "disk-full"):
        assert train.main(["drill", *TINY, "--kind", kind, "--work-dir", str(tmp_path / kind)]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert f"--kind: {kind}: " in line
        assert "needs root" in line
