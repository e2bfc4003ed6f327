"""A machine's clock that is wrong for a moment, is set right, or was wrong when the run was last sealed."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from launching import ROOT, ledger
from test_mission import mission
from variations import slow

from pipeline.config import RunFailed, load
from pipeline.flight.budget import Budget
from pipeline.flight.clock import BEHIND_S, SETTLED_S, RealClock
from pipeline.flight.display import Display
from pipeline.flight.governor import Governor
from pipeline.flight.loop import UNSURE_S, Job
from pipeline.flight.notices import Notices
from pipeline.flight.run import assemble
from pipeline.flight.spacecraft import Spacecraft
from pipeline.ground.history import History
from pipeline.ground.tail import Tail
from pipeline.lm.schedule import NEVER
from pipeline.plan import Mode

DAY_S = 86400.0
REAL = ("--mission.clock", "real")


class Machine:
    """A computer: what passes, and by how much its clock is wrong [s]."""

    def __init__(self) -> None:
        self.passed_s, self.wrong_s = 0.0, 0.0
        self.booted = datetime(2026, 11, 27, 22, 52, tzinfo=UTC)  # in sunlight
        self.time = SimpleNamespace(monotonic=lambda: self.passed_s, sleep=self.wait)

    def wait(self, seconds: float) -> None:
        self.passed_s += seconds

    @property
    def utc(self) -> datetime:
        return self.booted + timedelta(seconds=self.passed_s + self.wrong_s)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()

    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return made.utc

    monkeypatch.setattr("pipeline.flight.clock.datetime", Clock)
    monkeypatch.setattr("pipeline.flight.clock.time", made.time)
    monkeypatch.setattr("pipeline.flight.spacecraft.time", made.time)
    return made


@pytest.fixture
def aboard(machine: Machine, tmp_path: Path) -> Iterator[Any]:
    """Spacecraft, governor, and what appends a reading: by a clock that is wrong by so much, or by the machine's."""
    feed = tmp_path / "eps.jsonl"
    _, craft, governor = mission(*REAL, "--telemetry.source", "file", "--telemetry.path", str(feed))

    def tell(wrong_s: float | None = None) -> None:
        when = machine.utc + timedelta(seconds=0.0 if wrong_s is None else wrong_s - machine.wrong_s)
        with feed.open("a") as file:
            file.write(json.dumps({"time": when.isoformat(), "charge_wh": 990, "temperature_c": 20}) + "\n")

    yield craft, governor, tell
    craft.close()


def pass_time(machine: Machine, seconds: int, each: Callable[[], None]) -> None:
    for _ in range(seconds):
        machine.wait(1.0)
        each()


def off_s(machine: Machine, craft: Spacecraft) -> float:
    """By how much mission time is ahead of what the machine's clock says."""
    return craft.clock.now() - (machine.utc - craft.scenario.timeline.track.utc(0.0)).total_seconds()


def test_a_clock_is_believed_once_it_has_stayed(machine: Machine) -> None:
    clock = RealClock(machine.utc)
    machine.wrong_s = 1.0  # as one that is disciplined gently
    assert clock.strayed_s() == 0.0
    machine.wrong_s = 30 * DAY_S
    for _ in range(int(SETTLED_S) - 1):
        assert clock.strayed_s() == 0.0
        machine.wait(1.0)
    machine.wrong_s = 7.0  # set again: the time begins anew
    assert clock.strayed_s() == 0.0
    machine.wait(SETTLED_S)
    assert clock.strayed_s() == pytest.approx(7.0)
    clock.shift(7.0)
    assert clock.strayed_s() == 0.0
    assert clock.now() == pytest.approx(machine.passed_s + 7.0)


@pytest.mark.parametrize("set_s", [-200.0, 3600.0, 2 * DAY_S])
def test_a_clock_that_is_set_is_followed_either_way(aboard: Any, machine: Machine, set_s: float) -> None:
    """A feed of the same machine is set with it. Set back, it was SAFE for ever: each reading was as old as that."""
    craft, governor, tell = aboard
    modes = []

    def second() -> None:
        tell()
        craft.follow_clock()
        modes.append(governor.poll().reason)

    pass_time(machine, 10, second)
    before, orbits = craft.state, craft.orbits
    machine.wrong_s = set_s
    pass_time(machine, 300, second)
    assert off_s(machine, craft) == pytest.approx(0.0, abs=0.01)
    assert not any(reason.startswith("SAFE") for reason in modes[1:])
    assert craft.orbits - orbits < 0.1, "time that did not pass belongs to no budget"
    assert craft.state.harvest_wh - before.harvest_wh < 300.0, "nor was there light in it"


