"""How to spend what the satellite has: the greedy rule, and what it will have done by when."""

from pipeline.plan.forecast import Forecast, Policy, forecast
from pipeline.plan.greedy import Greedy, decide
from pipeline.plan.scenario import Mode, Scenario, scenario

__all__ = ["Forecast", "Greedy", "Mode", "Policy", "Scenario", "decide", "forecast", "scenario"]
