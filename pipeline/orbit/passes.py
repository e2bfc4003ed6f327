"""When a ground station sees the satellite."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from pipeline.config.mission import Station
from pipeline.orbit.earth import earth_fixed, site_km
from pipeline.orbit.elements import Track


class Pass(NamedTuple):
    start_s: float
    end_s: float
    highest_deg: float


def elevation_deg(station: Station, fixed_km: Float[np.ndarray, "time xyz"]) -> Float[np.ndarray, " time"]:
    """Elevation over the station's horizon of Earth-fixed positions [deg] (Vallado, 4.4)."""
    site, up = site_km(station.latitude_deg, station.longitude_deg, station.altitude_m)
    sight = fixed_km - site
    return np.degrees(np.arcsin(sight @ up / np.linalg.norm(sight, axis=-1)))


def passes(track: Track, station: Station, start_s: float, duration_s: float, step_s: float = 10.0) -> list[Pass]:
    """Passes above the station's elevation mask, their edges interpolated; one cut off by the ends is given as cut.

    Raises:
        BadInput: where the elements give no position.
    """
    time_s = start_s + step_s * np.arange(int(np.ceil(duration_s / step_s)) + 1)
    jd, fraction = track.julian(time_s)
    above = elevation_deg(station, earth_fixed(track.positions_km(time_s), jd + fraction)) - station.mask_deg
    seen = np.concatenate([[False], above > 0.0, [False]])
    rises, sets = np.flatnonzero(seen[1:] & ~seen[:-1]), np.flatnonzero(seen[:-1] & ~seen[1:]) - 1
    found = []
    for first, last in zip(rises, sets, strict=True):
        edges = (first - 1, first), (last, last + 1)
        start, end = (_crossing(time_s, above, int(a), int(b)) for a, b in edges)
        found.append(Pass(start, end, float(np.max(above[first : last + 1])) + station.mask_deg))
    return found


def _crossing(time_s: Float[np.ndarray, " time"], above: Float[np.ndarray, " time"], a: int, b: int) -> float:
    if a < 0 or b == len(time_s):
        return float(time_s[max(a, 0)])
    return float(time_s[a] + (time_s[b] - time_s[a]) * above[a] / (above[a] - above[b]))
