"""A bit flipped in a live run is found and mended, what the text does is told from it, and no result changes."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from launching import ledger
from variations import slow

from pipeline.config import RunFailed, load
from pipeline.flight.corruption import Corrupted, what_differs
from pipeline.flight.display import Display
from pipeline.flight.loop import ROLLBACKS, Job
from pipeline.flight.notices import Notices
from pipeline.flight.run import assemble
from pipeline.lm.step import TrainState
from pipeline.plan import Mode

Fly = Callable[..., Job]
# Chunks of ten steps, as on a GPU, and a save now and then.
QUICK = ("--budget.orbits", "null", "--mission.step_flops", "1e14", "--checkpoint.interval_s", "20")


@pytest.fixture
def job(tiny: Path, tmp_path: Path) -> Iterator[Fly]:
    """Opens the tiny run in this process; `job("--budget.steps", 50)`."""
    with ExitStack() as stack:
        notices, display = Notices(60.0), Display(quiet=True)
        stack.callback(notices.release)

        def opened(*overrides: object, run: str = "run") -> Job:
            arguments = ["--config", tiny, "--run_dir", tmp_path / run, *QUICK, *overrides]
            made = assemble(load([*map(str, arguments)]), notices, display, stack)
            return made

        yield opened


def flip(state: TrainState, bit: int = 3) -> TrainState:
    """A bit of one parameter; 3 is of no consequence to the loss."""
    norm = np.array(state.params["norm"])
    norm.view(np.uint32)[7] ^= np.uint32(1 << bit)
    return state._replace(params=state.params | {"norm": jnp.array(norm)})


def bits(state: TrainState) -> list[bytes]:
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state)]


@pytest.fixture(scope="module")
def undisturbed(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """How 130 steps end that nobody disturbs."""
    with ExitStack() as stack:
        notices, display = Notices(60.0), Display(quiet=True)
        stack.callback(notices.release)
        folder = tmp_path_factory.mktemp("undisturbed")
        arguments = ["--config", tiny, "--run_dir", folder, *QUICK, "--budget.steps", 130]
        job = assemble(load([*map(str, arguments)]), notices, display, stack)
        assert job.fly()
        assert not ledger(folder, "corruption")
        return {"bits": bits(job.state), "mission_s": job.spacecraft.clock.now()}


def at_rest(job: Job) -> bool:
    """Whether the last chunk ended with a fingerprint; after a short one none may be due."""
    return job.guard._left is not None


def run_until(job: Job, until: Callable[[], bool]) -> None:
    while not until():
        job.turn()


@pytest.mark.parametrize(
    "when", ["before the first seal", "between two validations' pieces", *slow("after it", "at the end")]
)
def test_a_flip_at_rest_costs_steps_and_changes_nothing(
    when: str, job: Fly, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    flown = job("--budget.steps", 130)
    moments = {
        "before the first seal": lambda: flown.progress.step >= 20 and at_rest(flown),
        "after it": lambda: flown.progress.step >= 60 and flown.store.newest_sealed is not None and at_rest(flown),
        "between two validations' pieces": lambda: flown.progress.validated_pieces == 3,
        "at the end": lambda: flown.progress.step == 130,
    }
    run_until(flown, moments[when])
    flown.state = flip(flown.state)
    assert flown.fly()
    (found,) = ledger(tmp_path / "run", "corruption")
    assert found["found_by"] == "fingerprint"
    assert "params.norm changed at rest" in found["reason"]
    assert bits(flown.state) == undisturbed["bits"]
    assert flown.totals()["corruptions"] == 1
    assert flown.totals()["lost_steps"] == found["lost_steps"] > 0
    assert flown.spacecraft.clock.now() >= undisturbed["mission_s"]  # time went on, in slots of 10 s


def test_a_flip_while_the_gpu_is_off_is_found_when_it_goes_on(job: Fly, tmp_path: Path) -> None:
    flown = job("--budget.steps", 400, "--mission.step_flops", "1.3e15", "--satellite.battery.initial_charge", 0.8)
    run_until(flown, lambda: flown.mode is Mode.TRAIN)
    run_until(flown, lambda: flown.mode is Mode.OFF)
    at = flown.progress.step
    assert flown.store.newest_sealed == at
    flown.state = flip(flown.state)
    with pytest.raises(Corrupted, match=f"after step {at}"):
        run_until(flown, lambda: flown.progress.step > at + 50)
    assert flown.progress.step <= at + 10


def test_nothing_corrupted_is_sealed(job: Fly) -> None:
    flown = job("--budget.steps", 130)
    run_until(flown, lambda: flown.progress.step >= 20)
    flown.store.wait(None)
    before = flown.store.sealed_steps
    flown.state = flip(flown.state)
    with pytest.raises(Corrupted, match="changed at rest"):
        flown.save(urgent=True)
    assert flown.store.sealed_steps == before


def wrong_now_and_then(flown: Job, at: int, bit: int, calls: tuple[int, ...] = (1,)) -> None:
    """The device computes the step to `at` wrongly when it does so for the 1st, 2nd … time: a bit comes out flipped."""
    right, count = flown.train_chunk, 0

    def chunk(state: TrainState, tokens: Any, steps: int, cooldown: Any) -> Any:
        nonlocal count
        first = int(state.step)
        after, metrics = right(state, tokens, steps, cooldown)
        if first < at <= first + steps:
            count += 1
            if count in calls:
                after = flip(after, bit + count - 1)
        return after, metrics

    flown.train_chunk = flown.guard._train_chunk = chunk


def test_a_wrong_step_that_stands_out_is_computed_again_and_mended(
    job: Fly, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    """It shows in the chunk after it, whose own replay would agree, and is sealed in between."""
    flown = job("--budget.steps", 130)
    wrong_now_and_then(flown, at=110, bit=30)
    run_until(flown, lambda: flown.progress.step >= 110)
    assert flown.save(urgent=True)
    assert flown.fly()
    (found,) = ledger(tmp_path / "run", "corruption")
    assert found["found_by"] == "replay"
    assert "twice" in found["reason"]
    assert bits(flown.state) == undisturbed["bits"]
    spikes = len(ledger(tmp_path / "run", "spike"))  # what the text does itself is computed again once
    assert flown.totals()["replayed_steps"] == (2 + spikes) * 20
    assert flown.totals()["lost_steps"] == 0


@pytest.mark.parametrize(
    ("calls", "says"), [((1,), "twice; taken from there"), ((2,), "a third time not; kept"), ((1, 2), "third time")]
)
def test_a_step_whose_turn_it_is_may_be_wrong_any_of_three_times(
    calls: tuple[int, ...], says: str, job: Fly, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    flown = job("--budget.steps", 130, "--train.replay_every", 40)
    wrong_now_and_then(flown, at=80, bit=3, calls=calls)
    assert flown.fly()
    (found,) = ledger(tmp_path / "run", "corruption")
    assert found["reason"].startswith("params.norm differs at step 80 when computed again from step 79")
    assert says in found["reason"]
    assert (found["lost_steps"] > 0) == (len(calls) > 1)  # only where no two agree, it goes back
    assert bits(flown.state) == undisturbed["bits"]


def test_a_copy_that_was_struck_decides_nothing(job: Fly, undisturbed: dict[str, Any], tmp_path: Path) -> None:
    """Computed again from it, a right step would look wrong, twice."""
    flown = job("--budget.steps", 130, "--train.replay_every", 40)
    run_until(flown, lambda: flown.progress.step == 79)
    enter = flown.guard.enter

    def entered(state: TrainState, progress: Any) -> None:
        enter(state, progress)
        spares = flown.guard._spares
        spares[-1] = spares[-1]._replace(state=flip(spares[-1].state))
        flown.guard.enter = enter  # type: ignore[method-assign]

    flown.guard.enter = entered  # type: ignore[method-assign]
    assert flown.fly()
    (found,) = ledger(tmp_path / "run", "corruption")
    assert "params.norm changed in the copy of step 79" in found["reason"]
    assert bits(flown.state) == undisturbed["bits"]


def test_without_guard_it_goes_unnoticed_and_the_weights_are_wrong(
    job: Fly, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    """The control: the same wrong step with no replay."""
    flown = job("--budget.steps", 130, "--train.replay_every", "null")
    wrong_now_and_then(flown, at=80, bit=3)
    assert flown.fly()
    assert not ledger(tmp_path / "run", "corruption")
    assert bits(flown.state) != undisturbed["bits"]


def test_a_spike_that_the_text_has_is_no_corruption(job: Fly, tiny: Path, tmp_path: Path) -> None:
    words = (tiny.parent / "text.txt").read_text()
    noise = "".join(map(chr, np.random.default_rng(0).integers(32, 127, 1200)))
    (tmp_path / "text.txt").write_text(words[:60_000] + noise + words[60_000:])
    flown = job("--budget.steps", 400, "--corpus.path", tmp_path / "text.txt", "--corpus.cache_dir", tmp_path / "cache")
    assert flown.fly()
    spikes = ledger(tmp_path / "run", "spike")
    assert spikes
    assert spikes[0]["reason"].startswith("loss")
    assert not ledger(tmp_path / "run", "corruption")
    assert flown.totals()["replayed_steps"] == 2 + 20 * len(spikes)  # 400 steps, one in 200


def test_a_fault_that_stays_ends_the_run_and_says_so(job: Fly, tmp_path: Path) -> None:
    flown = job("--budget.steps", 130)
    wait = flown.turn

    def struck_turn() -> None:
        if flown.progress.step >= 20:
            flown.state = flip(flown.state)
        wait()

    flown.turn = struck_turn  # type: ignore[method-assign]
    with pytest.raises(RunFailed, match=r"step \d+: 3 rollbacks to it.*switch it off and on"):
        flown.fly()
    assert len(ledger(tmp_path / "run", "corruption")) > ROLLBACKS


def test_replays_are_paid_for_and_planned_for(job: Fly, tmp_path: Path, nothing_stands_out: None) -> None:
    """Every second step is computed twice: a third of the time, and the cooldown still ends within the budget."""
    steps, mission = {}, ("--budget.orbits", 0.3, "--mission.step_flops", "1.3e15")
    for name, every in (("without", "null"), ("with", 2)):
        flown = job(*mission, "--train.replay_every", every, run=name)
        planned = flown.budget.expectation(flown.progress)["steps"]
        assert flown.fly()
        assert ledger(tmp_path / name, "done")[0]["spent"] == "steps"
        assert flown.progress.step == pytest.approx(planned, rel=0.04)
        steps[name] = flown.progress.step
    assert steps["with"] / steps["without"] == pytest.approx(2 / 3, rel=0.05)


def test_a_copy_that_was_struck_before_it_was_sealed_is_not_gone_on_from(job: Fly, tmp_path: Path) -> None:
    """Between the check on the device and the hash in host memory. The files are whole; the fingerprint tells."""
    flown = job("--budget.steps", 130)
    run_until(flown, lambda: flown.progress.step >= 20)
    assert flown.save(urgent=True)
    run_until(flown, lambda: flown.progress.step >= 60)
    flown.store.wait(None)
    step = flown.progress.step
    assert flown.store.save(step, flip(flown.state), {"fingerprint": flown.guard.check(flown.state, step)})
    assert flown.store.wait(None)
    assert flown.store.newest_sealed == step
    restored = flown.store.restore(jax.eval_shape(flown.first_state), what_differs)
    assert restored is not None
    assert restored.step < step
    assert bits(restored.state) != bits(flown.state)
    (quarantined,) = ledger(tmp_path / "run", "quarantined")
    assert "params.norm differs from what the device held" in quarantined["reason"]
