"""Outages come where radiation and discharge are, and end when the satellite has recharged."""

import random
from pathlib import Path

import numpy as np
import pytest
from drilling import ROOT

from pipeline.config import RunFailed, load
from pipeline.drill.brown_out import REBOOT_S, RECHARGED, BrownOut
from pipeline.drill.setting import Setting, Undisturbed
from pipeline.drill.tally import Tally
from pipeline.orbit import environment
from pipeline.plan import Mode
from pipeline.power import fresh

ORBIT_S = 5677.0


def brown_out(*overrides: str, charge: float = 1.0) -> BrownOut:
    config = load(["--config", str(ROOT / "configs" / "drill.yaml"), *overrides])
    setting = Setting(config, [], {}, Path(), Tally(), random.Random(1))
    setting.undisturbed = Undisturbed(Path(), 500, [(t, charge) for t in np.arange(0.0, 20 * ORBIT_S, 60.0)])
    return BrownOut(setting)


def test_outages_come_more_often_over_the_south_atlantic() -> None:
    drawn = brown_out()
    now_s, at = 0.0, []
    while now_s < 15 * 86400.0:
        now_s = drawn._next_outage_s(now_s)
        at.append(now_s)
    sky = environment(drawn._scenario.timeline.track, 0.0, now_s, 10.0)
    share_of_time = float(np.mean(sky.hazard > 5.0))
    share_of_outages = float(np.mean(np.interp(at, sky.time_s, sky.hazard) > 5.0))
    assert len(at) > 50
    assert share_of_time < 0.15
    assert share_of_outages > 3 * share_of_time


def test_a_discharged_satellite_browns_out_more_often() -> None:
    waits = {}
    for charge in (1.0, 0.72):
        drawn = brown_out(charge=charge)
        rate = drawn._discharge(np.array([0.0, ORBIT_S, 100 * ORBIT_S]))
        waits[charge] = float(rate.mean())
    assert waits[1.0] == 0.0
    assert waits[0.72] == pytest.approx(0.28 / 0.30, abs=1e-6)


def test_it_is_dark_until_charge_and_sun_are_there() -> None:
    drawn = brown_out()
    seen = {"charge_wh": 700.0, "temperature_c": 30.0}
    back_s = drawn._recharged_s(1000.0, seen)
    scenario, simulator = drawn._scenario, drawn._simulator
    state = fresh(drawn._config.satellite)._replace(charge_wh=700.0, heat_j=float(scenario.plant.heat_at(30.0)))
    allowed = []
    for minute in range(round((back_s - 1000.0) / REBOOT_S)):
        state = simulator.advance(state, scenario.command(Mode.OFF), 1000.0 + minute * REBOOT_S, REBOOT_S)
        sunlit = simulator.timeline.light(1000.0 + (minute + 1) * REBOOT_S) > 0.5
        allowed.append(state.charge_wh >= RECHARGED * float(scenario.plant.full_wh(state)) and sunlit)
    assert allowed[-1]
    assert not any(allowed[:-1])
    assert back_s - 1000.0 > 600.0
    moments = np.arange(0.0, ORBIT_S, 60.0)
    light = np.array([simulator.timeline.light(t) for t in moments])
    noon_s = float(moments[light == 1.0][3])
    assert drawn._recharged_s(noon_s, None) - noon_s == pytest.approx(REBOOT_S, abs=10.0)


def test_a_satellite_that_never_recharges_is_named() -> None:
    drawn = brown_out("--satellite.array.area_m2", "0.05")
    with pytest.raises(RunFailed, match=r"satellite.array.area_m2"):
        drawn._recharged_s(0.0, {"charge_wh": 700.0, "temperature_c": 30.0})