def test_a_moment_of_wrong_time_is_passed_over(aboard: Any, machine: Machine) -> None:
    craft, _, tell = aboard
    moments = []

    def second() -> None:
        tell(0.0)
        moments.append(craft.follow_clock())

    pass_time(machine, 5, second)
    machine.wrong_s = 30 * DAY_S
    pass_time(machine, int(SETTLED_S) - 2, second)
    machine.wrong_s = 0.0
    pass_time(machine, 200, second)
    assert not any(moments)
    assert off_s(machine, craft) == pytest.approx(0.0, abs=0.01)


@pytest.mark.parametrize("every_s", [1, 90])
@pytest.mark.parametrize("set_s", [-1000.0, 1000.0])
def test_telemetry_that_goes_by_the_time_of_before_is_believed_first(
    aboard: Any, machine: Machine, set_s: float, every_s: int
) -> None:
    craft, governor, tell = aboard
    reasons = []

    def second() -> None:
        if machine.passed_s % every_s == 0:
            tell(0.0)
        craft.follow_clock()
        reasons.append(governor.poll().reason)

    pass_time(machine, 2 * every_s, second)
    machine.wrong_s = set_s
    pass_time(machine, 600, second)
    assert off_s(machine, craft) == pytest.approx(-set_s, abs=0.01)
    assert not any(reason.startswith("SAFE") for reason in reasons[every_s:])
    pass_time(machine, 200, lambda: craft.follow_clock() and None)  # it has fallen silent
    assert off_s(machine, craft) == pytest.approx(0.0, abs=0.01)


def test_a_clock_of_where_the_orbit_is_not_known_is_not_followed(aboard: Any, machine: Machine) -> None:
    craft, _, _ = aboard
    machine.wrong_s = 2000 * DAY_S
    pass_time(machine, 200, lambda: craft.follow_clock() and None)
    assert off_s(machine, craft) == pytest.approx(-2000 * DAY_S, abs=0.01)


def test_a_budget_of_orbits_goes_with_a_clock_that_was_late_at_launch(machine: Machine) -> None:
    """Two days later by the receiver of navigation satellites, it was spent after four steps."""
    machine.wrong_s = -2 * DAY_S
    config, craft, governor = mission(*REAL, "--budget.orbits", "20", "--mission.step_flops", "1e14")
    budget = Budget(config, craft, governor, validation_steps=0.0)
    machine.wrong_s = 0.0
    pass_time(machine, int(SETTLED_S) + 1, lambda: craft.follow_clock() and None)
    assert off_s(machine, craft) == pytest.approx(0.0, abs=0.01)
    assert not budget.over()
    machine.wait(20.0 * craft.scenario.timeline.track.period_s)
    assert budget.over()


@pytest.fixture
def ahead(machine: Machine) -> tuple[Any, Spacecraft, dict[str, Any]]:
    """What a launch sealed whose clock was thirty days ahead; that is set right now."""
    machine.wrong_s = 30 * DAY_S
    config, craft, _ = mission(*REAL)
    machine.wait(500.0)
    craft.catch_up()
    machine.wrong_s = 0.0
    return config, craft, craft.as_json()


def test_a_clock_behind_the_checkpoint_is_waited_for(machine: Machine, ahead: Any) -> None:
    config, craft, saved = ahead
    why = []

    def wait(reason: str) -> None:
        why.append(reason)
        machine.wait(1.0)
        if len(why) == 5:  # it is the one of this launch that was wrong
            machine.wrong_s = 31 * DAY_S

    again = Spacecraft(config, craft.scenario, saved, wait)
    assert len(why) == 5
    assert "this machine's clock is 2592" in why[0]
    assert again.set_back_s == 0.0
    assert off_s(machine, again) == pytest.approx(0.0, abs=0.01)
    assert again.orbits - craft.orbits == pytest.approx(DAY_S / craft.scenario.timeline.track.period_s, rel=0.01)


