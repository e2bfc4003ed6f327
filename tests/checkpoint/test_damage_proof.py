"""Many damages over every file of a checkpoint: each is found, or proven harmless by restoring the same bits.

The control arm reads the same state, saved by stock Orbax without a SEAL, under the same damages, and must at least
once restore wrong values without a word; if it does not, these are no damages.
"""

import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from checkpoint_states import Events, like, same, seal_steps, state_of

from pipeline.checkpoint import Store, arrays, layout, restore, seal
from pipeline.config.tree import Checkpoint

# Orbax's own, when it gives up on a damaged file.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

PAGE = 4096  # what a file system reads and loses at once [bytes]


def flipped(data: bytes, dice: random.Random, bits: int) -> bytes:
    changed = bytearray(data)
    for bit in dice.sample(range(len(data) * 8), bits):
        changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def zeroed(data: bytes, dice: random.Random) -> bytes:
    start = PAGE * dice.randrange(-(-len(data) // PAGE))
    return data[:start] + bytes(min(PAGE, len(data) - start)) + data[start + PAGE :]


KINDS: dict[str, Callable[[bytes, random.Random], bytes | None]] = {
    "one bit": lambda data, dice: flipped(data, dice, 1),
    "2 to 64 bits": lambda data, dice: flipped(data, dice, dice.randint(2, min(64, 8 * len(data)))),
    "truncated": lambda data, dice: data[: dice.randrange(len(data))],
    "page zeroed": zeroed,
    "deleted": lambda data, dice: None,
}


def damages(files: list[Path], count: int, dice: random.Random) -> Iterator[tuple[str, Path, bytes, bytes | None]]:
    """(kind, file, what it holds, what it holds then; None: it is gone), over every file in turn."""
    filled = {path: data for path in files if (data := path.read_bytes())}
    for number in range(count):
        path = list(filled)[number % len(filled)]
        kind = list(KINDS)[number // len(filled) % len(KINDS)]
        yield kind, path, filled[path], KINDS[kind](filled[path], dice)


def put(path: Path, data: bytes | None) -> None:
    if data is None:
        path.unlink()
    else:
        path.write_bytes(data)


def verdict(checkpoints: Path, good: dict) -> str:
    """What becomes of a step that was damaged."""
    if seal.inspect(checkpoints / "2", 2)[1]:
        return "detected"
    restored = restore.load(checkpoints, 2, like(good))
    return "harmless" if same(restored.state, good) and restored.meta == {"step": 2} else "MISSED"


def stock_verdict(directory: Path, good: arrays.Named) -> str:
    """The same for stock Orbax."""
    from orbax.checkpoint import v1 as ocp

    try:
        found = ocp.load_checkpointables(directory, {"state": good})["state"]
    except Exception:
        return "detected"
    equal = found.keys() == good.keys() and all(found[name].tobytes() == good[name].tobytes() for name in good)
    return "harmless" if equal else "SILENTLY WRONG"


def goes_on(run: Path, second: Path | None, good: dict) -> int:
    """The step from which a run goes on that finds step 2 damaged; it saves the next, and nothing was overwritten."""
    events = Events()
    config = Checkpoint(mirror_dir=second, min_free_mb=0)
    with Store(run / "checkpoints", run / "quarantine", config, events) as store:
        restored = store.restore(like(good))
        assert restored is not None
        assert same(restored.state, state_of(restored.step, 8))
        assert events.of("quarantined")[0]["step"] == 2
        seal_steps(store, 3, kilobytes=8)
        assert store.sealed_steps == sorted({1, restored.step, 3})
    assert (run / "quarantine/2/REASON").read_text().strip()
    return restored.step


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with steps 1 and 2, their copies on a second device, and step 2 as stock Orbax saves it."""
    folder = tmp_path_factory.mktemp("proof")
    config = Checkpoint(min_free_mb=0)
    with Store(folder / "run/checkpoints", folder / "run/quarantine", config, lambda name, fields: None) as store:
        seal_steps(store, 1, 2, kilobytes=8)
    shutil.copytree(folder / "run", folder / "second/run")
    from orbax.checkpoint import v1 as ocp

    ocp.save_checkpointables(folder / "stock", {"state": arrays.HostCopy().take(state_of(2, 8))})
    return folder


def prove(folder: Path, work: Path, count: int, every: int, control: int) -> dict[str, Counter[str]]:
    """Verdicts by kind, and of the control arm. Every `every`-th damage is also met by a run that resumes."""
    checkpoints, good, dice = folder / "run/checkpoints", state_of(2, 8), random.Random(7)
    files = sorted(path for path in (checkpoints / "2").rglob("*") if path.is_file())
    table: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    for number, (kind, path, before, after) in enumerate(damages(files, count, dice)):
        put(path, after)
        found = verdict(checkpoints, good)
        table[kind][found] += 1
        assert found != "MISSED", (kind, path)
        if number % every == 0 and found == "detected":
            mirrored = number // every % 2 == 1
            shutil.copytree(folder / "run", work / "run")
            shutil.copytree(folder / "second", work / "second")
            assert goes_on(work / "run", work / "second" if mirrored else None, good) == (2 if mirrored else 1)
            shutil.rmtree(work)
        path.write_bytes(before)
    assert seal.inspect(checkpoints / "2", 2)[1] == []

    stock = sorted(path for path in (folder / "stock").rglob("*") if path.is_file())
    host = {name: np.asarray(array) for name, array in arrays.named(good).items()}
    table["stock Orbax, the same kinds"] = Counter()
    for _, path, before, after in damages(stock, control, dice):
        put(path, after)
        table["stock Orbax, the same kinds"][stock_verdict(folder / "stock", host)] += 1
        path.write_bytes(before)
    return table


def show(table: dict[str, Counter[str]]) -> None:
    columns = ("detected", "harmless", "MISSED", "SILENTLY WRONG")
    print(f"\n{'':<30}" + "".join(f"{column:>16}" for column in columns))
    for kind, counts in table.items():
        print(f"{kind:<30}" + "".join(f"{counts[column]:>16,}" for column in columns))


def test_damages_of_every_kind_are_found_or_harmless_where_stock_orbax_restores_wrong_values(
    sealed: Path, tmp_path: Path
) -> None:
    table = prove(sealed, tmp_path / "work", count=700, every=60, control=70)
    assert table["stock Orbax, the same kinds"]["SILENTLY WRONG"] > 0
    assert all(table[kind]["detected"] > 0 for kind in KINDS)


@pytest.mark.slow
def test_ten_thousand_damages_are_found_or_harmless_where_stock_orbax_restores_wrong_values(
    sealed: Path, tmp_path: Path
) -> None:
    table = prove(sealed, tmp_path / "work", count=10_000, every=40, control=700)
    show(table)
    assert sum(table[kind].total() for kind in KINDS) == 10_000
    assert table["stock Orbax, the same kinds"]["SILENTLY WRONG"] > 0


def test_every_file_of_a_checkpoint_is_damaged(sealed: Path) -> None:
    """But for those that hold nothing: they cannot be flipped, and their absence is found below."""
    files = sorted(path for path in layout.path(sealed / "run/checkpoints", 2).rglob("*") if path.is_file())
    hit = {path for _, path, _, _ in damages(files, 700, random.Random(7))}
    for path in set(files) - hit:
        assert path.stat().st_size == 0
        path.unlink()
        assert seal.inspect(sealed / "run/checkpoints/2", 2)[1] == [f"{path.name}: missing"]
        path.touch()
        os.truncate(path, 0)
