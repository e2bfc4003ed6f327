"""What the satellite has to spend: array, battery, heat, GPU curve; one pure `Plant.step`."""

from pipeline.power.gpu import GpuCurve
from pipeline.power.plant import Ambient, Command, Plant, State, plant
from pipeline.power.simulator import OFF, Simulator, fresh, from_json, to_json

__all__ = [
    "OFF",
    "Ambient",
    "Command",
    "GpuCurve",
    "Plant",
    "Simulator",
    "State",
    "fresh",
    "from_json",
    "plant",
    "to_json",
]