def test_a_checkpoint_of_a_wrong_clock_is_gone_on_with(machine: Machine, ahead: Any) -> None:
    config, craft, saved = ahead
    waited_from_s = machine.passed_s
    again = Spacecraft(config, craft.scenario, saved, lambda why: machine.wait(1.0))
    assert machine.passed_s - waited_from_s == pytest.approx(BEHIND_S, abs=2.0)
    assert again.set_back_s == pytest.approx(30 * DAY_S - BEHIND_S, abs=2.0)
    assert again.was_dark_since_saved
    assert off_s(machine, again) == pytest.approx(0.0, abs=0.01)
    assert again.now_s == pytest.approx(again.clock.now(), abs=0.01)
    assert again.orbits == pytest.approx(craft.orbits)
    assert again.state == craft.state
    before = again.state.harvest_wh
    machine.wait(2.0 * craft.scenario.timeline.track.period_s)
    again.catch_up()
    assert again.state.harvest_wh > before


def test_the_days_that_one_launch_was_ahead_belong_to_no_budget(machine: Machine) -> None:
    config, first, _ = mission(*REAL)
    machine.wait(500.0)
    first.catch_up()
    machine.wrong_s = 30 * DAY_S
    second = Spacecraft(config, first.scenario, first.as_json())
    assert second.orbits > 400
    machine.wait(500.0)
    second.catch_up()
    machine.wrong_s = 0.0
    third = Spacecraft(config, first.scenario, second.as_json(), lambda why: machine.wait(1.0))
    assert third.started_s == first.started_s
    assert third.orbits < 1.0


def test_days_that_were_given_to_a_budget_are_taken_from_it_again(machine: Machine) -> None:
    config, first, _ = mission(*REAL)
    machine.wait(10 * DAY_S)
    first.catch_up()
    again = Spacecraft(config, first.scenario, first.as_json())
    orbits = again.orbits
    for machine.wrong_s in (3 * DAY_S, 0.0):
        pass_time(machine, 2 * int(SETTLED_S), lambda: again.follow_clock() and None)
    assert off_s(machine, again) == pytest.approx(0.0, abs=0.01)
    assert again.orbits == pytest.approx(orbits, abs=0.1)


def test_telemetry_tells_that_the_clock_of_the_checkpoint_was_wrong(
    machine: Machine, ahead: Any, tmp_path: Path
) -> None:
    _, craft, saved = ahead
    feed, waited = tmp_path / "eps.jsonl", []

    def tell() -> None:
        with feed.open("a") as file:
            file.write(json.dumps({"time": machine.utc.isoformat(), "charge_wh": 700, "temperature_c": 20}) + "\n")

    def wait(why: str) -> None:
        waited.append(why)
        machine.wait(1.0)
        if len(waited) == 7:
            tell()

    tell()  # of a feed that was there before: it may be of before the outage
    config, _, _ = mission(*REAL, "--telemetry.source", "file", "--telemetry.path", str(feed))
    again = Spacecraft(config, craft.scenario, saved, wait)
    assert len(waited) == 7
    assert off_s(machine, again) == pytest.approx(0.0, abs=0.01)
    machine.wait(1.0)
    assert Governor(config, again).poll().reason == "charge allows"
    assert again.state.charge_wh == pytest.approx(700.0, abs=1.0)


