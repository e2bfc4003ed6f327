"""What a save policy costs and saves, over many orbits under random faults. Modelled: orbit, satellite, faults, saves.

`train.py bench checkpoint-policy [--json] [--config FILE --KEY VALUE …]`. Each policy meets the same faults.
"""

import json
import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pipeline.checkpoint.policy import daly_s, wait_s
from pipeline.config import BadInput, Config, load
from pipeline.config.arguments import Parser, within
from pipeline.config.mission import Battery, Satellite
from pipeline.flight.mission import mission
from pipeline.flight.risk import Risk
from pipeline.ground.bench.outages import Arm, Costs, Flown, Moment, draw_faults, fly
from pipeline.orbit.timeline import DAY_S
from pipeline.plan import Forecast, Greedy, Mode, Planner, forecast
from pipeline.plan.forecast import SLOT_S
from pipeline.power import fresh

FIXED_S = 600.0
GOAL_FEWER = 2.5  # times the bytes
RANDOM, OURS = "Young/Daly, eclipses as faults", "Dayside"


def main(arguments: Sequence[str]) -> int:
    """Simulates, and prints a table or JSON.

    Raises:
        BadInput: an argument is wrong, or the satellite never trains.
    """
    parser = Parser("train.py bench checkpoint-policy", description=__doc__)
    parser.add_json()
    parser.add_argument("--orbits", type=within(int, 1, 300), default=30, help="length of a mission (30)")
    parser.add_argument("--seeds", type=within(int, 1, 10_000), default=100, help="missions under other faults (100)")
    parser.add_argument("--state_mb", type=within(float, 0, above=True), default=130.0, help="of one save (130)")
    parser.add_argument("--blocking_s", type=within(float, 0, above=True), default=0.010, help="of one save (0.010)")
    parser.add_argument("--seal_s", type=within(float, 0, above=True), default=0.30, help="of one save (0.30)")
    parser.add_argument("--budget_gb_day", type=within(float, 0, above=True), default=50.0, help="of the last row (50)")
    parser.add_argument(
        "--slot_s", type=within(float, 0, above=True), default=SLOT_S, help="how often the loop asks (10)"
    )
    own, rest = parser.parse_known_args(list(arguments))
    config = load(rest, prog="train.py bench checkpoint-policy") if rest else reference()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # as train.py plan
    costs = Costs(own.blocking_s, own.seal_s, config.mission.restart_s, own.state_mb * 1e6)
    answer = compare(config, costs, own.orbits, own.seeds, own.budget_gb_day * 1e9, own.slot_s)
    print(json.dumps(answer) if own.json else table(answer))
    return 0


def reference() -> Config:
    """A satellite that must stop in every eclipse, in Starcloud-1's orbit."""
    poor = Satellite(battery=Battery(capacity_wh=700.0))
    poor = poor.model_copy(update={"array": poor.array.model_copy(update={"area_m2": 1.2})})
    config = Config(satellite=poor)
    mission = config.mission.model_copy(update={"policy": "optimal", "step_flops": 2.6e15})
    return config.model_copy(update={"mission": mission})


def compare(
    config: Config, costs: Costs, orbits: int, seeds: int, budget_bytes_day: float, slot_s: float = SLOT_S
) -> dict[str, Any]:
    """The answer, as `--json` prints it."""
    scenario = mission(config)
    rule = (Planner if config.mission.policy == "optimal" else Greedy)(scenario)
    seconds = orbits * scenario.timeline.track.period_s
    windows = _windows(forecast(scenario, rule, fresh(config.satellite), horizon_s=seconds))
    if not windows:
        raise BadInput("satellite: it never trains in this orbit; give it a larger array or battery")
    sky, mtbf_s = scenario.timeline.span(0.0, seconds), config.checkpoint.mtbf_s
    trains = np.zeros(len(sky.time_s), bool)
    for begin_s, end_s in windows:
        trains |= (begin_s <= sky.time_s) & (sky.time_s < end_s)
    hazard = float(sky.hazard[trains].mean())
    window_s = sum(end_s - begin_s for begin_s, end_s in windows) / len(windows)
    ours = _ours(Risk(scenario.timeline), costs, mtbf_s)
    random_s = daly_s(costs.blocking_s, 1.0 / (hazard / mtbf_s + 1.0 / window_s))
    unpredicted_s = daly_s(costs.blocking_s, mtbf_s / hazard)
    arms = {
        f"every {FIXED_S:.0f} s": Arm(_every(FIXED_S), False),
        RANDOM: Arm(_every(random_s), False),
        "Young/Daly, unpredicted faults": Arm(_every(unpredicted_s), True),
        OURS: Arm(ours, True),
        f"{OURS}, {budget_bytes_day / 1e9:g} GB a day": Arm(ours, True, budget_bytes_day),
    }
    faults = [draw_faults(sky, mtbf_s, np.random.default_rng(seed)) for seed in range(seeds)]
    rows = {
        name: _row([fly(arm, windows, one, costs, slot_s) for one in faults], seconds, costs.bytes)
        for name, arm in arms.items()
    }
    fewer = rows[RANDOM]["gb_day"] / rows[OURS]["gb_day"]
    return {
        "provenance": "modelled: orbit, satellite, faults and costs of a save",
        "orbits": orbits,
        "missions": seeds,
        "planned_stops": len(windows),
        "faults": sum(map(len, faults)),
        "mean_hazard": hazard,
        "mtbf_s": mtbf_s,
        "save": costs._asdict(),
        "policies": rows,
        "times_fewer_bytes": fewer,
        "holds": fewer >= GOAL_FEWER and rows[OURS]["goodput"] >= rows[RANDOM]["goodput"],
    }


