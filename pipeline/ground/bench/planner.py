"""What the orbit, the planner and the scheduler promise, measured on this machine; the satellites are modelled.

`train.py bench planner [--json] [--noise [--days N]]`. Without flags it takes about three minutes on two cores.
"""

import json
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from pipeline.config import BadInput, load, shipped
from pipeline.config.arguments import Parser, within
from pipeline.ground.bench import planner_table as table
from pipeline.orbit import environment, track
from pipeline.orbit.timeline import DAY_S
from pipeline.plan import Noise, Planner, Scenario, bound, forecast, outcomes, policies
from pipeline.plan.reference import NAMED, World, named, random_world, world
from pipeline.plan.table_rule import Grid

GOALS = {"starved": 97.0, "rich": 99.0, "june": 97.5, "december": 99.0}  # percent of the bound
FINE = Grid(slot_s=20.0, charges=64, heat_pitch_k=0.25)
USAGE = "train.py bench planner [--json] [--noise [--days 30]]"
RUN = "gpt2-124m.yaml"  # whose steps the share of the scheduler is counted against


def main(arguments: Sequence[str]) -> int:
    """Measures, and prints tables or JSON.

    Raises:
        BadInput: an argument is wrong.
    """
    parser = Parser("train.py bench planner", USAGE, description=__doc__)
    parser.add_json()
    parser.add_argument("--noise", action="store_true", help="long proof: every shipped satellite under ±10 %% harvest")
    parser.add_argument("--days", type=within(float, 0, 60, above=True), default=30.0, help="of the long proof")
    own = parser.parse_args(list(arguments))
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # as train.py plan, and as the flight plans
    parts: dict[str, Callable[[], Any]] = (
        {"noise": lambda: noise(own.days)}
        if own.noise
        else {
            "orbit": orbit,
            "percent_of_bound": percent_of_bound,
            "solar_error": solar_error,
            "random_satellites": random_satellites,
            "fine_grid": fine_grid,
            "scheduler": scheduler,
        }
    )
    found: dict[str, Any] = {"provenance": "satellites modelled, times measured on this machine"}
    for name, part in parts.items():
        found[name] = part()
        if not own.json:
            table.show(name, found[name])
    if own.json:
        print(json.dumps(found))
    return 0


def orbit() -> dict[str, float]:
    """Median time of the environment of a day and of a year [s]."""
    path = track(shipped.orbit("starcloud-1"))
    return {
        "day_at_10_s_s": _median_s(lambda: environment(path, 0.0, DAY_S, 10.0), 15),
        "year_at_30_s_s": _median_s(lambda: environment(path, 0.0, 365.25 * DAY_S, 30.0), 3),
    }


def percent_of_bound(names: Sequence[str] = tuple(NAMED)) -> dict[str, Any]:
    """A day of each policy in each reference scenario, against what no policy can pass."""
    answer = {}
    for name in names:
        here = named(name)
        limit = bound(here.scenario, here.begun, 0.0, DAY_S)
        rows = {policy: _row(here, rule, limit.upper_steps) for policy, rule in policies(here.scenario, DAY_S).items()}
        answer[name] = {"goal": GOALS.get(name), "upper_steps": limit.upper_steps, "policies": rows}
    return answer


def _row(here: World, rule: Any, upper_steps: float) -> dict[str, float]:
    flight = here.flown(rule)
    floor, heat = flight.violations(here.scenario.plant)
    return {
        "steps": flight.steps,
        "percent": 100.0 * flight.steps / upper_steps,
        "restarts": flight.restarts,
        "floor_violations": floor,
        "temperature_violations": heat,
    }


def solar_error(names: Sequence[str] = tuple(GOALS), error: float = 0.05) -> dict[str, Any]:
    """The plan flown on an array that gives all day other than was planned, against the bound of that array."""
    answer = {}
    for name in names:
        here = named(name)
        rule = Planner(here.scenario, DAY_S)
        percent = {}
        for each in (0.0, -error, error):
            true = _scaled(here.scenario, 1.0 + each)
            limit = bound(true, here.begun, 0.0, DAY_S)
            flight = forecast(true, rule, here.begun, horizon_s=DAY_S)
            percent[each] = 100.0 * flight.steps / limit.upper_steps
        answer[name] = {
            "percent": {f"{100 * each:+.0f} %": value for each, value in percent.items()},
            "points_lost": percent[0.0] - min(percent.values()),
        }
    return answer


def _scaled(scenario: Scenario, harvest: float) -> Scenario:
    plant = scenario.plant
    return replace(scenario, plant=replace(plant, array_w_per_flux=plant.array_w_per_flux * harvest))


def random_satellites(count: int = 10) -> dict[str, Any]:
    """A day of each policy on the first random satellites that can live in their orbits."""
    found: dict[str, Any] = {}
    seed = 0
    while len(found) < count:
        seed += 1
        here = random_world(seed)
        try:
            rules = policies(here.scenario, DAY_S)
        except BadInput:
            continue
        flights = {name: here.flown(rule) for name, rule in rules.items()}
        steps = {name: flight.steps for name, flight in flights.items()}
        best = max(steps[name] for name in steps if name != "dp")
        found[str(seed)] = {
            "steps": steps,
            "lead_percent": 100.0 * (steps["dp"] / best - 1.0) if best else None,
            "violations": sum(sum(flight.violations(here.scenario.plant)) for flight in flights.values()),
        }
    return found


