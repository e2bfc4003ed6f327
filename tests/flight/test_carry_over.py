"""A launch may be given other figures of satellite, GPU or step: what was measured and saved is told in those."""

import json
from typing import Any

import pytest
from launching import ROOT

from pipeline.config import Config, load
from pipeline.flight.carry_over import carry_over
from pipeline.flight.mission import mission
from pipeline.flight.progress import Progress
from pipeline.flight.spacecraft import Spacecraft

THEN = {"now_s": 9000.0}
MEASURED = {"harvest": 0.5, "slowness": 2.0, "draw": 1.1, "rejection": 0.9}


def config(*words: str) -> Config:
    satellite = ["--satellite", f"{ROOT}/configs/satellites/starved.yaml"]
    return load(["--config", f"{ROOT}/configs/demo.yaml", *satellite, *words])


def carried(*words: str, measured: dict[str, float] = MEASURED) -> tuple[Progress, Spacecraft]:
    """To a launch with `words`, from one without."""
    before, now = config(), config(*words)
    craft = Spacecraft(before, mission(before, 256), {})
    meta: dict[str, Any] = {"config": before.model_dump(mode="json"), "spacecraft": craft.as_json()}
    meta = json.loads(json.dumps(meta))
    progress = Progress(**measured, planned_from=THEN, measured_from=THEN, replan_s=12000.0, recount_s=13000.0)
    scenario = mission(now, 256)
    carry_over(progress, meta, now, scenario, 256)
    return progress, Spacecraft(now, scenario, meta["spacecraft"])


def test_the_same_figures_change_nothing() -> None:
    other = [
        "--budget.steps",
        "7",
        "--checkpoint.interval_s",
        "7",
        "--train.log_every",
        "7",
        "--satellite.name",
        "another",
    ]
    progress, craft = carried(*other, "--satellite.radio.usable", "0.5", "--run_dir", "elsewhere")
    assert progress == Progress(**MEASURED, planned_from=THEN, measured_from=THEN, replan_s=12000.0, recount_s=13000.0)
    assert craft.as_json() == Spacecraft(config(), mission(config(), 256), {}).as_json()


@pytest.mark.parametrize(
    ("words", "becomes"),
    [
        (["--satellite.array.area_m2", "0.6"], {"harvest": 1.0}),  # given half its area because it gave half
        (["--satellite.loads.bus_w", "50"], {}),
        (["--satellite.loads.host_w", "50"], {}),
        (["--mission.step_flops", "1e15"], {"slowness": None}),
        (["--gpu.curve", "[[0, 100], [1, 385]]"], {"draw": 1.0}),
    ],
)
def test_what_was_measured_is_the_same_whatever_it_was_expected_to_be(
    words: list[str], becomes: dict[str, float | None]
) -> None:
    progress, _ = carried(*words)
    expected: dict[str, float | None] = MEASURED | becomes
    if expected["slowness"] is None:  # a step takes as long as it took
        steps_s = [mission(each, 256).step_seconds() for each in (config(), config(*words))]
        expected["slowness"] = 2.0 * steps_s[0] / steps_s[1]
    assert {name: getattr(progress, name) for name in MEASURED} == pytest.approx(expected)
    assert (progress.planned_from, progress.measured_from) == ({}, {})
    assert max(progress.replan_s, progress.recount_s) < 0.0, "what is ahead is looked at anew"


def test_a_radiator_described_as_it_was_measured_does_as_is_planned() -> None:
    area_m2 = config().satellite.radiator.area_m2
    progress, _ = carried("--satellite.radiator.area_m2", str(0.9 * area_m2))
    assert progress.rejection == pytest.approx(1.0)


def test_what_was_not_measured_goes_by_the_figures() -> None:
    words = ["--satellite.array.area_m2", "0.6", "--satellite.radiator.area_m2", "0.4", "--mission.step_flops", "1e15"]
    progress, _ = carried(*words, measured={})
    assert [getattr(progress, name) for name in MEASURED] == [1.0] * 4


def test_plate_and_charge_stay_what_they_are() -> None:
    """Enthalpy counts from the melting point; a battery that was thought larger was never fuller than full."""
    _, before = carried()
    other = ["--satellite.radiator.melting_c", "55", "--satellite.radiator.heat_capacity_j_k", "9000"]
    _, after = carried(*other, "--satellite.battery.capacity_wh", "500")
    assert after.telemetry().plate_c == pytest.approx(before.telemetry().plate_c)
    assert before.state.charge_wh > 500.0
    assert after.telemetry().charge == 1.0
