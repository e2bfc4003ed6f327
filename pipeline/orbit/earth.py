"""The turning Earth: where a satellite stands over it, and where a station on it stands."""

import numpy as np
from jaxtyping import Float

from pipeline.orbit.elements import EARTH_RADIUS_KM

FLATTENING = 1.0 / 298.257223563  # WGS 84


def earth_fixed(
    position_km: Float[np.ndarray, "time xyz"], julian: Float[np.ndarray, " time"]
) -> Float[np.ndarray, "time xyz"]:
    """Positions turned from TEME to the frame of the Earth [km], polar motion (10 m) left out.

    The angle is Greenwich mean sidereal time with UT1 = UTC, off by at most 0.9 s (IAU 1982; Vallado, 3.5.3).
    """
    centuries = (julian - 2451545.0) / 36525.0
    sidereal_s = 67310.54841 + centuries * (
        876600.0 * 3600.0 + 8640184.812866 + centuries * (0.093104 - 6.2e-6 * centuries)
    )
    angle = np.radians(sidereal_s / 240.0 % 360.0)
    cosine, sine = np.cos(angle), np.sin(angle)
    x, y, z = position_km.T
    return np.stack([x * cosine + y * sine, y * cosine - x * sine, z], axis=-1)


def latitude_longitude_deg(
    fixed_km: Float[np.ndarray, "time xyz"],
) -> tuple[Float[np.ndarray, " time"], Float[np.ndarray, " time"]]:
    """Geocentric latitude and longitude of Earth-fixed positions [deg]; geodetic latitude differs by at most 0.2°."""
    x, y, z = fixed_km.T
    return np.degrees(np.arctan2(z, np.hypot(x, y))), np.degrees(np.arctan2(y, x))


def site_km(
    latitude_deg: float, longitude_deg: float, altitude_m: float
) -> tuple[Float[np.ndarray, " xyz"], Float[np.ndarray, " xyz"]]:
    """Earth-fixed position [km] of a place on the WGS 84 ellipsoid, and the unit vector to its zenith (Vallado, 3.2).

    The zenith is that of the ellipsoid, as latitude is.
    """
    latitude, longitude = np.radians(latitude_deg), np.radians(longitude_deg)
    up = np.array([np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), np.sin(latitude)])
    squared = FLATTENING * (2.0 - FLATTENING)  # eccentricity squared
    normal_km = EARTH_RADIUS_KM / np.sqrt(1.0 - squared * up[2] ** 2)
    scale = np.array([1.0, 1.0, 1.0 - squared])
    return normal_km * scale * up + altitude_m * 1e-3 * up, up
