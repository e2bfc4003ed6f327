"""The satellite beside the job: the flight does what the plan said, and the budget ends where it should."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from launching import ROOT, finish, ledger
from variations import slow

import train
from pipeline.checkpoint import Store
from pipeline.config import Config, load
from pipeline.flight.budget import Budget
from pipeline.flight.corruption import outlier_steps
from pipeline.flight.governor import Directive, Governor
from pipeline.flight.progress import Measured, Progress
from pipeline.flight.spacecraft import Spacecraft
from pipeline.lm import step
from pipeline.lm.schedule import NEVER, Cooldown
from pipeline.orbit.timeline import DAY_S
from pipeline.plan import Mode, forecast, scenario
from pipeline.plan.forecast import SLOT_S
from pipeline.plan.payload import ROUNDING


def mission(*overrides: str) -> tuple[Config, Spacecraft, Governor]:
    config = load(["--config", str(ROOT / "configs" / "demo.yaml"), *overrides])
    plan = scenario(config.orbit, config.satellite, config.gpu, config.mission, 1e9)
    craft = Spacecraft(config, plan, {})
    return config, craft, Governor(config, craft)


def obey(craft: Spacecraft, directive: Directive) -> int:
    """The loop's own calls, without the learning; returns steps taken."""
    craft.obey(directive.mode, directive.cap_w, directive.deadline_s, directive.chunk_steps)
    steps = int(craft.granted + ROUNDING)
    craft.worked(steps)
    return steps


def fly(craft: Spacecraft, governor: Governor, orbits: float) -> int:
    """Steps taken."""
    steps = 0
    while craft.orbits < orbits:
        steps += obey(craft, governor.poll())
    return steps


def test_power_given_up_at_the_limit_of_the_junction_is_told_as_heat() -> None:
    hot = ["--satellite.array.area_m2", "6", "--satellite.battery.capacity_wh", "5000"]
    _, craft, governor = mission(*hot, "--satellite.radiator.junction_k_w", "0.15", "--mission.policy", "full-power")
    while not (directive := governor.poll()).notice:
        obey(craft, directive)
    assert directive.reason == "cooling down"


@pytest.mark.parametrize("policy", ["full-power", "optimal"])
@pytest.mark.parametrize("satellite", ["starcloud-1", "starved", "rich", "heat-limited"])
@pytest.mark.parametrize("orbit", ["starcloud-1", *slow("sso-ltan-1030", "iss")])
def test_the_flight_is_the_forecast(orbit: str, satellite: str, policy: str) -> None:
    """Charge, steps and energy slot by slot, with steps of 9.8 s that fit no slot."""
    parts = [f"{ROOT}/configs/orbits/{orbit}.yaml", f"{ROOT}/configs/satellites/{satellite}.yaml"]
    config, craft, governor = mission("--orbit", parts[0], "--satellite", parts[1], "--mission.policy", policy)
    ahead = forecast(craft.scenario, governor.rule, craft.state, horizon_s=4 * craft.scenario.timeline.track.period_s)
    steps, charges_wh = 0, []
    while craft.orbits < 4:
        steps += obey(craft, governor.poll())
        charges_wh.append(craft.state.charge_wh)
    assert steps == ahead.trace.steps[-1]
    assert craft.train_wh == pytest.approx(ahead.trace.train_wh[-1], rel=1e-9)
    np.testing.assert_allclose(charges_wh, ahead.trace.charge_wh, rtol=1e-9)
    battery = config.satellite.battery
    assert min(charges_wh) >= battery.capacity_wh * (1 - battery.depth_of_discharge)
    assert craft.state.unserved_wh == 0.0


@pytest.mark.parametrize("satellite", ["starcloud-1", "starved"])
def test_the_optimal_policy_makes_more_steps_than_full_power(satellite: str) -> None:
    steps = {}
    for policy in ("full-power", "optimal"):
        parts = ["--satellite", f"{ROOT}/configs/satellites/{satellite}.yaml", "--mission.policy", policy]
        _, craft, governor = mission(*parts)
        steps[policy] = fly(craft, governor, 4)
    assert steps["optimal"] > 1.05 * steps["full-power"]


