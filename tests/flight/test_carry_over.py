"""A launch may be given other figures of satellite, GPU or step: what was measured and saved is told in those."""

import json
from typing import Any

import pytest
from launching import ROOT

from pipeline.config import Config, Refused, load
from pipeline.flight.carry_over import _in_new_units, carry_over
from pipeline.flight.mission import mission
from pipeline.flight.progress import Progress
from pipeline.flight.spacecraft import Spacecraft
from pipeline.power import fresh

THEN = {"now_s": 9000.0}
MEASURED = {"harvest": 0.5, "slowness": 2.0, "draw": 1.1, "rejection": 0.9, "capacity": 0.8}


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
    other = ["--train.log_every", "7", "--satellite.name", "another"]
    other += ["--budget.steps", "7", "--checkpoint.interval_s", "7"]
    progress, craft = carried(*other, "--satellite.radio.usable", "0.5", "--run_dir", "elsewhere")
    assert progress == Progress(**MEASURED, planned_from=THEN, measured_from=THEN, replan_s=12000.0, recount_s=13000.0)
    assert craft.as_json() == Spacecraft(config(), mission(config(), 256), {}).as_json()
    assert carried("--mission.not_before_s", "7")[0] == progress  # which is said of one launch


@pytest.mark.parametrize(
    ("words", "becomes"),
    [
        (["--satellite.array.area_m2", "0.6"], {"harvest": 1.0}),  # given half its area because it gave half
        (["--satellite.battery.capacity_wh", "560"], {"capacity": 1.0}),
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
    assert [getattr(progress, name) for name in MEASURED] == [1.0] * 5


@pytest.mark.parametrize("absorbed_w_m2", ["430", "600"])
def test_a_radiator_of_which_little_or_nothing_is_left_is_not_what_was_measured(absorbed_w_m2: str) -> None:
    progress, _ = carried("--satellite.radiator.absorbed_w_m2", absorbed_w_m2)
    assert 0.7 <= progress.rejection <= 1.3


def test_plate_and_charge_stay_what_they_are() -> None:
    """Enthalpy counts from the melting point; a battery that was thought larger was never fuller than full."""
    _, before = carried()
    other = ["--satellite.radiator.melting_c", "55", "--satellite.radiator.heat_capacity_j_k", "9000"]
    _, after = carried(*other, "--satellite.battery.capacity_wh", "500")
    assert after.telemetry().plate_c == pytest.approx(before.telemetry().plate_c)
    assert before.state.charge_wh > 500.0
    assert after.telemetry().charge == 1.0


def test_what_is_molten_stays_so() -> None:
    then = mission(config("--satellite.radiator.melting_c", "45", "--satellite.radiator.latent_j", "6e5"), 256).plant
    now = mission(config("--satellite.radiator.melting_c", "45", "--satellite.radiator.latent_j", "5e5"), 256).plant
    state = fresh(config().satellite)._replace(heat_j=5.4e5)
    assert _in_new_units(state, then, now).heat_j == pytest.approx(4.5e5)
    for heat_j in (-1e4, 0.0, 6e5, 6.1e5):
        found = _in_new_units(state._replace(heat_j=heat_j), then, now)
        assert now.plate_c(found.heat_j) == pytest.approx(then.plate_c(heat_j))
    assert _in_new_units(state._replace(heat_j=6e5), then, now).heat_j == 5e5


def test_a_plant_of_another_version_is_refused_as_such() -> None:
    before, now = config(), config("--satellite.radiator.heat_capacity_j_k", "9000")
    kept = Spacecraft(before, mission(before, 256), {}).as_json()
    del kept["plant"]["heat_j"]
    with pytest.raises(Refused, match="plant state: heat_j"):
        carry_over(
            Progress(), {"config": before.model_dump(mode="json"), "spacecraft": kept}, now, mission(now, 256), 256
        )
