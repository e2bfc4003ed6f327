"""The Sun by the almanac: good to 0.01°, with no file to download and none that goes stale.

Source: The Astronomical Almanac, page C5, "Low precision formulas for the Sun"; also Vallado, algorithm 29. Its frame
is the mean equator and equinox of date, within 0.005° of the TEME frame of SGP4, so satellite and Sun need no
transform between them.
"""

import numpy as np
from jaxtyping import Float

ASTRONOMICAL_UNIT_KM = 149597870.7
SOLAR_CONSTANT_W_M2 = 1361.0  # at 1 au (Kopp and Lean 2011)
TT_MINUS_UTC_DAYS = 69.184 / 86400.0  # since the leap second of 2017


def mean_longitude_deg(julian: Float[np.ndarray, "*time"]) -> Float[np.ndarray, "*time"]:
    """Mean longitude of the Sun, aberration included [deg]."""
    return (280.460 + 0.9856474 * _days(julian)) % 360.0


def sun_direction(
    julian: Float[np.ndarray, " time"],
) -> tuple[Float[np.ndarray, "time xyz"], Float[np.ndarray, " time"]]:
    """Unit vector from Earth to Sun, and the distance [au], at Julian dates (UTC)."""
    anomaly = np.radians(357.528 + 0.9856003 * _days(julian))
    longitude = np.radians(mean_longitude_deg(julian) + 1.915 * np.sin(anomaly) + 0.020 * np.sin(2.0 * anomaly))
    obliquity = np.radians(23.439 - 4.0e-7 * _days(julian))
    distance_au = 1.00014 - 0.01671 * np.cos(anomaly) - 0.00014 * np.cos(2.0 * anomaly)
    sine = np.sin(longitude)
    direction = np.stack([np.cos(longitude), np.cos(obliquity) * sine, np.sin(obliquity) * sine], axis=-1)
    return direction, distance_au


def _days(julian: Float[np.ndarray, "*time"]) -> Float[np.ndarray, "*time"]:
    return julian - 2451545.0 + TT_MINUS_UTC_DAYS