def fine_grid() -> dict[str, float]:
    """Steps of the plan where heat binds, in percent of those on a grid finer in time, charge and heat."""
    here = named("heat-limited")
    coarse, fine = (here.flown(Planner(here.scenario, DAY_S, grid)).steps for grid in (Grid(), FINE))
    return {"heat-limited": 100.0 * coarse / fine}


def scheduler() -> dict[str, Any]:
    """Times of planning and polling, and what they are of the time that a run on a real clock has."""
    planning = {}
    for name in ("starved", "starcloud-1"):
        made = named(name).scenario
        planning[name] = _median_s(partial(Planner, made), 5, warm_up=1)
    rule = Planner(named("starved").scenario)
    polls = _each_s(lambda index: rule.poll(80.0 * (index % 1000), 650.0, 0.0, False, 700.0), 5000)
    answer = {"plan_a_day_warm_s": planning, "poll_s": _tail(polls)}
    return answer | _flight()


def _flight(revolutions: int = 8) -> dict[str, Any]:
    """The flight's own polls, telemetry and watchdog included, and its own look ahead after each revolution.

    The share is what the polls and the look ahead of a revolution take of its time, all of it counted as if the GPU
    waited for them.
    """
    from pipeline.flight.budget import Budget
    from pipeline.flight.governor import Governor
    from pipeline.flight.mission import mission
    from pipeline.flight.outlook import Outlook
    from pipeline.flight.progress import Progress
    from pipeline.flight.spacecraft import Spacecraft

    config = load(["--config", str(shipped.CONFIGS / RUN), "--mission.policy", "optimal"])
    craft, progress = Spacecraft(config, mission(config), {}), Progress()
    governor = Governor(config, craft)
    outlook, budget = Outlook(craft, governor, progress), Budget(config, craft, governor, validation_steps=0.0)

    def look() -> None:
        outlook.look()
        budget.replan(progress)

    look()
    polls, looks = [], []
    while craft.orbits < revolutions:
        if outlook.due():
            looks.append(_timed_s(look))
        begun = time.perf_counter()
        directive = governor.poll()
        polls.append(time.perf_counter() - begun)
        craft.obey(directive.mode, directive.cap_w, directive.deadline_s, directive.chunk_steps)
        craft.worked(int(craft.granted))
    polls_s, look_s = float(np.sum(polls)) / revolutions, float(np.median(looks))
    period_s = craft.scenario.timeline.track.period_s
    return {
        "governor_poll_s": _tail(np.array(polls)),
        "look_ahead_s": look_s,
        "share_percent": 100.0 * (polls_s + look_s) / period_s,
        "share_of": f"{config.name} on {config.gpu.name}, policy optimal, simulated clock: in a revolution of "
        f"{period_s:.0f} s, {len(polls) / revolutions:.0f} polls and one look ahead to the end of the budget",
    }


def noise(
    days: float,
    samples: int = 16,
    orbits: Sequence[str] = tuple(shipped.ORBITS),
    satellites: Sequence[str] = tuple(shipped.SATELLITES),
) -> dict[str, Any]:
    """Every shipped satellite in every shipped orbit under a harvest within ±10 % of the planned.

    Half of the samples are off by a constant, the first by the whole -10 %; half are drawn anew for each orbit.
    """
    answer: dict[str, Any] = {}
    for orbit_name, satellite in product(orbits, satellites):
        here = world(shipped.orbit(orbit_name), shipped.satellite(satellite))
        rules = policies(here.scenario, math.inf)
        for name in ("dp", "full_power"):
            drawn = outcomes(here.scenario, rules[name], here.begun, 0.0, days * DAY_S, samples, Noise(), seed=7)
            above_wh = drawn.lowest_wh - here.scenario.plant.floor_wh
            answer[f"{orbit_name} {satellite} {name}"] = {
                "samples": samples,
                "steps": float(drawn.steps.mean()),
                "floor_violations": int(np.sum(above_wh < 0.0)),
                "temperature_violations": int(np.sum(drawn.over_k > 0.0)),
                "brown_outs": int(np.sum(drawn.unserved_wh > 0.0)),
                "least_above_floor_wh": float(above_wh.min()),
                "most_over_limit_k": float(drawn.over_k.max()),
                "unserved_wh": float(drawn.unserved_wh.max()),
            }
    return answer


def _timed_s(work: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _median_s(work: Callable[[], Any], count: int, warm_up: int = 0) -> float:
    return float(np.median(_each_s(lambda _: work(), warm_up + count)[warm_up:]))


def _tail(took_s: np.ndarray) -> dict[str, float]:
    return {"median": float(np.median(took_s)), "p99": float(np.percentile(took_s, 99))}


def _each_s(work: Callable[[int], Any], count: int) -> np.ndarray:
    """Time of each of `count` calls."""
    return np.array([_timed_s(partial(work, index)) for index in range(count)])
