"""Throughput and power by load: on this processor, counted by its time; the card's own interface recorded."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import jax
import pytest
import yaml
from recorded_nvml import RecordedNvml

from pipeline.config import BadInput, Config, RunFailed, load
from pipeline.flight import meter as meters
from pipeline.ground.bench import matmul
from pipeline.ground.calibrate import main, work
from pipeline.ground.calibrate.curve import curve
from pipeline.ground.calibrate.work import Setting, measured

BUSY_W, IDLE_W = 40.0, 10.0
TINY = ["--corpus.tokenizer", "byte", "--model.depth", "1", "--model.width", "32", "--model.context", "32"]
TINY += ["--train.batch", "4", "--train.precision", "fp32", "--train.device", "cpu"]
SHORT = ["--seconds", "0.5", "--windows", "1"]


class ProcessorTime:
    """Stands for a card's counter: 10 W always, and 40 W for each second that this process computes."""

    def __init__(self) -> None:
        self._last = self._now()

    def _now(self) -> float:
        return IDLE_W * time.perf_counter() + BUSY_W * time.process_time()

    def joules(self) -> float | None:
        since, self._last = self._now() - self._last, self._now()
        return since

    def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def quick_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a large product takes is a matter of the bench's tests."""
    monkeypatch.setitem(matmul.SIZES, "cpu", (512,))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meters, "make_meter", lambda backend: ProcessorTime())


