"""How to spend what there is: the optimal plan, what no plan can pass, and what will have been done by when."""

from pipeline.plan.bound import Bound, bound
from pipeline.plan.forecast import Forecast, Policy, forecast
from pipeline.plan.greedy import Greedy, decide
from pipeline.plan.montecarlo import Chances, Noise, Outcomes, outcomes
from pipeline.plan.payload import Payload
from pipeline.plan.planner import Planner, policies, require_polls
from pipeline.plan.scenario import Mode, Scenario, scenario
from pipeline.plan.stops import Stop, StopKind, stop_kind, stops

__all__ = [
    "Bound",
    "Chances",
    "Forecast",
    "Greedy",
    "Mode",
    "Noise",
    "Outcomes",
    "Payload",
    "Planner",
    "Policy",
    "Scenario",
    "Stop",
    "StopKind",
    "bound",
    "decide",
    "forecast",
    "outcomes",
    "policies",
    "require_polls",
    "scenario",
    "stop_kind",
    "stops",
]
