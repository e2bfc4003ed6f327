"""The orbits, satellites and GPUs that ship with Dayside, for the tests of the rooms that use them."""

from pipeline.config.shipped import CONFIGS, GPUS, ORBITS, SATELLITES, changed, gpu, orbit, satellite

__all__ = ["CONFIGS", "GPUS", "ORBITS", "SATELLITES", "changed", "gpu", "orbit", "satellite"]
