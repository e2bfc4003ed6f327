"""A damaged program is compiled again: never run, never a crash, never in the way of the good one."""

import os
import random
import shutil
from collections import Counter
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache
from launching import final_bits, finish, ledger

from pipeline.flight.programs import LIST, Programs


def flip(path: Path, dice: random.Random) -> None:
    data = bytearray(path.read_bytes())
    bit = dice.randrange(8 * len(data))
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


DAMAGES: dict[str, Callable[[Path, random.Random], None]] = {
    "flipped": flip,
    "zeroed": lambda path, dice: path.write_bytes(bytes(path.stat().st_size)),
    "truncated": lambda path, dice: os.truncate(path, dice.randrange(1, path.stat().st_size)),
    "emptied": lambda path, dice: os.truncate(path, 0),
    "deleted": lambda path, dice: path.unlink(),
    "unreadable": lambda path, dice: (path.unlink(), path.symlink_to("/proc/self/mem"))[0],  # a read is an I/O error
}


def entries(directory: Path) -> list[Path]:
    return sorted(directory.glob("*-cache"))


def test_a_second_launch_compiles_nothing_and_with_every_program_damaged_the_bits_are_the_same(
    tiny: Path, tmp_path: Path
) -> None:
    run, damaged, dice = tmp_path / "run", tmp_path / "damaged", random.Random(1)
    short = ["--config", tiny, "--train.eval_every", 10, "--optimizer.cooldown", 0, "--budget.orbits", "null", "--json"]
    code, _, err = finish(*short, "--run_dir", run, "--budget.steps", 20, cold=True)
    assert code == 0, err
    shutil.copytree(run, damaged)

    code, _, err = finish(*short, "--run_dir", run, "--budget.steps", 40)
    assert code == 0, err
    assert ledger(run, "resume")[-1]["programs_kept"] >= 3
    functions = Counter(path.name.partition("-")[0] for path in entries(run / "cache" / "xla"))
    assert "jit_train_chunk" in functions
    assert set(functions.values()) == {1}, "what the first launch had run was compiled again"

    cache = damaged / "cache" / "xla"
    for path, damage in zip(entries(cache), cycle(DAMAGES.values()), strict=False):
        damage(path, dice)
    code, _, err = finish(*short, "--run_dir", damaged, "--budget.steps", 40)
    assert code == 0, err
    resumed = ledger(damaged, "resume")[-1]
    assert resumed["programs_kept"] == 0
    assert resumed["programs_damaged"] >= 3
    assert Programs(cache).damaged == 0
    code, _, err = finish(*short, "--run_dir", tmp_path / "uninterrupted", "--budget.steps", 40)
    assert code == 0, err
    assert final_bits(damaged) == final_bits(run) == final_bits(tmp_path / "uninterrupted")


@pytest.fixture
def cache(tmp_path: Path, shared_cache: Callable[[], None]) -> Path:
    """A sealed cache with one entry, written by JAX itself."""
    directory = tmp_path / "xla"
    programs = Programs(directory)
    compilation_cache.reset_cache()
    jax.config.update("jax_compilation_cache_dir", str(directory))
    jax.jit(lambda x: x * 3.0 + 1.0).lower(2.0).compile()
    shared_cache()
    programs.seal()
    assert Programs(directory).kept == len(entries(directory)) == 1
    return directory


@pytest.mark.parametrize("damage", DAMAGES)
def test_no_damage_to_a_program_passes(damage: str, cache: Path, tmp_path: Path) -> None:
    shutil.copytree(cache, tmp_path / "good")
    dice = random.Random(damage)
    for _ in range(50):
        shutil.copytree(tmp_path / "good", cache, dirs_exist_ok=True)
        DAMAGES[damage](entries(cache)[0], dice)
        programs = Programs(cache)
        assert (programs.kept, programs.damaged) == (0, 1)
        assert not entries(cache)


def test_the_control_jax_itself_takes_flipped_programs_for_good(cache: Path, tmp_path: Path) -> None:
    """Without this room a flipped bit would reach the loader of machine code."""
    from jax._src.compilation_cache import decompress_executable

    (entry,) = entries(cache)
    good, taken = entry.read_bytes(), 0
    for at in range(len(good)):
        try:
            taken += decompress_executable(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]) != decompress_executable(
                good
            )
        except Exception:
            continue
    assert taken > 0


def test_what_was_not_sealed_is_not_kept(cache: Path) -> None:
    (cache / LIST).unlink()
    assert Programs(cache).kept == 0
    assert not entries(cache)


def test_an_entry_that_a_full_disk_cut_short_is_not_sealed(cache: Path, tmp_path: Path) -> None:
    programs = Programs(tmp_path / "other")
    (entry,) = entries(cache)
    torn = tmp_path / "other" / entry.name
    torn.write_bytes(entry.read_bytes()[:-20])
    programs.seal()
    assert not torn.exists()
    assert not (tmp_path / "other" / LIST).exists()


def test_where_no_folder_can_be_made_nothing_is_kept(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    programs = Programs(tmp_path / "file" / "xla")
    assert programs.unusable is not None
    assert "Not a directory" in programs.unusable
    programs.seal()
    assert (programs.kept, programs.damaged) == (0, 0)


def test_a_damaged_program_that_cannot_be_removed_is_neither_run_nor_sealed(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flip(entries(cache)[0], random.Random(0))
    listed = (cache / LIST).read_bytes()

    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise OSError(30, os.strerror(30), str(path))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", refuse)
        programs = Programs(cache)
    assert programs.unusable is not None
    programs.seal()
    assert (cache / LIST).read_bytes() == listed


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1', "\0" * 64])
def test_a_damaged_list_costs_a_compilation(text: str, cache: Path) -> None:
    (cache / LIST).write_text(text)
    assert Programs(cache).kept == 0
