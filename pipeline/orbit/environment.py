"""What the orbit gives the satellite over time, as arrays on a regular grid."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pipeline.config.mission import Station
from pipeline.orbit.earth import earth_fixed, latitude_longitude_deg
from pipeline.orbit.elements import Track
from pipeline.orbit.hazard import hazard
from pipeline.orbit.passes import elevation_deg
from pipeline.orbit.shadow import illumination
from pipeline.orbit.sun import SOLAR_CONSTANT_W_M2, sun_direction


@dataclass(frozen=True)
class Environment:
    """Samples at `time_s`, evenly spaced; between them, interpolate linearly."""

    time_s: Float[np.ndarray, " time"]  # mission time [s]
    illumination: Float[np.ndarray, " time"]  # visible share of the Sun's disk, 0 to 1
    flux_w_m2: Float[np.ndarray, " time"]  # of the unshadowed Sun at this distance [W/m²]
    transmitting: Float[np.ndarray, " time"]  # 1 in a pass over a ground station, else 0
    hazard: Float[np.ndarray, " time"]  # rate of radiation upsets relative to the quiet part of the orbit

    @property
    def step_s(self) -> float:
        return float(self.time_s[1] - self.time_s[0])

    @property
    def sunlit_fraction(self) -> float:
        """Mean illumination over the grid."""
        dark = 1.0 - self.illumination
        dark_s = self.step_s * float(dark.sum() - 0.5 * (dark[0] + dark[-1]))
        return 1.0 - dark_s / float(self.time_s[-1] - self.time_s[0])


def environment(
    track: Track, start_s: float, duration_s: float, step_s: float, stations: Sequence[Station] = ()
) -> Environment:
    """The environment from `start_s` to at least `start_s + duration_s`, both ends included.

    Raises:
        BadInput: where the elements give no position.
    """
    count = int(np.ceil(duration_s / step_s - 1e-9)) + 1
    time_s = start_s + step_s * np.arange(max(count, 2))
    jd, fraction = track.julian(time_s)
    sun, distance_au = sun_direction(jd + fraction)
    position_km = track.positions_km(time_s)
    fixed_km = earth_fixed(position_km, jd + fraction)
    heard = np.zeros(len(time_s), bool)
    for station in stations:
        heard |= elevation_deg(station, fixed_km) > station.mask_deg
    return Environment(
        time_s,
        illumination=illumination(position_km, sun, distance_au),
        flux_w_m2=SOLAR_CONSTANT_W_M2 / distance_au**2,
        transmitting=heard.astype(float),
        hazard=hazard(*latitude_longitude_deg(fixed_km)),
    )


def eclipses(sky: Environment) -> list[tuple[float, float]]:
    """Eclipses as (start_s, end_s), cut off at the ends of the grid.

    An edge is where half the Sun's disk is covered, found by linear interpolation, so that end − start is the eclipse
    with its penumbra weighted by illumination, to within a second on a grid of 10 s.
    """
    dark = sky.illumination < 0.5
    flips = np.flatnonzero(dark[1:] != dark[:-1])
    before, after = sky.illumination[flips], sky.illumination[flips + 1]
    edges = list(sky.time_s[flips] + sky.step_s * (before - 0.5) / (before - after))
    if dark[0]:
        edges.insert(0, sky.time_s[0])
    if dark[-1]:
        edges.append(sky.time_s[-1])
    return [(float(a), float(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
