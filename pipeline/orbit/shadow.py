"""How much of the Sun's disk the Earth leaves visible: conical umbra and penumbra."""

import numpy as np
from jaxtyping import Float

from pipeline.orbit.elements import EARTH_RADIUS_KM
from pipeline.orbit.sun import ASTRONOMICAL_UNIT_KM

SUN_RADIUS_KM = 695700.0  # IAU 2015 nominal


def illumination(
    position_km: Float[np.ndarray, "time xyz"],
    sun: Float[np.ndarray, "time xyz"],
    distance_au: Float[np.ndarray, " time"],
) -> Float[np.ndarray, " time"]:
    """Visible share of the solar disk, 0 in the umbra and 1 in sunlight.

    Two disks overlap as seen from the satellite (Montenbruck and Gill, Satellite Orbits, 3.4.2).

    Args:
        position_km: satellite, from Earth's centre.
        sun: unit vectors to the Sun in the same frame.
        distance_au: distance of the Sun from Earth.
    """
    # Only where the satellite is behind the terminator and near Earth's shadow can the disks touch: the penumbra widens
    # by the angle of the Sun's radius and Earth's together.
    along = np.einsum("ti,ti->t", position_km, sun)
    square = np.einsum("ti,ti->t", position_km, position_km)
    widening = (SUN_RADIUS_KM + EARTH_RADIUS_KM) / (distance_au * ASTRONOMICAL_UNIT_KM)
    reach = EARTH_RADIUS_KM + 1.01 * widening * np.sqrt(square)  # at least
    near = np.flatnonzero((along < 0.0) & (square - along * along < reach * reach))
    visible = np.ones(len(position_km))
    satellite = position_km[near]
    to_sun = sun[near] * (distance_au[near] * ASTRONOMICAL_UNIT_KM)[:, None] - satellite
    sun_km = np.sqrt(np.einsum("ti,ti->t", to_sun, to_sun))
    earth_km = np.sqrt(square[near])
    a = np.arcsin(SUN_RADIUS_KM / sun_km)  # apparent radius of the Sun
    b = np.arcsin(EARTH_RADIUS_KM / earth_km)  # apparent radius of the Earth
    c = np.arccos(np.clip(-np.einsum("ti,ti->t", satellite, to_sun) / (earth_km * sun_km), -1.0, 1.0))
    visible[near[c <= b - a]] = 0.0
    edge = (c > b - a) & (c < a + b)
    visible[near[edge]] = 1.0 - _overlap(a[edge], b[edge], c[edge])
    return visible


def _overlap(
    a: Float[np.ndarray, " time"], b: Float[np.ndarray, " time"], c: Float[np.ndarray, " time"]
) -> Float[np.ndarray, " time"]:
    """Share of a disk of radius `a` that a disk of radius `b` covers, centres `c` apart, edges crossing."""
    x = (c * c + a * a - b * b) / (2.0 * c)
    y = np.sqrt(np.maximum(a * a - x * x, 0.0))
    lens = a * a * np.arccos(np.clip(x / a, -1.0, 1.0)) + b * b * np.arccos(np.clip((c - x) / b, -1.0, 1.0)) - c * y
    return lens / (np.pi * a * a)
