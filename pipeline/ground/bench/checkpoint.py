"""What saving costs a training run on this machine, beside plain Orbax, and how fast a state is verified and restored.

`train.py bench checkpoint [--json]` takes about five minutes.
"""

import json
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.config import Config
from pipeline.config.arguments import Parser, within
from pipeline.config.learning import Model, Optimizer, Train
from pipeline.config.tree import Checkpoint
from pipeline.ground.arguments import set_up_jax
from pipeline.ground.bench.spread import spread

if TYPE_CHECKING:
    from pipeline.checkpoint import Store

INTERVAL_S = 15.0
GOALS = {"blocked_share": 0.005, "restore_s": 5.0}
# nanoGPT's shape for one GPU: 10.7 M parameters, 130 MB with AdamW's moments. A batch of one: a CPU takes a second.
SHAPE = Config(
    model=Model(depth=6, width=384, heads=6, context=256),
    optimizer=Optimizer(name="adamw"),
    train=Train(batch=1, chunk_steps=1, precision="fp32"),
)
VOCABULARY = 256


def main(arguments: Sequence[str]) -> int:
    """Measures, and prints a table or JSON.

    Raises:
        BadInput: an argument is wrong.
    """
    parser = Parser("train.py bench checkpoint", description=__doc__)
    parser.add_json()
    parser.add_argument("--pairs", type=within(int, 1), default=8, help="of 15 s with a save and 15 s without (8)")
    parser.add_argument("--saves", type=within(int, 1), default=12, help="of each kind, beside plain Orbax (12)")
    parser.add_argument("--restores", type=within(int, 1), default=5, help="from the disk (5)")
    parser.add_argument("--restore_mb", type=within(int, 1), default=500, help="of state restored (500)")
    parser.add_argument("--dir", type=Path, default=Path(), help="a directory on the disk to be measured (.)")
    own = parser.parse_args(list(arguments))
    set_up_jax()
    with TemporaryDirectory(prefix="bench-", dir=own.dir) as folder:
        job = Job(SHAPE, VOCABULARY)
        answer = {
            "provenance": f"measured on {os.cpu_count()} cores, JAX on {job.backend}",
            "overhead": overhead(job, Path(folder), own.pairs, INTERVAL_S),
            "plain_orbax": beside_orbax(job, Path(folder), own.saves),
            "restore": restoring(Path(folder), own.restores, own.restore_mb),
        }
    print(json.dumps(answer) if own.json else table(answer))
    return 0


class Job:
    """The real train step of `config` on random tokens, and its state."""

    def __init__(self, config: Config, vocab_size: int) -> None:
        import jax

        from pipeline.lm.schedule import Cooldown
        from pipeline.lm.step import init_state, make_train_chunk

        self.backend = jax.default_backend()
        self.state = jax.jit(lambda: init_state(config, vocab_size))()
        self.steps = 0
        self._train_chunk, self._cooldown = make_train_chunk(config), Cooldown()
        shape = (1, config.train.batch, config.model.context + 1)
        self._tokens = np.random.default_rng(0).integers(0, vocab_size, shape).astype(np.int32)
        self.step()

    def step(self) -> None:
        self.state, metrics = self._train_chunk(self.state, self._tokens, 1, self._cooldown)
        np.asarray(metrics.loss)  # waits for the device
        self.steps += 1


def overhead(job: Job, folder: Path, pairs: int, interval_s: float) -> dict[str, Any]:
    """Segments of `interval_s`, by turns with one save and with none: the share of the loop's time that it stood still
    for the save, and how much longer a step took, which on a CPU holds what the save computes beside it too."""
    from pipeline.checkpoint import Store

    sealed: list[dict[str, Any]] = []

    def note(name: str, fields: dict[str, Any]) -> None:
        if name == "sealed":
            sealed.append(fields)

    config = Checkpoint(min_free_mb=0, scrub_every_s=1e9)
    with Store(folder / "run/checkpoints", folder / "run/quarantine", config, note) as store:

        def segment(saves: bool) -> tuple[float, float]:
            """Seconds a step, and seconds that the loop stood still."""
            begun_s, first, still_s = time.perf_counter(), job.steps, 0.0
            while (now_s := time.perf_counter()) - begun_s < interval_s:
                store.save(job.steps, job.state, {}) if saves and job.steps == first else store.poll()
                still_s += time.perf_counter() - now_s
                job.step()
            store.wait(None)
            return (now_s - begun_s) / (job.steps - first), still_s / (now_s - begun_s)

        store.save(job.steps, job.state, {})  # the first one finds its memory, and Orbax
        store.wait(None)
        job.step()
        sealed.clear()
        rows = []
        for pair in range(pairs):
            order = (True, False) if pair % 2 else (False, True)
            found = {saves: segment(saves) for saves in order}
            rows.append((found[True][0] / found[False][0] - 1.0, found[True][1], found[False][1]))
        alone = [_processor_s(store, job) for _ in range(5)]
    longer, blocked, polling = zip(*rows, strict=True)
    return {
        "state_mb": sealed[-1]["bytes"] / 1e6,
        "interval_s": interval_s,
        "blocked_share": spread(blocked),
        "polling_share": spread(polling),
        "longer_steps": spread(longer),
        "processor_share": spread([seconds / (interval_s * (os.cpu_count() or 1)) for seconds in alone]),
        "time_to_seal_s": spread([one["seconds"] for one in sealed]),
        "holds": statistics.median(blocked) <= GOALS["blocked_share"],
    }


def _processor_s(store: "Store", job: Job) -> float:
    """Processor time of one save, all threads, with nothing beside it [s]."""
    job.step()
    begun_s = time.process_time()
    store.save(job.steps, job.state, {})
    store.wait(None)
    return time.process_time() - begun_s