def test_power_given_up_is_sealed_first_and_only_once() -> None:
    _, craft, governor = mission("--satellite", f"{ROOT}/configs/satellites/starved.yaml")
    seen = []
    while craft.orbits < 2:
        directive = governor.poll()
        seen.append((directive.mode, directive.notice))
        obey(craft, directive)
    stops = [i for i in range(1, len(seen)) if seen[i][0] == Mode.OFF and seen[i - 1][0] != Mode.OFF]
    assert stops
    assert [i for i, (_, notice) in enumerate(seen) if notice] == stops


@pytest.mark.parametrize("policy", ["full-power", "optimal"])
def test_a_poll_takes_less_than_fifty_microseconds(policy: str) -> None:
    """Telemetry and watchdog included, at the 99th percentile. A chunk of steps takes 10 ms and more."""
    import time

    _, _, governor = mission("--mission.policy", policy)
    governor.poll()
    tails = []
    for _ in range(20):
        took = []
        for _ in range(500):
            began = time.perf_counter()
            governor.poll()
            took.append(time.perf_counter() - began)
        tails.append(np.percentile(took, 99))
    assert min(tails) < 50e-6


def test_a_spacecraft_taken_up_again_goes_on_to_the_bit() -> None:
    config, whole, governor = mission()
    _, first, first_governor = mission()
    fly(first, first_governor, 0.7)
    saved = json.loads(json.dumps(first.as_json()))
    second = Spacecraft(config, first.scenario, saved)
    fly(second, Governor(config, second), 1.5)
    fly(whole, governor, 1.5)
    assert second.as_json() == whole.as_json()


def planned(budget: Budget) -> int:
    progress = Progress()
    budget.replan(progress)
    return progress.planned_steps


@pytest.mark.parametrize(
    ("overrides", "steps"),
    [
        (["--budget.orbits", "null", "--budget.steps", "77"], 77),
        (["--budget.orbits", "null", "--budget.tokens", "7681"], 11),  # 768 tokens a step: ten are too few
        (["--budget.steps", "77"], 77),  # the first limit reached
    ],
)
def test_counted_budgets_are_exact(overrides: list[str], steps: int) -> None:
    config, craft, governor = mission(*overrides)
    budget = Budget(config, craft, governor, validation_steps=10.0)
    assert planned(budget) == steps
    assert budget.spent(Progress(step=steps)) == "steps"
    assert budget.spent(Progress(step=steps - 1)) is None


@pytest.mark.parametrize(("key", "amount"), [("orbits", 2.0), ("wh", 400.0)])
def test_twice_the_orbits_or_energy_buys_about_twice_the_steps(key: str, amount: float) -> None:
    totals = []
    for given in (amount, 2 * amount):
        config, craft, governor = mission("--budget.orbits", "null", f"--budget.{key}", str(given))
        totals.append(planned(Budget(config, craft, governor, validation_steps=0.0)))
    assert totals[1] == pytest.approx(2 * totals[0], rel=0.1)


def test_validation_is_paid_for_out_of_the_budget() -> None:
    config, craft, governor = mission()
    free = planned(Budget(config, craft, governor, validation_steps=0.0))
    paid = planned(Budget(config, craft, governor, validation_steps=30.0))
    rounds = paid // config.train.eval_every + 1  # and once at the end
    assert paid == pytest.approx(free - 30 * rounds, abs=1)


def test_replays_of_steps_that_are_over_are_not_paid_for_again() -> None:
    budget = Budget(*mission("--train.replay_every", "10", "--train.eval_every", "1000"), validation_steps=0.0)
    assert budget._overhead(0, 200) == 20
    assert budget._overhead(100, 200) == 10


def test_a_margin_is_kept_back_of_what_is_not_counted_in_steps() -> None:
    none, fifth = (
        planned(Budget(*mission("--budget.margin", margin), validation_steps=0.0)) for margin in ("0", "0.2")
    )
    assert fifth == pytest.approx(0.8 * none, rel=0.02)


