"""The revolution ahead is predicted, a satellite that strays from it is looked at again, and what it shows learnt."""

import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from launching import ROOT
from test_mission import mission, obey

from pipeline.flight.budget import Budget
from pipeline.flight.governor import PIECES, Governor
from pipeline.flight.notices import SAFE, Interrupted
from pipeline.flight.outlook import OFF_PACE_S, SOONEST_S, Outlook
from pipeline.flight.progress import Measured, Progress
from pipeline.flight.spacecraft import Spacecraft
from pipeline.plan.stops import NOTICE_S

STARVED = ["--satellite", f"{ROOT}/configs/satellites/starved.yaml"]


def flown(*overrides: str, orbits: float = 1.9) -> tuple[Progress, list[tuple[float, str]]]:
    """How the looks of a flight ended, and when and why each came."""
    _, craft, governor = mission(*STARVED, *overrides)
    progress, looks = Progress(), []
    outlook = Outlook(craft, governor, progress)
    while craft.orbits < orbits:
        if why := outlook.due():
            looks.append((craft.clock.now(), why))
            outlook.look()
        obey(craft, governor.poll())
    return progress, looks


def test_a_satellite_that_does_as_predicted_is_looked_at_once_a_revolution() -> None:
    progress, looks = flown()
    assert [why for _, why in looks] == ["launch", "a revolution has passed"]
    assert progress.harvest == 1.0


@pytest.mark.parametrize("error", [-0.1, 0.1])
def test_what_the_array_gives_less_or_more_is_learnt(error: float) -> None:
    progress, _ = flown("--mission.harvest_error", str(error), orbits=3.0)
    assert progress.harvest == pytest.approx(1.0 + error, abs=0.03)


@pytest.mark.parametrize("satellite", ["rich", "starcloud-1"])
def test_an_array_that_gives_half_is_learnt_although_charge_strays_at_once(satellite: str) -> None:
    other = ["--satellite", f"{ROOT}/configs/satellites/{satellite}.yaml"]
    progress, _ = flown(*other, "--mission.harvest_error", "-0.5", orbits=3.0)
    assert progress.harvest == pytest.approx(0.5, abs=0.03)


def test_a_stop_for_low_charge_is_a_measure_of_the_array_and_another_is_not() -> None:
    _, craft, governor = mission(*STARVED)
    progress = Progress()
    outlook = Outlook(craft, governor, progress)
    outlook.look()
    charged = craft.state
    craft.state = charged._replace(charge_wh=craft.scenario.plant.floor_wh - 1.0)
    assert governor.poll().reason.startswith(f"{SAFE}: charge")
    outlook.interrupted()
    assert progress.planned_from
    craft.state = charged._replace(heat_j=craft.scenario.plant.heat_at(500.0))
    assert governor.poll().reason.startswith(f"{SAFE}: ")
    outlook.interrupted()
    assert not progress.planned_from


def test_an_array_on_which_the_bus_alone_would_not_live_does_not_end_the_run() -> None:
    """There is no plan for it: it is flown by the last that there is, and by the watchdog."""
    progress, looks = flown("--mission.harvest_error", "-0.9", orbits=4.0)
    assert len(looks) > 4
    assert 0.1 < progress.harvest < 0.5  # as far as there is a plan
    _, craft, governor = mission(*STARVED)
    progress = Progress(harvest=0.1)
    Outlook(craft, governor, progress).look()
    assert progress.harvest == 1.0
    # At a launch under other elements, with what was still enough under those of before.
    _, _, governor = mission(*STARVED)
    assert governor.correct(Measured(harvest=0.1, rejection=1.1, capacity=0.9)) == Measured()
    known = Measured(harvest=0.5, rejection=0.9, capacity=0.95)
    assert governor.correct(known) == known
    assert governor.correct(Measured(harvest=0.1, draw=1.2)) == known._replace(draw=1.2)
    assert governor.rule.scenario == governor.corrected
    assert governor.corrected.draw == 1.2


@pytest.mark.parametrize(("lost", "why"), [({"charge_wh": 60.0}, "charge is"), ({"heat_j": -2e5}, "plate is")])
def test_one_that_strays_from_its_band_is_looked_at_again(lost: dict[str, float], why: str) -> None:
    _, craft, governor = mission(*STARVED)
    outlook = Outlook(craft, governor, Progress())
    for slot in range(200):
        if outlook.due():
            outlook.look()
        if slot == 150:  # what no plan knew of
            changed = {name: getattr(craft.state, name) - amount for name, amount in lost.items()}
            craft.state = craft.state._replace(**changed)
            assert str(outlook.due()).startswith(why)
        obey(craft, governor.poll())


def test_looks_never_follow_each_other_closely() -> None:
    _, looks = flown("--mission.harvest_error", "-0.5", orbits=3.0)
    moments = [moment for moment, _ in looks]
    assert all(later - sooner >= SOONEST_S for sooner, later in pairwise(moments))


