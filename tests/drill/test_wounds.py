"""Every way of damage changes the file, and says so; what changed nothing is called harmless."""

import random
from pathlib import Path

import pytest

from pipeline.drill.damage import ANY, DELETED, IN_PLACE, Wound, wound


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