@pytest.mark.parametrize(("policy", "bus_w"), [("optimal", 180), *slow(("full-power", 200))])
def test_a_season_in_which_the_bus_alone_drains_the_battery_is_held_through(policy: str, bus_w: int) -> None:
    """By the harvest that was learnt in spring there is no plan for June: that ended the run, at every launch anew."""
    words = ["--orbit", f"{ROOT}/configs/orbits/sso-550-dawn-dusk.yaml", "--orbit.start", "2027-05-15T00:00:00Z"]
    words += ["--satellite", f"{ROOT}/configs/satellites/starved.yaml", "--satellite.loads.bus_w", str(bus_w)]
    words += ["--budget.orbits", "null", "--budget.until", "2027-06-08T00:00:00Z", "--mission.step_flops", "2.6e15"]
    config, craft, governor = mission(*words, "--mission.policy", policy)
    governor.correct(Measured(harvest=0.73))
    budget, progress = Budget(config, craft, governor, validation_steps=0.0), Progress()
    days = np.diff(budget._ahead(progress).trace.steps[:: round(DAY_S / SLOT_S)])
    assert days[0] > 300.0
    assert days[-1] == 0.0, "the control: a day without a plan"
    budget.replan(progress)
    assert progress.planned_steps > 300


def test_a_run_plans_as_far_as_its_elements_go() -> None:
    """A budget of energy looks a year ahead: three years after the elements' epoch that ended the run."""
    config, craft, governor = mission("--budget.orbits", "null", "--budget.wh", "1e9", "--mission.step_flops", "2.6e15")
    craft._until_s = 990 * DAY_S
    craft.clock.spend(990 * DAY_S)
    ahead = Budget(config, craft, governor, validation_steps=0.0)._ahead(Progress())
    assert ahead.ended_by == "elements"
    assert 995 * DAY_S < ahead.end_s <= 1000 * DAY_S
    assert ahead.steps > 1000.0


@pytest.mark.parametrize(("clock", "given", "held_w"), [
    ("simulated", [], 0.0),
    ("simulated", ["--satellite.loads.hold_w", "30"], 30.0),
    ("real", [], 60.0 + 80.0),
    ("real", ["--satellite.loads.hold_w", "0"], 0.0),
])  # fmt: skip
def test_what_nobody_switches_off_is_in_the_books(clock: str, given: list[str], held_w: float) -> None:
    _, craft, _ = mission("--mission.clock", clock, *given, "--gpu.idle_w", "60", "--satellite.loads.host_w", "80")
    before, begun_s = craft.state, craft.now_s
    craft.obey(Mode.OFF, 0.0, begun_s + 2.0, 0)
    drawn_w = (craft.state.payload_wh - before.payload_wh) * 3600.0 / (craft.now_s - begun_s)
    assert drawn_w == pytest.approx(held_w / 0.93, rel=0.02)


def test_a_far_end_is_counted_anew_after_a_hundredth_of_the_time_to_it() -> None:
    config, craft, governor = mission("--budget.orbits", "250")
    budget, progress = Budget(config, craft, governor, validation_steps=0.0), Progress()
    period_s = craft.scenario.timeline.track.period_s
    assert budget.due(progress)
    expected = budget.expectation(progress)["steps"]
    assert progress.planned_steps == expected > 0  # so that it is not flown a second time
    waited = []
    for _ in range(3):
        craft.clock.spend(period_s)
        waited.append(budget.due(progress))
    assert waited == [False, False, True]
    progress.cooldown = Cooldown(1, 2)
    budget.replan(progress)
    budget.expectation(progress)
    assert progress.planned_steps == 2