def _windows(flight: Forecast) -> list[tuple[float, float]]:
    """When the plan trains: (begin, end), the end a planned stop [s]."""
    trains = np.concatenate([[False], flight.trace.mode == int(Mode.TRAIN), [False]])
    edges = np.flatnonzero(trains[1:] != trains[:-1])
    grid_s = np.append(flight.time_s[0] - SLOT_S, flight.time_s)
    return [(float(grid_s[a]), float(grid_s[b])) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _every(interval_s: float) -> Callable[[Moment], float]:
    return lambda moment: moment.begun_s + interval_s - moment.now_s


def _ours(risk: Risk, costs: Costs, mtbf_s: float) -> Callable[[Moment], float]:
    best_s = daly_s(costs.blocking_s, mtbf_s)

    def policy(moment: Moment) -> float:
        since = risk.between(moment.begun_s, moment.now_s)
        return wait_s(since, risk.between(moment.now_s, moment.stop_s - costs.seal_s), best_s)

    return policy


def _row(flown: list[Flown], seconds: float, size: float) -> dict[str, Any]:
    """Means over missions; percentiles over all faults, and over all planned stops, of all missions [s of work]."""
    goodput = np.array([one.kept_s / one.available_s for one in flown])
    saves_day = np.array([one.saves for one in flown]) * DAY_S / seconds
    return {
        "saves_day": float(saves_day.mean()),
        "gb_day": float(saves_day.mean() * size / 1e9),
        "goodput": float(goodput.mean()),
        "goodput_p5": float(np.percentile(goodput, 5)),
        "lost_to_faults_s": _percentiles([lost for one in flown for lost in one.lost_to_faults_s]),
        "lost_to_stops_s": _percentiles([lost for one in flown for lost in one.lost_to_stops_s]),
    }


def _percentiles(values: list[float]) -> dict[str, float | None]:
    if not values:
        return {"p50": None, "p99": None}
    return {f"p{percent}": float(np.percentile(values, percent)) for percent in (50, 99)}


def table(answer: dict[str, Any]) -> str:
    """For a terminal."""
    save, head = answer["save"], f"{'policy':<32}{'saves/day':>10}{'GB/day':>9}{'goodput':>10}"
    lines = [
        f"{answer['orbits']} orbits, {answer['missions']} times, under {answer['faults']} faults in all "
        f"(assumed: one in {answer['mtbf_s'] / 3600:g} h in quiet parts, {answer['mean_hazard']:.1f} times as often on "
        f"average), {answer['planned_stops']} planned stops each. Modelled.",
        f"A save: {save['bytes'] / 1e6:g} MB, blocks {save['blocking_s'] * 1e3:g} ms, is sealed after "
        f"{save['seal_s']:g} s.",
        "",
        f"{'':61}{'lost to a fault':>18}{'to a planned stop':>20}",
        head + f"{'p50':>9}{'p99':>9}{'p50':>10}{'p99':>10}",
    ]
    for name, row in answer["policies"].items():
        lost = [row[kind][p] for kind in ("lost_to_faults_s", "lost_to_stops_s") for p in ("p50", "p99")]
        shown = [f"{value:.1f} s" if value is not None and not math.isnan(value) else "-" for value in lost]
        figures = f"{row['saves_day']:>10,.0f}{row['gb_day']:>9,.0f}{row['goodput']:>10.3%}"
        lines.append(f"{name:<32}{figures}{shown[0]:>9}{shown[1]:>9}{shown[2]:>10}{shown[3]:>10}")
    verdict = "as promised" if answer["holds"] else "LESS THAN PROMISED"
    return "\n".join([*lines, "", f"{answer['times_fewer_bytes']:.2f} times fewer bytes: {verdict}"])
