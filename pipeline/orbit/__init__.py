"""Where the satellite is and how much Sun it sees. NumPy and sgp4 alone; nothing is downloaded."""

from pipeline.orbit.elements import Track, track
from pipeline.orbit.environment import Environment, eclipses, environment
from pipeline.orbit.passes import Pass, passes
from pipeline.orbit.timeline import Timeline

__all__ = ["Environment", "Pass", "Timeline", "Track", "eclipses", "environment", "passes", "track"]
