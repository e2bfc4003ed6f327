"""How much more often radiation upsets the electronics over the South Atlantic.

A region model, for planning: at 500 km the South Atlantic Anomaly spans latitudes −50° to 0° and longitudes −90° to
+40° (NASA HEASARC, ROSAT Guest Observer Facility). The rate rises as a parabola from the edge of the ellipse in that
box to its centre; since, it has drifted west by some 0.3° a year. The height of the peak is assumed. Polar horns and
solar particle events are left out.
"""

import numpy as np
from jaxtyping import Float

CENTRE_DEG = (-25.0, -25.0)  # latitude, longitude
HALF_WIDTH_DEG = (25.0, 65.0)
PEAK = 30.0  # assumed


def hazard(
    latitude_deg: Float[np.ndarray, " time"], longitude_deg: Float[np.ndarray, " time"]
) -> Float[np.ndarray, " time"]:
    """Rate of upsets relative to the quiet part of the orbit: 1 outside the anomaly, `PEAK` at its centre."""
    south = (latitude_deg - CENTRE_DEG[0]) / HALF_WIDTH_DEG[0]
    east = ((longitude_deg - CENTRE_DEG[1] + 180.0) % 360.0 - 180.0) / HALF_WIDTH_DEG[1]
    return 1.0 + (PEAK - 1.0) * np.maximum(1.0 - south * south - east * east, 0.0)
