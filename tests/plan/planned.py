"""Scenarios that the planner's tests share with its bench."""

from pipeline.orbit.timeline import DAY_S
from pipeline.plan.reference import STEP_FLOPS, World, named, random_world, season, world

__all__ = ["DAY_S", "STEP_FLOPS", "World", "named", "random_world", "season", "world"]
