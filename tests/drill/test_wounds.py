"""Every way of damage changes the file, and says so; what changed nothing is called harmless."""

import random
from pathlib import Path

import pytest

from pipeline.drill.damage import ANY, DELETED, IN_PLACE, Wound, wound
from pipeline.drill.wounds import NO_CONFIG, Wounds


@pytest.mark.parametrize("way", [*ANY, DELETED])
def test_damage_is_done_and_known(way: str, tmp_path: Path) -> None:
    path, dice = tmp_path / "file", random.Random(1)
    for _ in range(200):
        good = dice.randbytes(dice.randrange(1, 10_000))
        path.write_bytes(good)
        made = wound(path, dice, (way,))
        assert (made.what, made.sealed) == (way, good)
        assert not made.harmless
        if way in IN_PLACE:
            assert path.stat().st_size == len(good)


def test_a_single_flip_is_a_single_flip(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(1000))
    wound(path, random.Random(2), ("one bit",))
    assert int.from_bytes(path.read_bytes(), "big").bit_count() == 1


def test_zeros_over_zeros_are_harmless(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(5000))
    assert wound(path, random.Random(3), ("zeroed page",)).harmless
    assert not Wound(tmp_path / "gone", DELETED, b"").harmless


def test_a_file_that_grows_meanwhile_keeps_its_new_end(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(b"a" * 100)
    with path.open("ab", buffering=0) as other:
        wound(path, random.Random(4), ("one bit",))
        other.write(b"b" * 10)
        wound(path, random.Random(5), ("zeroed page",))
    assert path.stat().st_size == 110


@pytest.fixture
def struck(tmp_path: Path) -> Wounds:
    """Steps 3 and 6 of a run, each wounded while launch 1 was at work, with copies."""
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    wounds, dice = Wounds(run, tmp_path / "copies"), random.Random(6)
    for step in (3, 6):
        (run / "checkpoints" / str(step)).mkdir()
        file = run / "checkpoints" / str(step) / "SEAL"
        file.write_bytes(b"good")
        assert wounds.keep_copy(step)
        wounds.add(wound(file, dice, ("one bit",)), step, launch=1)
    return wounds


def test_a_launch_that_stops_though_something_is_left_is_not_helped(struck: Wounds) -> None:
    assert struck.mend("none can be restored", nothing_left=False) is None
    assert struck.mend("no idea", nothing_left=True) is None


def test_copies_are_put_back_where_nothing_is_left(struck: Wounds, tmp_path: Path) -> None:
    assert struck.open(3)
    assert struck.mend("3, 6: none can be restored", nothing_left=True) == [3, 6]
    assert not struck.open(3)
    for step in (3, 6):
        assert (tmp_path / "run" / "checkpoints" / str(step) / "SEAL").read_bytes() == b"good"


def test_damage_is_judged_by_the_launch_after_it(struck: Wounds) -> None:
    struck.whole_again(6)
    assert struck.judge(launch=1) == 0
    assert struck.open(3)
    assert not struck.open(6)
    assert struck.judge(launch=2) == 1
    assert not struck.has_copy(3)


def test_a_configuration_that_is_whole_nowhere_is_put_back(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"seed: 0\n" * 100)
    wounds, said = Wounds(tmp_path, tmp_path / "copies"), f"run_dir: {tmp_path}: checkpoints, but {NO_CONFIG}; copy it"
    assert wounds.mend(said, nothing_left=False) is None, "nothing had damaged it"
    wounds.add(wound(path, random.Random(7), (DELETED,)), None, launch=1)
    assert wounds.mend(said, nothing_left=False) == []
    assert path.read_bytes() == b"seed: 0\n" * 100
    assert wounds.mend(said, nothing_left=False) is None