def beside_orbax(job: Job, folder: Path, saves: int) -> dict[str, Any]:
    """The same state saved by turns by the store and by plain Orbax, asynchronously, a training step after each."""
    from orbax.checkpoint import v1 as ocp

    from pipeline.checkpoint import Store, arrays, seal

    took: dict[str, list[float]] = {
        name: [] for name in ("blocks_s", "done_s", "plain_blocks_s", "plain_done_s", "seal_s")
    }

    def note(name: str, fields: dict[str, Any]) -> None:
        if name == "sealed":
            took["blocks_s"].append(fields["blocking_s"])
            took["done_s"].append(fields["seconds"])

    config = Checkpoint(min_free_mb=0, scrub_every_s=1e9, keep=2)
    options = ocp.training.preservation_policies.LatestN(2)
    with (
        Store(folder / "beside/checkpoints", folder / "beside/quarantine", config, note) as store,
        ocp.training.Checkpointer(folder.absolute() / "plain", preservation_policy=options) as plain,
    ):
        for _ in range(saves):
            store.save(job.steps, job.state, {})
            job.step()
            store.wait(None)
            begun_s = time.perf_counter()
            response = plain.save_checkpointables_async(job.steps, {"state": arrays.named(job.state)})
            took["plain_blocks_s"].append(time.perf_counter() - begun_s)
            job.step()
            response.result()
            took["plain_done_s"].append(time.perf_counter() - begun_s)
        host = arrays.HostCopy().take(job.state)
        for attempt in range(saves):
            target = folder / f"{attempt}"
            arrays.write(target.absolute(), host)
            begun_s = time.perf_counter()
            seal.write(target, attempt, arrays.fingerprints(host))
            took["seal_s"].append(time.perf_counter() - begun_s)
    spreads = {name: spread(values) for name, values in took.items()}
    return spreads | {"holds": spreads["blocks_s"]["median"] <= spreads["plain_blocks_s"]["median"]}


def restoring(folder: Path, restores: int, megabytes: int) -> dict[str, Any]:
    """A state on the disk and not in memory: its files checked against the SEAL, read, checked again, on the device."""
    import jax

    from pipeline.checkpoint import Store

    random = np.random.default_rng(0)
    state = {f"w{i}": random.standard_normal(megabytes * 12_500, np.float32) for i in range(20)}
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), state)
    paths, verify_s, load_s = folder / "large/checkpoints", [], []
    config = Checkpoint(min_free_mb=0, scrub_every_s=1e9)
    with Store(paths, folder / "large/quarantine", config, lambda name, fields: None) as store:
        store.save(1, state, {})
        store.wait(None)
        for _ in range(restores):
            for path in _files(paths):
                descriptor = os.open(path, os.O_RDONLY)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(descriptor)
            found = store.restore(like)
            assert found is not None
            jax.block_until_ready(found.state)
            verify_s.append(found.verify_s)
            load_s.append(found.load_s)
    total = spread([a + b for a, b in zip(verify_s, load_s, strict=True)])
    return {
        "state_mb": megabytes,
        "verify_s": spread(verify_s),
        "load_s": spread(load_s),
        "restore_s": total,
        "holds": total["median"] <= GOALS["restore_s"],
    }


def _files(directory: Path) -> Iterator[Path]:
    return (path for path in directory.rglob("*") if path.is_file())


def table(answer: dict[str, Any]) -> str:
    """For a terminal: medians, and in brackets least and most."""
    over, plain, back = answer["overhead"], answer["plain_orbax"], answer["restore"]
    lines = [
        answer["provenance"],
        f"\nA save of {over['state_mb']:.0f} MB every {over['interval_s']:g} s, against none:",
    ]
    lines += [
        _line("the loop stands still", over["blocked_share"], _percent, "at most 0.5 % promised", over["holds"]),
        _line("steps take longer by", over["longer_steps"], _percent, "all in all; noisy where others compute too"),
        _line("processor time", over["processor_share"], _percent, "of all cores, for what runs beside the steps"),
        _line("sealed after", over["time_to_seal_s"], _seconds),
        "\nThe same state, by turns with plain Orbax, asynchronous:",
        _line("blocks", plain["blocks_s"], _milliseconds),
        _line("plain Orbax blocks", plain["plain_blocks_s"], _milliseconds, "no longer promised", plain["holds"]),
        _line("sealed after", plain["done_s"], _seconds),
        _line("plain Orbax done after", plain["plain_done_s"], _seconds, "not flushed to the disk"),
        _line("of it the seal", plain["seal_s"], _seconds, "flush, hash, SEAL"),
        f"\n{back['state_mb']} MB, cold:",
        _line("verified", back["verify_s"], _seconds),
        _line("read, checked again", back["load_s"], _seconds),
        _line("together", back["restore_s"], _seconds, "at most 5 s promised", back["holds"]),
    ]
    return "\n".join(lines)


def _line(
    name: str, spread: dict[str, float], unit: Callable[[float], str], note: str = "", holds: bool | None = None
) -> str:
    said = "" if holds is None else ": holds" if holds else ": DOES NOT HOLD"
    return (
        f"  {name:<24}{unit(spread['median']):>10}  ({unit(spread['least'])} to {unit(spread['most'])})  {note}{said}"
    )


def _percent(value: float) -> str:
    return f"{100.0 * value:.2f} %"


def _seconds(value: float) -> str:
    return f"{value:.3f} s"


def _milliseconds(value: float) -> str:
    return f"{1e3 * value:.1f} ms"