def answer_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main([*SHORT, *TINY, *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.usefixtures("counted")
def test_a_tenth_of_the_time_is_less_work_at_more_energy_a_token_and_a_run_takes_the_curve(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mine.yaml"
    found = answer_of(capsys, "--at", "1,0.1", "--out", str(out))
    full, part = found["points"]
    assert found["idle_w"]["median"] < part["watts"]["median"] < full["watts"]["median"]
    assert full["joules_per_token"]["median"] < part["joules_per_token"]["median"]  # idling is paid for too
    assert full["counter_error"] == pytest.approx(0.4)
    gpu = load(["--gpu", str(out)]).gpu
    assert gpu.provenance == "measured"
    assert gpu.curve[-1] == (1.0, round(full["watts"]["median"], 2))
    assert gpu.curve[0] == (0.0, gpu.idle_w)
    assert yaml.safe_load(out.read_text())["source"].split(",")[1] == " by duty-cycle"


@pytest.mark.usefixtures("counted")
@pytest.mark.slow
def test_other_settings_are_compared_with_the_first_by_turns(capsys: pytest.CaptureFixture[str]) -> None:
    found = answer_of(capsys, "--at", "1", "--sweep", "batch=8;xla=xla_cpu_enable_fast_math:true")
    swept = found["swept"]["batch 8"]
    assert swept["share"]["median"] == swept["tokens_per_s"]["median"] / found["points"][0]["tokens_per_s"]["median"]
    assert found["swept"]["xla_cpu_enable_fast_math true"]["share"]["median"] > 0.1


@pytest.mark.usefixtures("counted")
@pytest.mark.slow
def test_a_tenth_of_the_time_is_about_a_tenth_of_the_work(capsys: pytest.CaptureFixture[str]) -> None:
    """On a machine of its own; others here may take from any window, hence the middle of five turns."""
    _, part = answer_of(capsys, "--at", "1,0.1", "--windows", "5")["points"]
    assert 0.02 < part["share"]["median"] < 0.5


def test_a_chip_that_slows_down_slows_all_that_are_compared() -> None:
    """By turns, there and back: in one order alone the second would make 1.8 here in place of 2, one after the other
    1.3."""

    class Drifting:
        windows = 0

        def __init__(self, speed: float):
            self.speed = speed

        def run(self, duty: float, seconds: float) -> tuple[float, float, None]:
            Drifting.windows += 1
            return self.speed * 0.95**Drifting.windows, 1.0, None

    slow, fast = measured([Setting(Drifting(1.0), 1.0), Setting(Drifting(2.0), 1.0)], 1.0, 4)  # type: ignore[arg-type]
    assert fast["share"]["median"] == pytest.approx(2.0, rel=0.01)
    assert slow["tokens_per_s"]["least"] < 0.6 * slow["tokens_per_s"]["most"]


def test_where_nothing_counts_energy_it_says_so_and_measures_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BadInput, match=r"nothing here counts its energy .*--throughput_only"):
        main([*SHORT, *TINY])
    found = answer_of(capsys, "--throughput_only", "--at", "1")
    assert "gpu" not in found
    assert "watts" not in found["points"][0]
    assert found["step"]["peak_flops_per_s"] > 1e8


@pytest.mark.usefixtures("counted")
def test_what_is_set_is_put_back(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    card = RecordedNvml()
    monkeypatch.setitem(sys.modules, "pynvml", card)
    answer_of(capsys, "--by", "power-cap", "--at", "300,200", "--throughput_only")
    assert card.calls == [
        *(("limit", "gpu0", 300_000), ("limit", "gpu0", 700_000), ("shutdown",)),
        *(("limit", "gpu0", 200_000), ("limit", "gpu0", 700_000), ("shutdown",)),
    ]
    card.calls.clear()
    answer_of(capsys, "--by", "sm-clock", "--at", "1200", "--throughput_only")
    assert card.calls == [("lock", "gpu0", 1200, 1200), ("unlock", "gpu0"), ("shutdown",)]


@pytest.mark.usefixtures("counted")
def test_without_the_right_to_set_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", RecordedNvml(permitted=False))
    with pytest.raises(BadInput, match="Insufficient Permissions"):
        main(["--by", "power-cap", "--at", "300", *SHORT, *TINY])


def test_less_work_for_more_power_is_no_curve() -> None:
    def point(rate: float, watts: float) -> dict[str, Any]:
        return {"tokens_per_s": {"median": rate}, "share": {"median": rate / 100}, "watts": {"median": watts}}

    answer = {
        "points": [point(100, 300), point(50, 310)],
        "idle_w": {"median": 50.0},
        "by": "duty-cycle",
        "device": "x",
    }
    answer["step"] = {"flops": 1e12, "peak_flops_per_s": 1e14}
    with pytest.raises(RunFailed, match="no rising curve"):
        curve(load(TINY), answer, "")
    for uncounted in ({"idle_w": None}, {"points": [point(100, 300), {"tokens_per_s": {"median": 50}}]}):
        with pytest.raises(RunFailed, match="energy was not counted"):
            curve(load(TINY), answer | uncounted, "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--at", "1,x"], "--at: '1,x': not numbers"),
        (["--at", "2"], "--at: 2: shares of the time"),
        (["--by", "power-cap"], "--at: '': not numbers"),
        (["--sweep", "colour=3"], "--sweep: colour=3: not known"),
        (["--sweep", "batch=0"], "--sweep: batch=0:"),
        (["--sweep", "attention=flash"], "--sweep: attention=flash:"),
        (["--sweep", "xla=fast"], "--sweep: xla=fast: not NAME:VALUE"),
        (["--throughput_only", "--sweep", "xla=xla_of_no_kind:1"], "No such compile option: 'xla_of_no_kind'"),
        (["--throughput_only", "--sweep", "xla=xla_cpu_enable_fast_math:3"], "not a valid bool value"),
        (["--out", "/nowhere/x.yaml"], "there is no folder /nowhere"),
        (["--out", "x" * 300], "File name too long; name another"),
        (["--out", "x.yaml", "--throughput_only"], "without energy there is no curve"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], said: str) -> None:
    with pytest.raises(BadInput) as error:
        main([*arguments, *SHORT, *TINY])
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_what_does_not_fit_into_memory_or_library_says_so_beside_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Card(work.Load):
        def __init__(self, config: Config, *rest: Any) -> None:
            if config.train.batch == 64:
                raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory\n  at some place")
            if config.train.batch == 32:
                raise IndexError
            super().__init__(config, *rest)

    monkeypatch.setattr(work, "Load", Card)
    sweep = ["--throughput_only", "--at", "1", "--sweep", "batch=64,32,8"]
    found = answer_of(capsys, *sweep)["swept"]
    assert found["batch 64"] == {"failed": "RESOURCE_EXHAUSTED: Out of memory"}
    assert found["batch 32"] == {"failed": "IndexError"}
    assert found["batch 8"]["share"]["median"] > 0.0
    assert main([*sweep, *SHORT, *TINY]) == 0
    assert "batch 64: RESOURCE_EXHAUSTED: Out of memory" in capsys.readouterr().out