def test_no_end_is_foreseen_that_is_further_away_than_is_looked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cooldown began at three fifths of what had passed and was looked at: years before a date four years off."""
    config, craft, governor = mission("--budget.orbits", "100")
    budget, progress = Budget(config, craft, governor, validation_steps=0.0), Progress()
    budget.replan(progress)
    in_view = progress.planned_steps
    monkeypatch.setattr("pipeline.flight.budget.HORIZON_S", 20.0 * craft.scenario.timeline.track.period_s)
    budget.replan(progress)
    assert progress.planned_steps == NEVER
    assert progress.foreseen_steps is None
    progress.step = int(0.9 * in_view)
    assert progress.step < budget.cooldown_start(progress.planned_steps)
    craft.obey(Mode.OFF, 0.0, 90.0 * craft.scenario.timeline.track.period_s, 0)
    budget.replan(progress)
    assert progress.foreseen_steps == pytest.approx(in_view, rel=0.02)


def test_what_was_counted_once_is_not_counted_by_what_is_expected() -> None:
    """A launch that has lost plan.json would move the next count."""
    config, craft, governor = mission("--budget.orbits", "20")
    budget, progress = Budget(config, craft, governor, validation_steps=0.0), Progress()
    budget.replan(progress)
    craft.clock.spend(1000.0)
    before = replace(progress)
    budget.expectation(progress)
    assert progress == before


def test_what_stood_out_so_far_is_kept_back_for_what_will() -> None:
    config, craft, governor = mission()
    budget, quiet = Budget(config, craft, governor, validation_steps=0.0), Progress(step=100)
    spiky = Progress(step=100, spikes=4)
    for progress in (quiet, spiky):
        budget.replan(progress)
    each, few, many = outlier_steps(governor.capacity), 1.0, 1.0 + 0.04 * (quiet.planned_steps - 100)
    more = each * (many + 2.0 * many**0.5 - few - 2.0 * few**0.5)
    assert quiet.planned_steps - spiky.planned_steps == pytest.approx(more, rel=0.05)


def test_a_budget_of_few_steps_is_not_all_kept_back() -> None:
    config, craft, governor = mission("--budget.orbits", "null", "--budget.wh", "15")
    steps = int(15.0 * 3600.0 / (craft.scenario.curve.full_w * craft.scenario.step_seconds()))
    assert 0 < steps < 3 * outlier_steps(governor.capacity)
    assert planned(Budget(config, craft, governor, validation_steps=0.0)) >= steps // 3


def test_the_cooldown_ends_on_the_last_step_and_is_written_down_once(
    tiny: Path, tmp_path: Path, nothing_stands_out: None
) -> None:
    run = tmp_path / "run"
    assert train.main(["--config", str(tiny), "--run_dir", str(run), "--json"]) == 0
    (cooldown,), (done,) = ledger(run, "cooldown"), ledger(run, "done")
    assert (cooldown["end"], done["spent"]) == (done["step"], "steps")
    assert done["orbits"] == pytest.approx(1.5, abs=0.1)
    assert done["orbits"] <= 1.5
    rates = {event["at"]: event["rate"] for event in ledger(run, "step")}
    length = cooldown["end"] - cooldown["start"]
    for at, rate in rates.items():
        expected = min(at / 100, (cooldown["end"] - at + 1) / length, 1.0)
        assert rate == pytest.approx(expected, abs=1e-6), at


def test_however_much_stands_out_the_cooldown_ends_within_the_budget(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.flight.corruption.NORM_LIMIT", 5.0)
    run = tmp_path / "run"
    assert train.main(["--config", str(tiny), "--run_dir", str(run), "--json"]) == 0
    (cooldown,), (done,) = ledger(run, "cooldown"), ledger(run, "done")
    assert len(ledger(run, "spike")) > 5
    assert (cooldown["end"], done["spent"]) == (done["step"], "steps")
    assert done["orbits"] <= 1.5


def test_a_run_until_a_date_is_done_by_then(tiny: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    until = ["--budget.orbits", "null", "--budget.until", "2026-07-26T05:30Z", "--checkpoint.interval_s", "600"]
    assert train.main(["--config", str(tiny), "--run_dir", str(run), *until, "--json"]) == 0
    track = mission()[1].scenario.timeline.track
    (cooldown,), (done,) = ledger(run, "cooldown"), ledger(run, "done")
    assert (cooldown["end"], done["spent"]) == (done["step"], "steps")
    assert track.utc(done["mission_s"]) <= datetime(2026, 7, 26, 5, 30, tzinfo=UTC)


def test_a_last_step_that_cannot_be_sealed_is_not_called_done(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Store, "_shortage", lambda store, size: "the disk is full")
    arguments = ["--config", str(tiny), "--run_dir", str(tmp_path / "run"), "--budget.orbits", "0.3"]
    assert train.main([*arguments, "--json"]) == 1
    assert "could not be sealed" in capsys.readouterr().err
    monkeypatch.undo()
    assert train.main([*arguments, "--json"]) == 0


def test_on_a_real_clock_time_is_this_machines(tiny: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = ["--config", str(tiny), "--run_dir", str(run), "--mission.clock", "real"]
    code, _, err = finish(*arguments, "--json", "--budget.orbits", "null", "--budget.steps", "40", cold=True)
    assert code == 0, err
    events = ledger(run)
    assert events[-1]["step"] == 40
    compiled = len(list((run / "cache" / "xla").glob("jit_train_chunk*-cache")))
    assert compiled == 1, "measured step times must not change the shape of a chunk"
    mission_s = events[-1]["mission_s"] - ledger(run, "launch")[0]["mission_s"]
    assert mission_s == pytest.approx(events[-1]["wall"] - ledger(run, "launch")[0]["wall"], abs=1.0)


def test_energy_spent_on_a_real_clock_ends_the_run_with_one_validation(
    tiny: Path, tmp_path: Path, nothing_stands_out: None
) -> None:
    """The validation asks for a third of a step of power and is granted a whole chunk, which is not to be trained."""
    run = tmp_path / "run"
    real = ["--mission.clock", "real", "--mission.step_flops", "null"]
    spend = ["--budget.orbits", "null", "--budget.wh", "0.3", "--optimizer.cooldown", "0"]
    rare = ["--train.eval_every", "100000", "--train.eval_batches", "2"]
    assert train.main(["--config", str(tiny), "--run_dir", str(run), *real, *spend, *rare, "--json"]) == 0
    (done,), (validation,) = ledger(run, "done"), ledger(run, "validation")
    assert done["spent"] == "wh"
    assert done["train_wh"] >= 0.3
    # Not one step after it was spent; how much more the validation takes, is for the machine that compiles it.
    assert {line["step"] for line in ledger(run, "telemetry") if line["train_wh"] >= 0.3} <= {done["step"]}
    assert validation["step"] == done["step"]


def test_energy_spent_stays_spent_whatever_is_granted() -> None:
    """On the simulated clock too, where a slot grants several steps."""
    config, craft, governor = mission("--budget.orbits", "null", "--budget.wh", "100", "--mission.step_flops", "2e14")
    budget = Budget(config, craft, governor, validation_steps=0.0)
    progress, slots = Progress(), 0
    while not budget.spent(progress):
        progress.step += obey(craft, governor.poll())
    while slots < 10:
        directive = governor.poll()
        craft.obey(directive.mode, directive.cap_w, directive.deadline_s, directive.chunk_steps)
        slots += craft.granted >= 1.0
        assert budget.spent(progress) == "wh"


def test_a_run_whose_every_update_is_not_finite_stops_and_says_so(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    healthy = step.init_state

    def sick(config: Config, vocab_size: int) -> step.TrainState:
        state = healthy(config, vocab_size)
        return state._replace(params=jax.tree.map(lambda p: p * jnp.nan, state.params))

    monkeypatch.setattr(step, "init_state", sick)
    run = tmp_path / "run"
    assert train.main(["--config", str(tiny), "--run_dir", str(run), "--json"]) == 1
    assert "train.max_skipped: 10" in capsys.readouterr().err
    assert ledger(run, "failed")
    assert sum(event["steps"] for event in ledger(run, "skipped")) >= 10


def test_nothing_is_decided_before_it_must_be() -> None:
    assert Progress.from_json(json.loads(json.dumps(Progress().as_json()))) == Progress()
    assert Progress().cooldown == Cooldown()


def test_a_plan_that_is_lost_is_written_anew_when_all_is_spent(tiny: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = ["--config", str(tiny), "--run_dir", str(run), "--budget.orbits", "0.3", "--json"]
    assert train.main(arguments) == 0
    (run / "plan.json").unlink()
    assert train.main([*arguments, "--mission.not_before_s", "100000"]) == 0
    assert (run / "plan.json").exists()


def test_noise_of_modelled_sensors_is_saved(tiny: Path, tmp_path: Path) -> None:
    noisy = ["--mission.policy", "optimal", "--telemetry.charge_noise_wh", "2", "--telemetry.temperature_noise_k", "1"]
    assert train.main(["--config", str(tiny), "--run_dir", str(tmp_path / "run"), *noisy, "--json"]) == 0


def test_that_the_watchdog_barks_while_the_gpu_is_off_is_written_down(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    words = ["--config", str(tiny), "--run_dir", str(run), "--mission.harvest_error", "-0.8"]
    assert train.main([*words, "--satellite.battery.capacity_wh", "250"]) == 0
    assert capsys.readouterr().err.count("GPU off: SAFE: charge") == 1, "once a minute at most"
    modes = ledger(run, "mode")
    barked = [number for number, event in enumerate(modes) if event["reason"].startswith("SAFE: charge")]
    assert barked
    assert modes[barked[0]]["mode"] == "OFF"
    assert modes[barked[0] - 1]["mode"] == "OFF", "the control: it was off before"