def test_a_clock_that_nobody_has_set_is_no_bad_input(machine: Machine) -> None:
    machine.wrong_s = -(machine.booted - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()
    with pytest.raises(RunFailed, match=r"mission\.clock: this machine's clock is 2066. days before orbit\.start"):
        mission(*REAL)
    machine.wrong_s = 2000 * DAY_S
    with pytest.raises(RunFailed, match=r"\d+ days from the epoch of the elements; set the clock"):
        mission(*REAL)


@contextmanager
def launched(words: list[str]) -> Iterator[Job]:
    with ExitStack() as stack:
        notices = Notices(60.0)
        stack.callback(notices.release)
        yield assemble(load(words), notices, Display(quiet=True), stack)


@pytest.fixture
def words(tiny: Path, tmp_path: Path, machine: Machine) -> list[str]:
    """A run until 13 days from now."""
    until = (machine.utc + timedelta(days=13)).isoformat(timespec="seconds")
    budget = ["--budget.orbits", "null", "--budget.until", until]
    return ["--config", str(tiny), "--run_dir", str(tmp_path / "run"), *REAL, "--mission.step_flops", "null", *budget]


@pytest.fixture
def job(words: list[str], machine: Machine) -> Iterator[Job]:
    """It has trained a little."""
    with launched(words) as made:
        for _ in range(20):
            machine.wait(0.5)
            made.turn()
        assert made.progress.step
        yield made


def test_two_seconds_of_a_wrong_date_do_not_end_a_run(job: Job, machine: Machine, tmp_path: Path) -> None:
    """They ended it: the cooldown was decided for good, one step long."""
    planned = job.progress.planned_steps
    for machine.wrong_s in (30 * DAY_S, 0.0):
        for _ in range(4):
            machine.wait(0.5)
            job.turn()
    assert job.progress.cooldown.start == NEVER
    assert not job.budget.spent(job.progress)
    assert job.progress.planned_steps > 0.9 * planned
    assert not ledger(tmp_path / "run", "clock_set")


def wait_past_the_end(job: Job, machine: Machine, seconds: int) -> None:
    for _ in range(seconds):
        machine.wait(1.0)
        job.turn()
        if job.spent():
            break


def test_a_wrong_date_that_lasts_decides_nothing_for_good(job: Job, machine: Machine, tmp_path: Path) -> None:
    machine.wrong_s = 30 * DAY_S
    wait_past_the_end(job, machine, 1000)
    (event,) = ledger(tmp_path / "run", "clock_set")
    assert job.spacecraft.clock.now() - event["mission_s"] == pytest.approx(UNSURE_S, abs=2.0)
    assert job.spent() == "time", "which a launch with the right clock goes on with"
    assert job.progress.cooldown.start == NEVER


def test_a_wrong_date_that_is_set_right_within_ten_minutes_ends_nothing(
    job: Job, machine: Machine, tmp_path: Path
) -> None:
    steps = job.progress.step
    machine.wrong_s = 30 * DAY_S
    wait_past_the_end(job, machine, 300)
    assert job.mode == Mode.OFF
    assert "may yet be set right" in ledger(tmp_path / "run", "mode")[-1]["reason"]
    assert (waited := job.progress.step) < steps + 1000
    machine.wrong_s = 0.0
    wait_past_the_end(job, machine, 300)
    assert not job.spent()
    assert job.progress.step > waited


@pytest.mark.parametrize("right_again", [False, *slow(True)])
def test_a_launch_that_is_past_the_end_waits_for_its_clock(
    words: list[str], machine: Machine, right_again: bool
) -> None:
    with launched(words) as first:
        while not first.progress.step:
            machine.wait(0.5)
            first.turn()
        assert first.save(urgent=True)
    machine.wrong_s = 30 * DAY_S
    with launched(words) as again:
        assert not again.spent()
        wait_past_the_end(again, machine, 100)
        if right_again:
            machine.wrong_s = 0.0
        wait_past_the_end(again, machine, 1000 if not right_again else 200)
        assert (again.spent() is None) == right_again
        assert (again.progress.step > first.progress.step) == right_again
        if not right_again:
            assert again.work()
            again.ledger.append("mirrored")  # the store looks over its copies after that too
    if not right_again:  # it has been waited for: a later launch says so at once
        with launched(words) as third:
            assert third.spent() == "time"


def test_two_clocks_that_take_turns_do_not_put_the_end_off(job: Job, machine: Machine, tmp_path: Path) -> None:
    """GPS and UTC, 18 s apart: each change began ten minutes more."""
    machine.wait(13 * DAY_S - 1800.0 - machine.passed_s)
    for turn in range(8):
        machine.wrong_s = 18.0 * (turn % 2)
        for _ in range(100):
            machine.wait(3.0)
            if not job.spent():
                job.turn()
    assert len(ledger(tmp_path / "run", "clock_set")) >= 2
    assert job.spent() == "time"


def test_a_wait_past_the_end_is_written_down_and_what_was_done_is_sealed(
    job: Job, words: list[str], machine: Machine, tmp_path: Path
) -> None:
    machine.wrong_s = 30 * DAY_S
    wait_past_the_end(job, machine, 100)
    assert job.store.newest_sealed == job.progress.step
    assert ledger(tmp_path / "run", "notice")[-1]["kind"] == "PAST_END"
    job.store.wait(None)
    with launched(words) as again:
        wait_past_the_end(again, machine, 2)
    assert "may yet be set right" in ledger(tmp_path / "run", "mode")[-1]["reason"]
    assert ledger(tmp_path / "run", "mode")[-1]["mission_s"] > ledger(tmp_path / "run", "resume")[-1]["mission_s"]


def test_a_clock_that_is_years_ahead_at_launch_is_not_flown_up_to(machine: Machine) -> None:
    """A week of the GPS rolled over, say: 20 minutes in which no notice was heard."""
    circle = ["--orbit", str(ROOT / "configs" / "orbits" / "sso-ltan-1030.yaml")]
    config, craft, _ = mission(*REAL, *circle)
    machine.wrong_s = 7168 * DAY_S
    began = time.perf_counter()
    again = Spacecraft(config, craft.scenario, craft.as_json())
    assert time.perf_counter() - began < 60.0
    assert again.now_s == pytest.approx(7168 * DAY_S, abs=10.0 + craft.now_s)
    assert again.telemetry().charge > 0.9


def test_a_launch_past_the_end_waits_whatever_was_sealed_meanwhile(words: list[str], machine: Machine) -> None:
    """A stop in the middle of the wait seals by the clock that is wrong."""
    with launched(words) as first:
        for _ in range(20):
            machine.wait(0.5)
            first.turn()
        machine.wrong_s = 30 * DAY_S
        wait_past_the_end(first, machine, 300)
        assert first.save(urgent=True)
    with launched(words) as again:
        assert not again.spent()
        machine.wrong_s = 0.0
        wait_past_the_end(again, machine, 200)
        assert again.progress.step > first.progress.step


def test_a_clock_that_is_set_at_the_last_moment_of_the_wait_is_waited_for(
    job: Job, words: list[str], machine: Machine
) -> None:
    assert job.save(urgent=True)
    machine.wrong_s = 30 * DAY_S
    with launched(words) as again:
        wait_past_the_end(again, machine, int(UNSURE_S) - 20)
        machine.wrong_s = 0.0
        wait_past_the_end(again, machine, 200)
        assert not again.spent()
        assert again.progress.step > job.progress.step


def test_a_run_without_a_step_waits_past_its_end_too(words: list[str], machine: Machine) -> None:
    """It ended at once: not one step fits, bad input."""
    with launched(words) as first:
        assert first.save(urgent=True)
    machine.wrong_s = 30 * DAY_S
    with launched(words) as again:
        wait_past_the_end(again, machine, 100)
        assert not again.spent()
        wait_past_the_end(again, machine, 1000)
        assert again.spent() == "time"


def test_a_report_takes_no_time_for_passed_that_the_clock_was_set_by(
    job: Job, machine: Machine, tmp_path: Path
) -> None:
    machine.wrong_s = -DAY_S
    for _ in range(int(2 * SETTLED_S)):
        machine.wait(1.0)
        job.turn()
    history = History().read(Tail(tmp_path / "run" / "ledger.jsonl").read())
    assert 100.0 < history.length_s < 200.0
    assert (np.diff(history.telemetry["mission_s"]) >= 0.0).all()
    assert sum(end - start for start, end, _ in history.spans()) == pytest.approx(history.length_s)


def test_a_clock_that_stays_set_is_planned_with_and_written_down(job: Job, machine: Machine, tmp_path: Path) -> None:
    machine.wrong_s = -DAY_S
    for _ in range(int(2 * SETTLED_S)):
        machine.wait(1.0)
        job.turn()
    (event,) = ledger(tmp_path / "run", "clock_set")
    assert event["seconds"] == pytest.approx(-DAY_S, abs=1.0)
    assert ledger(tmp_path / "run", "plan")[-1]["why"] == "the clock was set"
    assert job.budget._end_s - job.spacecraft.now_s == pytest.approx(14 * DAY_S, rel=0.01)
    telemetry = ledger(tmp_path / "run", "telemetry")
    assert telemetry[-1]["mission_s"] < event["mission_s"] + DAY_S
    assert telemetry[-1]["wall"] > event["wall"]
