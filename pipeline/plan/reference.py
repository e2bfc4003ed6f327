"""The scenarios that the planner is measured on, by the bench and by the tests."""

from dataclasses import dataclass

import numpy as np

from pipeline.config import shipped
from pipeline.config.mission import Gpu, Mission, Orbit, Satellite
from pipeline.orbit.timeline import DAY_S
from pipeline.plan.forecast import Forecast, Policy, forecast
from pipeline.plan.scenario import Scenario, scenario
from pipeline.power import State, fresh

STEP_FLOPS = 1e15
STAND_IN = "h100-sxm"  # r = f; P = 120 + 150 f + 430 f³ [W]
RESTART_S = 90.0


@dataclass(frozen=True)
class World:
    """A satellite in its orbit, fully charged and off."""

    satellite: Satellite
    scenario: Scenario

    @property
    def begun(self) -> State:
        return fresh(self.satellite)

    def flown(self, policy: Policy, horizon_s: float = DAY_S) -> Forecast:
        return forecast(self.scenario, policy, self.begun, horizon_s=horizon_s)


def world(orbit: Orbit, satellite: Satellite, gpu: Gpu | None = None, restart_s: float = RESTART_S) -> World:
    """`gpu` null: the stand-in."""
    mission = Mission(restart_s=restart_s)
    return World(satellite, scenario(orbit, satellite, gpu or shipped.gpu(STAND_IN), mission, STEP_FLOPS))


def season(orbit: Orbit, start: str) -> Orbit:
    return Orbit(**{**orbit.model_dump(), "start": start})


NAMED = {
    "starved": ("starcloud-1", None, "starved"),
    "rich": ("starcloud-1", None, "rich"),
    "june": ("sso-550-dawn-dusk", "2026-06-21T00:00:00Z", "starved"),
    "december": ("sso-550-dawn-dusk", "2026-12-21T00:00:00Z", "starved"),
    "heat-limited": ("starcloud-1", None, "heat-limited"),
    "starcloud-1": ("starcloud-1", None, "starcloud-1"),
}


def named(name: str) -> World:
    orbit, start, satellite = NAMED[name]
    flown = shipped.orbit(orbit)
    return world(season(flown, start) if start else flown, shipped.satellite(satellite))


def random_world(seed: int) -> World:
    """Any orbit, array, battery, radiator and restart. Some cannot live there: BadInput when planned."""
    random = np.random.default_rng(seed)
    altitude_km = random.uniform(400.0, 900.0)
    if seed % 2:
        start = f"2026-{random.integers(1, 13):02d}-15T00:00:00Z"
        orbit = Orbit(kind="sso", altitude_km=altitude_km, ltan_h=random.uniform(0.0, 23.9), start=start)
    else:
        inclination_deg, raan_deg = random.uniform(0.0, 98.0), random.uniform(0.0, 359.0)
        where = {"inclination_deg": inclination_deg, "raan_deg": raan_deg, "start": "2026-07-26T00:00:00Z"}
        orbit = Orbit(kind="circular", altitude_km=altitude_km, **where)
    satellite = shipped.changed(
        shipped.satellite("starved"),
        array={"area_m2": random.uniform(0.9, 4.0)},
        battery={"capacity_wh": random.uniform(450.0, 3000.0), "depth_of_discharge": random.uniform(0.2, 0.6)},
        radiator={
            "area_m2": random.uniform(0.4, 2.5),
            "latent_j": float(random.choice([0.0, 3e5, 1e6])),
            "melting_c": random.uniform(25.0, 50.0),
            "limit_c": random.uniform(51.0, 65.0),
            "heat_capacity_j_k": random.uniform(5e3, 4e4),
        },
    )
    gpu = shipped.gpu(str(random.choice(["h100-sxm", "h100-pcie", "h200"])))
    return world(orbit, satellite, gpu, float(random.choice([0.0, 10.0, 60.0, 90.0, 180.0, 400.0])))
