"""Dayside: trains small language models on orbital power.

    import pipeline

    run = pipeline.open_run("runs/demo")
    run.ledger, run.metrics, run.checkpoints    # pandas DataFrames
    model = run.model("best")                   # a sealed step, verified
    model.losses()                              # nats of every held-out token
    pipeline.evaluate("runs/demo", "best")      # loss, bits per byte, perplexity, with intervals

    config = pipeline.load_config(["--config", "configs/demo.yaml", "--budget.orbits", "1"])
    pipeline.fly(config)                        # trains, or resumes
    pipeline.plan_mission(config, pipeline.mission(config), days=7)

The verbs of `train.py` make the same calls. A name is imported when it is first used: `import pipeline` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.config import load as load_config
    from pipeline.corpus.uncertainty import mean_interval
    from pipeline.flight.mission import mission
    from pipeline.flight.run import fly
    from pipeline.ground.compare import compare
    from pipeline.ground.evaluate import baselines, evaluate
    from pipeline.ground.plan import plan as plan_mission
    from pipeline.ground.report import report
    from pipeline.ground.run_directory import open_run

__all__ = [
    "baselines",
    "compare",
    "evaluate",
    "fly",
    "load_config",
    "mean_interval",
    "mission",
    "open_run",
    "plan_mission",
    "report",
]

# Where each name is at home. None may be that of a section of the configuration: the parser of the command line looks
# for its classes here.
_HOMES = {
    "baselines": ("pipeline.ground.evaluate", "baselines"),
    "compare": ("pipeline.ground.compare", "compare"),
    "evaluate": ("pipeline.ground.evaluate", "evaluate"),
    "fly": ("pipeline.flight.run", "fly"),
    "load_config": ("pipeline.config", "load"),
    "mean_interval": ("pipeline.corpus.uncertainty", "mean_interval"),
    "mission": ("pipeline.flight.mission", "mission"),
    "open_run": ("pipeline.ground.run_directory", "open_run"),
    "plan_mission": ("pipeline.ground.plan", "plan"),
    "report": ("pipeline.ground.report", "report"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home, attribute = _HOMES[name]
    return getattr(importlib.import_module(home), attribute)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
