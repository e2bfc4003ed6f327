"""`train.py plan` answers in figures, in a table and in a picture, and refuses what it cannot plan in one line."""

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipeline.config import BadInput, load
from pipeline.ground import plan_budget
from pipeline.ground.plan import launched_now, main
from pipeline.orbit import Timeline, track
from pipeline.power import Ambient, Simulator

CONFIG = Path(__file__).parents[2] / "configs" / "demo.yaml"
SHORT = ["--config", str(CONFIG), "--days", "0.25", "--satellite", str(CONFIG.parent / "satellites" / "rich.yaml")]


def test_json_has_every_figure(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SHORT, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    orbit = answer["orbit"]
    assert {"period_min", "sunlit_fraction", "eclipse_min_mean", "eclipse_min_max", "eclipses"} <= set(orbit)
    assert orbit["period_min"] == pytest.approx(94.6, abs=0.1)
    assert 20.0 < orbit["eclipse_min_mean"] <= orbit["eclipse_min_max"] < 40.0
    assert all(eclipse["start_s"] < eclipse["end_s"] for eclipse in orbit["eclipses"])
    assert set(answer["forecast"]) == {"steps", "tokens", "train_wh", "harvest_wh", "finish", "finish_s"}
    dates = answer["forecast"].pop("finish")
    assert dates["p5"] <= dates["p50"] <= dates["p95"]
    assert datetime.fromisoformat(dates["p5"]).utcoffset() == timedelta(0)
    for spread in answer["forecast"].values():
        assert 0.0 < spread["p5"] <= spread["p50"] <= spread["p95"]
    assert set(answer["policies"]) == {"dp", "full_power", "efficient_point", "sunlight_only", "constant"}
    upper = answer["bound"]["upper_steps"]
    assert 0.0 < answer["bound"]["feasible_steps"] <= upper
    for row in answer["policies"].values():
        assert row["percent_of_bound"] == pytest.approx(100.0 * row["steps"] / upper)
        assert row["floor_violations"] == row["temperature_violations"] == 0
        assert {"restarts", "min_charge_wh", "max_temperature_c", "discharge_wh"} <= set(row)
        assert row["steps"] <= answer["policies"]["dp"]["steps"]
    assert answer["provenance"] == "modelled"
    assert answer["samples"] == {"drawn": 64, "unfinished": 0}


def test_planned_stops_are_told_with_the_time_by_which_they_are_sealed(capsys: pytest.CaptureFixture[str]) -> None:
    starved = ["--satellite", str(CONFIG.parent / "satellites" / "starved.yaml")]
    assert main(["--config", str(CONFIG), "--days", "0.25", *starved, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert len(answer["notices"]) >= answer["policies"]["dp"]["restarts"] - 1 > 0
    times_s = [notice["time_s"] for notice in answer["notices"]]
    assert times_s == sorted(times_s)
    shadows = [(eclipse["start_s"], eclipse["end_s"]) for eclipse in answer["orbit"]["eclipses"]]
    for notice in answer["notices"]:
        assert notice["save_s"] == notice["time_s"] + notice["seconds_left"] > notice["time_s"]
        in_shadow = any(start_s - 60.0 <= notice["time_s"] <= end_s for start_s, end_s in shadows)
        assert notice["kind"] == ("UMBRA" if in_shadow else "LOW_CHARGE")


def test_a_larger_array_on_the_same_line_buys_more(capsys: pytest.CaptureFixture[str]) -> None:
    steps = []
    for area_m2 in ("1.2", "2.4"):
        main([*SHORT, "--json", "--satellite.array.area_m2", area_m2])
        steps.append(json.loads(capsys.readouterr().out)["policies"]["dp"]["steps"])
    assert steps[1] > 1.1 * steps[0]


def test_without_days_it_plans_until_a_counted_budget_is_spent(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(CONFIG), "--budget.orbits", "null", "--budget.steps", "1500", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    drawn = answer["forecast"]
    assert set(drawn["steps"].values()) == {1500.0}
    assert drawn["finish_s"]["p5"] <= drawn["finish_s"]["p95"]
    assert answer["duration_s"] == pytest.approx(drawn["finish_s"]["p50"], abs=60.0)
    assert answer["policies"]["dp"]["steps"] == pytest.approx(1500.0, rel=0.02)


def test_a_budget_that_is_not_spent_in_time_is_said_to_be_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(plan_budget, "LONGEST_DAYS", 0.25)
    main(["--config", str(CONFIG), "--budget.orbits", "null", "--budget.steps", "100000"])
    assert "64 of 64 flights under errors do not spend the budget" in capsys.readouterr().out


def test_on_a_real_clock_it_plans_for_a_launch_now() -> None:
    """The array is as old then as the flight will take it to be, which counts from the epoch of the elements."""
    asked = load(["--config", str(CONFIG), "--mission.clock", "real"])
    config = launched_now(asked)
    now = datetime.now(UTC)
    assert abs(track(config.orbit).seconds(now)) < 120.0
    then_s = track(asked.orbit).seconds(now)
    begun, flown = (Simulator(one.satellite, Timeline(track(one.orbit))) for one in (config, asked))
    sunlit = Ambient(0.0, 1.0, 1361.0, 0.0)
    assert then_s > 100 * 86400.0
    assert begun.plant.array_w(sunlit) == pytest.approx(flown.plant.array_w(sunlit._replace(time_s=then_s)), rel=1e-6)
    assert begun.plant.array_w(sunlit) < 0.999 * flown.plant.array_w(sunlit)


def test_the_table_and_the_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "plan.png"
    assert main([*SHORT, "--out", str(picture)]) == 0
    printed = capsys.readouterr().out
    assert "optimal plan" in printed
    assert "modelled" in printed
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--days", "0"], "--days: '0'"),
        (["--days", "1000"], "at most 60"),
        (["--out", "plan.jpg"], "plan.jpg"),
        (["--out", "no/such/folder/plan.png"], "no/such/folder"),
        (["--satellite.battery.capacity_wh", "60"], "satellite.battery"),
        (["--satellite.battery.initial_charge", "0.6"], "satellite.battery.initial_charge: 0.6"),
        (["--mission.step_flops", "2.6e16", "--days", "1"], "mission.step_flops: 2.6e+16: a step takes"),
        (["--dayz", "3"], "dayz"),
    ],
)
def test_bad_input_is_one_line_that_names_it(words: list[str], named: str) -> None:
    with pytest.raises(BadInput) as caught:
        main(["--config", str(CONFIG), *words])
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(BadInput, match="notebooks"):
        main([*SHORT, "--out", "plan.png"])