def test_the_next_stop_is_when_power_is_given_up() -> None:
    _, craft, governor = mission(*STARVED)
    outlook = Outlook(craft, governor, Progress())
    outlook.due()
    outlook.look()
    predicted = outlook.next_stop()
    assert predicted is not None
    while (directive := governor.poll()).notice is None:
        obey(craft, directive)
    assert craft.clock.now() == predicted.time_s
    assert directive.notice.kind == predicted.kind.name
    assert directive.notice.seconds_left == NOTICE_S >= 20.0


def test_an_outlook_taken_up_again_predicts_the_same() -> None:
    config, craft, governor = mission(*STARVED, "--mission.harvest_error", "-0.1")
    progress = Progress()
    outlook = Outlook(craft, governor, progress)
    for _ in range(700):
        if outlook.due():
            outlook.look()
        obey(craft, governor.poll())
    saved = json.loads(json.dumps([craft.as_json(), progress.as_json()]))
    again, progress = Spacecraft(config, craft.scenario, saved[0]), Progress.from_json(saved[1])
    second = Governor(config, again)
    second.correct(progress.measured)
    assert Outlook(again, second, progress).next_stop() == outlook.next_stop()


def test_a_measurement_under_way_is_taken_up_again_to_the_bit() -> None:
    """Of an array that gives so little that the satellite is looked at before its harvest can be measured."""
    config, craft, governor = mission(*STARVED, "--mission.harvest_error", "-0.5")
    progress = Progress()
    outlook = Outlook(craft, governor, progress)

    def fly(craft: Spacecraft, governor: Governor, outlook: Outlook) -> None:
        if outlook.due():
            outlook.look()
        obey(craft, governor.poll())

    while progress.measured_from == progress.planned_from:
        fly(craft, governor, outlook)
    saved = json.loads(json.dumps([craft.as_json(), progress.as_json()]))
    again, second = Spacecraft(config, craft.scenario, saved[0]), Progress.from_json(saved[1])
    its = Governor(config, again)
    its.correct(second.measured)
    taken_up = Outlook(again, its, second)
    while craft.orbits < 2.5:
        fly(craft, governor, outlook)
        fly(again, its, taken_up)
    assert second == progress
    assert progress.harvest < 0.8


def on_a_real_clock(budget_s: float) -> tuple[Spacecraft, Governor, Outlook, Budget, Progress]:
    """A run that may last `budget_s`, and has looked ahead once."""
    until = (datetime.now(UTC) + timedelta(seconds=budget_s)).isoformat(timespec="seconds")
    words = ["--mission.clock", "real", "--mission.restart_s", "0", "--mission.step_flops", "2e13"]
    words += ["--budget.orbits", "null", "--budget.until", until]
    config, craft, governor = mission(*words)
    progress = Progress()
    outlook, budget = Outlook(craft, governor, progress), Budget(config, craft, governor, validation_steps=0.0)
    outlook.look()
    budget.replan(progress)
    return craft, governor, outlook, budget, progress


def work(craft: Spacecraft, governor: Governor, pieces: int, slowness: float) -> None:
    cap_w = craft.scenario.curve.full_w
    for _ in range(pieces):
        governor.report(1.0, slowness * craft.scenario.step_seconds(cap_w), cap_w)


def test_steps_that_take_longer_than_planned_are_planned_with_within_a_revolution(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A budget of half an hour would end before its cooldown began."""
    craft, governor, outlook, budget, progress = on_a_real_clock(1800.0)
    planned = progress.planned_steps
    work(craft, governor, PIECES, slowness=3.0)
    assert outlook.due() is None, "not at once again"
    later_s = craft.clock.now() + OFF_PACE_S
    monkeypatch.setattr(craft.clock, "now", lambda: later_s)
    assert outlook.due() == "a step takes 3 times as long as planned"
    outlook.look()
    budget.replan(progress)
    assert progress.planned_steps == pytest.approx(planned / 3.0, rel=0.1)
    assert outlook.due() is None


def test_a_piece_that_stalls_changes_no_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    craft, governor, outlook, _, _ = on_a_real_clock(1800.0)
    later_s = craft.clock.now() + OFF_PACE_S
    monkeypatch.setattr(craft.clock, "now", lambda: later_s)
    work(craft, governor, PIECES, slowness=1.0)
    work(craft, governor, 1, slowness=1000.0)
    assert governor.slowness == pytest.approx(1.0)
    assert governor._fitting(craft.scenario.curve.full_w) == 1, "but the charge is looked at sooner at once"
    assert outlook.due() is None


def test_a_notice_while_a_look_is_taken_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    *_, budget, progress = on_a_real_clock(1800.0)
    planned = progress.planned_steps

    def notice() -> None:
        raise Interrupted("SIGTERM")

    monkeypatch.setattr(budget, "_ahead", lambda progress: notice())
    with pytest.raises(Interrupted):
        budget.replan(progress)
    assert progress.planned_steps == planned
