"""The orbits, satellites and GPUs that ship with Dayside, by name."""

from pathlib import Path

import yaml

from pipeline.config.mission import Gpu, Orbit, Satellite

CONFIGS = Path(__file__).parents[2] / "configs"
ORBITS, SATELLITES, GPUS = (
    sorted(path.stem for path in (CONFIGS / kind).glob("*.yaml")) for kind in ("orbits", "satellites", "gpus")
)


def orbit(name: str) -> Orbit:
    return Orbit(**yaml.safe_load((CONFIGS / "orbits" / f"{name}.yaml").read_text(encoding="utf-8")))


def satellite(name: str) -> Satellite:
    return Satellite(**yaml.safe_load((CONFIGS / "satellites" / f"{name}.yaml").read_text(encoding="utf-8")))


def gpu(name: str) -> Gpu:
    return Gpu(**yaml.safe_load((CONFIGS / "gpus" / f"{name}.yaml").read_text(encoding="utf-8")))


def changed(given: Satellite, **sections: dict[str, float]) -> Satellite:
    """The satellite with other values, validated again: changed(it, battery={"capacity_wh": 500.0})."""
    values = given.model_dump()
    for section, fields in sections.items():
        values[section] |= fields
    return Satellite(**values)
