"""The planner's bench measures what it says, and prints each part."""

import json

import pytest

from pipeline.config import BadInput
from pipeline.ground.bench import main, planner, planner_table


@pytest.mark.slow
def test_percent_of_the_bound_and_its_loss_under_an_error_of_the_sun(capsys: pytest.CaptureFixture[str]) -> None:
    found = planner.percent_of_bound(["december"])
    rows = found["december"]["policies"]
    assert set(rows) == {"dp", "full_power", "efficient_point", "sunlight_only", "constant"}
    assert 100.0 >= rows["dp"]["percent"] >= found["december"]["goal"] > rows["full_power"]["percent"]
    planner_table.show("percent_of_bound", found)
    lost = planner.solar_error(["december"])
    assert lost["december"]["percent"]["+0 %"] == pytest.approx(rows["dp"]["percent"])
    assert 0.0 <= lost["december"]["points_lost"] <= 0.5
    planner_table.show("solar_error", lost)
    printed = capsys.readouterr().out
    assert printed.count("december") == 2
    assert f"{rows['dp']['percent']:.2f}" in printed


def test_random_satellites_that_can_live_are_compared(capsys: pytest.CaptureFixture[str]) -> None:
    found = planner.random_satellites(1)
    (duel,) = found.values()
    assert duel["lead_percent"] >= 0.0
    assert duel["violations"] == 0
    planner_table.show("random_satellites", found)
    assert "lead" in capsys.readouterr().out


def test_noise_counts_what_breaks(capsys: pytest.CaptureFixture[str]) -> None:
    found = planner.noise(0.2, 2, ["iss"], ["starved"])
    assert set(found) == {"iss starved dp", "iss starved full_power"}
    for row in found.values():
        assert row["floor_violations"] == row["temperature_violations"] == row["brown_outs"] == 0
        assert row["least_above_floor_wh"] > 0.0 > row["most_over_limit_k"]
    planner_table.show("noise", found)
    assert "brown-outs" in capsys.readouterr().out


def test_times_are_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    found = planner.orbit()
    assert 0.001 < found["day_at_10_s_s"] < found["year_at_30_s_s"] < 20.0
    planner_table.show("orbit", found)
    scheduler = {
        "plan_a_day_warm_s": {"starved": 0.05},
        "poll_s": {"median": 3e-6, "p99": 5e-6},
        "governor_poll_s": {"median": 4e-5, "p99": 9e-5},
        "look_ahead_s": 1.0,
        "share_percent": 0.02,
        "share_of": "an orbit",
    }
    planner_table.show("scheduler", scheduler)
    assert "share: an orbit" in capsys.readouterr().out


@pytest.mark.slow
def test_the_whole_bench_prints_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["planner", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {
        "provenance", "orbit", "percent_of_bound", "solar_error", "random_satellites", "fine_grid", "scheduler",
    }  # fmt: skip
    for name, goal in planner.GOALS.items():
        assert found["percent_of_bound"][name]["policies"]["dp"]["percent"] >= goal
        assert found["solar_error"][name]["points_lost"] <= 0.5
    assert len(found["random_satellites"]) == 10
    for duel in found["random_satellites"].values():
        assert duel["lead_percent"] >= 0.0
        assert duel["violations"] == 0
    assert found["fine_grid"]["heat-limited"] >= 97.0
    assert found["scheduler"]["share_percent"] < 0.1


@pytest.mark.parametrize("arguments", [["planner", "--noize"], ["planner", "--days", "0"], ["nothing"]])
def test_a_wrong_argument_is_named_in_one_line(arguments: list[str]) -> None:
    with pytest.raises(BadInput) as caught:
        main(arguments)
    assert arguments[-1] in str(caught.value)
    assert "\n" not in str(caught.value)
