"""What an orbit buys, before launch: the optimal plan beside simple rules and the bound. All of it is modelled."""

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from pipeline.config import BadInput, Config, load
from pipeline.config.arguments import Parser, within
from pipeline.flight.mission import mission
from pipeline.flight.start_from import settle
from pipeline.ground.arguments import usable_path
from pipeline.ground.plan_budget import LONGEST_DAYS, duration_s, finish, finish_s, limits, spending
from pipeline.orbit import Environment, eclipses, track
from pipeline.orbit.timeline import DAY_S
from pipeline.plan import Bound, Forecast, Scenario, bound, forecast, outcomes, policies, require_polls, stops
from pipeline.plan.reserve import require_reserve, reserve_wh
from pipeline.plan.stops import NOTICE_S
from pipeline.power import fresh
from pipeline.power.plant import YEAR_S

USAGE = "train.py plan --config FILE [--days 7] [--out FILE.png] [--json] [--KEY VALUE]"
BOUND_SLOTS = 2000  # longer slots are no less certified, only a little looser, and keep the programme at seconds


def main(arguments: Sequence[str]) -> int:
    """`train.py plan`.

    Raises:
        BadInput: an argument or a key is wrong, the satellite cannot live in its orbit, or no picture can be drawn.
    """
    parser = Parser("train.py plan", USAGE, usage=USAGE, description=__doc__)
    words = f"how far to plan, at most {LONGEST_DAYS:.0f} (default: as long as the budget lasts)"
    parser.add_argument("--days", type=within(float, 0, LONGEST_DAYS, above=True), metavar="DAYS", help=words)
    parser.add_argument("--out", type=usable_path, metavar="FILE.png", help="a picture of the optimal plan")
    parser.add_json()
    own, rest = parser.parse_known_args(list(arguments))
    config = settle(load(rest, prog=USAGE))
    if config.mission.clock == "real" and not config.orbit.start:
        config = launched_now(config)
    if own.out:
        from pipeline.ground.plan_picture import check

        check(own.out)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # planning needs no GPU, and must not wait for one
    made = mission(config)
    answer, best = plan(config, made, own.days)
    if own.out:
        from pipeline.ground.plan_picture import draw

        draw(made, best, f"{config.name}: {config.satellite.name} on {config.orbit.name}", own.out)
    if own.json:
        print(json.dumps(answer))
    else:
        from pipeline.ground.plan_table import show

        show(config, answer)
        if own.out:
            print(f"picture: {own.out}")
    return 0


def launched_now(config: Config) -> Config:
    """Mission second 0 is now, and no longer the epoch of the elements, from which the array has aged."""
    now, array = datetime.now(UTC).replace(second=0, microsecond=0), config.satellite.array
    age_years = array.age_years + max(0.0, track(config.orbit).seconds(now) / YEAR_S)
    satellite = config.satellite.model_copy(update={"array": array.model_copy(update={"age_years": age_years})})
    return config.model_copy(update={"orbit": config.orbit.model_copy(update={"start": now}), "satellite": satellite})


