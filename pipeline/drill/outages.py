"""Outages of a process and of its power: at a random instant of every phase, and in mission time."""

import time

from pipeline.drill.phase import PHASES
from pipeline.drill.run import Run

UNKNOWN_S = 0.3  # length of a phase that was not seen yet
STRETCH = 0.4  # of the steps left, within which the next outage of the training comes


def kill(run: Run) -> bool:
    """SIGKILL at a random instant of the phase that was aimed at least; False if the run was done before it came."""
    return _reach(run, _wanted(run)) and run.kill("kill")


def power_cut(run: Run) -> bool:
    """As `kill`, with the disk cut off in the same instant: what was not flushed is lost."""
    return _reach(run, _wanted(run)) and run.cut("power-cut")


def _wanted(run: Run) -> str:
    aimed = run.setting.aimed
    fewest = min(aimed[name] for name in PHASES)
    wanted = run.dice.choice([name for name in PHASES if aimed[name] == fewest])
    aimed[wanted] += 1
    return wanted


def _reach(run: Run, wanted: str) -> bool:
    """Waits for a random instant of a phase; or, where the launch at work is past its start, goes on at once."""
    if wanted == "corpus":
        run.forget(run.corpus)  # there is more to be killed in preparing it than in opening it
    if wanted == "compilation" and run.dice.random() < 0.5:
        run.forget(run.directory / "cache")
    run.start()
    if wanted == "training":
        return reach_training(run)
    starts = wanted in PHASES[: PHASES.index("training")]
    if not run.wait(lambda: run.phase() == wanted or (starts and run.happened("first_step"))):
        return False
    return run.phase() != wanted or linger(run, run.setting.lengths_s.get(wanted, UNKNOWN_S))


def reach_training(run: Run) -> bool:
    """Waits for a random step, not far from where the launch began."""
    if not run.wait(lambda: run.happened("first_step")):
        return False
    left = (run.setting.undisturbed.last_step or run.step) - run.step
    wanted = run.step + run.dice.randrange(max(1, int(STRETCH * left)))
    return run.wait(lambda: run.step >= wanted) and linger(run, 0.05)


def linger(run: Run, longest_s: float) -> bool:
    """Lets the launch go on for a random time; False if the run was done first."""
    until = time.monotonic() + run.dice.uniform(0.0, longest_s)
    return run.wait(lambda: bool(run.phase()) and time.monotonic() >= until)
