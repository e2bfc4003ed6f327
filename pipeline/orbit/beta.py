"""The angle between the Sun and the plane of the orbit, which decides how long eclipses are."""

import numpy as np
from jaxtyping import Float

from pipeline.orbit.elements import Track
from pipeline.orbit.sun import sun_direction


def beta_deg(track: Track, time_s: Float[np.ndarray, " time"]) -> Float[np.ndarray, " time"]:
    """Beta angle at each mission second [deg]: arcsin(h·s) of the orbit's normal and the Sun (Vallado, 5.3)."""
    jd, fraction = track.julian(time_s)
    _, position, velocity = track.satrec.sgp4_array(jd, fraction)
    normal = np.cross(position, velocity)
    sun, _ = sun_direction(jd + fraction)
    return np.degrees(np.arcsin(np.einsum("ti,ti->t", normal, sun) / np.linalg.norm(normal, axis=-1)))
