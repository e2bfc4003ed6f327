"""Radiation: bits flipped, pages zeroed, files truncated or gone, while a run is at rest and while it runs; and bits
flipped in what it computes with."""

from collections.abc import Callable
from pathlib import Path

from pipeline.checkpoint import layout, verify
from pipeline.config import Config
from pipeline.drill.damage import IN_PLACE, Wound, files, wound
from pipeline.drill.live_flips import run_live_flips, small
from pipeline.drill.outages import linger, reach_training
from pipeline.drill.run import Run
from pipeline.drill.tally import Control, Tally
from pipeline.flight.ledger import parse
from pipeline.flight.recorded import CONFIG, LEDGER, TOKENIZER, Found, look, look_at_tokenizer

FEWEST_LIVE = 12  # flips in a live run: two of each target
LIVE_S = 1.0  # how long a run may go on after it was struck
ALL_LOST = 0.15  # share of the outages in which every checkpoint is struck


def bit_flip(run: Run) -> bool:
    """Damage to checkpoints, SEALs, the ledger, config.yaml or tokenizer.json, and a kill. False if the run was done
    before it came.

    Where every checkpoint is struck the run must stop with an error, or go on from a second device, and never start
    from step 0; then a good copy is put back, as the ground would.
    """
    if not (reach_training(run) and run.wait(lambda: run.newest is not None)):
        return False
    at_rest = run.dice.random() < 0.5
    if at_rest and not run.kill("bit-flip"):
        return False
    strike(run)
    if not at_rest and not (linger(run, LIVE_S) and run.kill("bit-flip")):
        run.stopped("bit-flip")  # it was done first, and has to be found whole again all the same
    return True


def strike(run: Run) -> None:
    """One to three wounds, each in a file of the newest checkpoint, its SEAL, the ledger, config.yaml or
    tokenizer.json; or one in each checkpoint."""
    # One whose seal is not written down yet would be taken for sealed anew, and whole, as soon as it is.
    steps = [step for step in layout.steps(run.directory / "checkpoints") if step in run.sealed]
    if run.dice.random() < ALL_LOST:
        for step in steps:
            strike_step(run, step)
        return
    targets = ("checkpoint", "seal", "ledger", CONFIG, TOKENIZER)
    for target in run.dice.choices(targets, (6, 2, 2, 1, 1), k=run.dice.randint(1, 3)):
        if target == "ledger":
            strike_ledger(run)
        elif target == CONFIG:
            strike_begun_with(run, CONFIG, look)
        elif target == TOKENIZER:
            strike_begun_with(run, TOKENIZER, look_at_tokenizer)
        elif steps:
            strike_step(run, steps[-1], seal_only=target == "seal")


def strike_step(run: Run, step: int, seal_only: bool = False) -> None:
    """One wound; none in a step that an earlier outage left damaged, of which there is no good copy."""
    directory = layout.path(run.directory / "checkpoints", step)
    whole = not dict(verify(run.directory)).get(step, ["gone"])
    if not (run.wounds.has_copy(step) or (whole and run.wounds.keep_copy(step))):
        return
    try:
        candidates = [path for path in files(directory) if not seal_only or path.name == "SEAL"]
        made = wound(run.dice.choice(candidates), run.dice) if candidates else None
    except FileNotFoundError:  # thinned out by the run in this instant
        return
    if made:
        judge(run, made, step, dict(verify(run.directory)).get(step))


def strike_ledger(run: Run) -> None:
    """Flips and zeros: a ledger cut short is what a power cut leaves, and that is another drill."""
    path = run.directory / LEDGER
    made = wound(path, run.dice, tuple(IN_PLACE))
    whole = set(made.sealed.splitlines())
    changed = [line for line in path.read_bytes()[: len(made.sealed)].splitlines() if line not in whole]
    if changed and all(parse(line.decode(errors="replace")) is None for line in changed):
        judge(run, made, None, [f"{len(changed)} lines that no reader takes"])
    else:
        judge(run, made, None, [])


def strike_begun_with(run: Run, name: str, look: Callable[[Path], Found]) -> None:
    """None where an earlier wound waits for the next launch still."""
    if look(run.directory) is Found.WHOLE:
        made, found = wound(run.directory / name, run.dice), look(run.directory)
        judge(run, made, None, [] if found is Found.WHOLE else [found.value])


def judge(run: Run, made: Wound, step: int | None, named: list[str] | None) -> None:
    """Counts a wound: detected if a check names it, harmless if it changed nothing or is gone unread."""
    counted = run.tally.corruptions
    counted.injected += 1
    if named is None or (not named and made.harmless):
        counted.harmless += 1
        return
    run.wounded(made, step)
    if named:
        counted.detected += 1
    else:
        run.tally.failures.append(f"{made.path}: {made.what}: nothing noticed it")


def strike_live(config: Config, work: Path, outages: int, seed: int, tally: Tally) -> None:
    """Flips in parameters, optimizer state, gradients and batches of a small run in this process, counted.

    Raises:
        RunFailed: their control arm, with nothing on guard, is not corrupted.
    """
    found = run_live_flips(small(config, work / "live"), max(FEWEST_LIVE, outages), seed)
    counted = tally.corruptions
    counted.injected += found.injected
    counted.detected += found.detected
    counted.repaired += found.repaired
    counted.harmless += found.harmless
    tally.controls.append(
        Control("live flips", "nothing on guard", found.control["injected"], found.control["corrupted"])
    )
    tally.live = found.as_json()
    tally.failures += found.failures