def plan(config: Config, made: Scenario, days: float | None = None) -> tuple[dict[str, Any], Forecast]:
    """The answer, as `--json` prints it, and the flight of the optimal plan.

    Args:
        days: how long to plan for; null: as long as the budget lasts.

    Raises:
        BadInput: the budget ends before the mission begins, or too late to be planned, the battery begins with less
            than it must hold, or a step takes longer than a run may.
    """
    require_polls(made, config.mission)
    begun, limit = fresh(config.satellite), limits(config, made)
    sky = made.timeline.span(0.0, DAY_S)
    require_reserve(made.plant, sky, 0.0)
    least_wh = float(reserve_wh(made.plant, sky, 0.0)[0])
    if begun.charge_wh < least_wh:
        raise BadInput(
            f"satellite.battery.initial_charge: {config.satellite.battery.initial_charge:g}: the floor, and the shadow "
            f"ahead, ask for {least_wh:.0f} Wh; give at least {least_wh / made.plant.capacity_wh + 0.0005:.3f}"
        )
    spent = spending(config, made, limit) if limit.counted else None
    seconds, slot_s = _whole_slots(duration_s(limit, spent, days))
    optimum = bound(made, begun, 0.0, seconds, slot_s)
    rules = policies(made, seconds)
    best = forecast(made, rules["dp"], begun, horizon_s=seconds)
    rows = {"dp": _summary(made, best, optimum)}
    for name, rule in rules.items():
        if name != "dp":  # one flight at a time: that of 60 days is large
            rows[name] = _summary(made, forecast(made, rule, begun, horizon_s=seconds), optimum)
    drawn = spent if spent and days is None else outcomes(made, rules["dp"], begun, 0.0, seconds)
    totals = {
        "steps": drawn.steps,
        "tokens": drawn.steps * config.tokens_per_step,
        "train_wh": drawn.train_wh,
        "harvest_wh": drawn.harvest_wh,
    }
    spread = {
        name: {f"p{percent}": float(np.percentile(values, percent)) for percent in (5, 50, 95)}
        for name, values in totals.items()
    }
    done_s = finish_s(limit, spent, seconds)
    answer = {
        "provenance": "modelled",
        "duration_s": seconds,
        "samples": {"drawn": len(drawn.steps), "unfinished": int(np.sum(np.isinf(done_s)))},
        "orbit": _orbit(made.timeline.span(0.0, seconds), made.timeline.track.period_s),
        "forecast": spread | finish(made, done_s),
        "policies": rows,
        "bound": {"upper_steps": optimum.upper_steps, "feasible_steps": optimum.feasible_steps},
        "notices": _notices(made, best),
    }
    return answer, best


def _notices(made: Scenario, flight: Forecast) -> list[dict[str, Any]]:
    """The planned stops of a flight. `save_s` is the mission second by which its checkpoint is sealed."""
    return [
        {
            "time_s": stop.time_s,
            "kind": stop.kind.name,
            "seconds_left": NOTICE_S,
            "save_s": stop.time_s + NOTICE_S,
        }
        for stop in stops(made, flight)
    ]


def _whole_slots(seconds: float) -> tuple[float, float]:
    """At least `seconds`, in whole slots of the bound, and how long one is."""
    slot_s = 60.0 * max(1.0, np.ceil(seconds / 60.0 / BOUND_SLOTS))
    return slot_s * float(np.ceil(seconds / slot_s - 1e-9)), slot_s


def _orbit(sky: Environment, period_s: float) -> dict[str, Any]:
    """Minutes of eclipse a revolution, penumbra weighted by illumination: mean over whole ones, and most of any."""
    shadow_s = np.concatenate([[0.0], np.cumsum(1.0 - sky.illumination[1:]) * sky.step_s])
    revolutions = max(1, int((len(shadow_s) - 1) * sky.step_s / period_s))
    whole, window = (min(round(n * period_s / sky.step_s), len(shadow_s) - 1) for n in (revolutions, 1))
    return {
        "period_min": period_s / 60.0,
        "sunlit_fraction": sky.sunlit_fraction,
        "eclipse_min_mean": float(shadow_s[whole]) / 60.0 / revolutions,
        "eclipse_min_max": float(np.max(shadow_s[window:] - shadow_s[:-window])) / 60.0,
        "eclipses": [{"start_s": start_s, "end_s": end_s} for start_s, end_s in eclipses(sky)],
    }


def _summary(made: Scenario, flight: Forecast, optimum: Bound) -> dict[str, float]:
    """One policy in figures. A violation is a slot of the forecast that ends below the floor or above a limit."""
    trace = flight.trace
    floor, heat = flight.violations(made.plant)
    return {
        "steps": flight.steps,
        "percent_of_bound": 100.0 * flight.steps / optimum.upper_steps if optimum.upper_steps else 0.0,
        "restarts": flight.restarts,
        "floor_violations": floor,
        "temperature_violations": heat,
        "min_charge_wh": float(np.min(trace.charge_wh)),
        "max_temperature_c": float(np.max(trace.plate_c)),
        "max_battery_c": float(np.max(trace.battery_c)),
        "discharge_wh": float(trace.discharge_wh[-1]),
    }
