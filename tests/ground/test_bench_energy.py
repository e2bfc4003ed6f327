"""Joules are counted where a counter is, through its wrap; elsewhere it says that they are not."""

from pathlib import Path

import pytest

from pipeline.ground.bench.energy import NOT_MEASURABLE, RaplMeter, make_meters, per_token


def zone(root: Path, number: int, name: str, energy_uj: int, range_uj: int = 1_000_000) -> Path:
    """As Linux lays them out under /sys/class/powercap."""
    path = root / f"intel-rapl:{number}"
    path.mkdir(parents=True)
    (path / "name").write_text(f"{name}\n")
    (path / "energy_uj").write_text(f"{energy_uj}\n")
    (path / "max_energy_range_uj").write_text(f"{range_uj}\n")
    return path


def test_packages_are_added_up_and_a_wrap_is_no_loss(tmp_path: Path) -> None:
    first, second = zone(tmp_path, 0, "package-0", 100), zone(tmp_path, 1, "package-1", 999_000)
    zone(tmp_path, 2, "psys", 7)
    meter = RaplMeter(tmp_path)
    (first / "energy_uj").write_text("500100\n")
    (second / "energy_uj").write_text("499000\n")  # wrapped round
    assert meter.joules() == pytest.approx(0.5 + 0.500001)
    assert meter.joules() == 0.0


@pytest.mark.parametrize("zones", [[], ["core"]])
def test_without_a_package_nothing_is_counted(tmp_path: Path, zones: list[str]) -> None:
    for number, name in enumerate(zones):
        zone(tmp_path, number, name, 0)
    with pytest.raises(OSError, match=str(tmp_path)):
        RaplMeter(tmp_path)
    assert make_meters("cpu", tmp_path).joules() == {}


def test_per_token_is_of_all_turns_and_says_where_nothing_counts() -> None:
    turns = [{"processor": 3.0}, {"processor": 5.0}]
    assert per_token(turns, [10, 30]) == {"processor": pytest.approx(0.2)}
    assert per_token([*turns, {}], [10, 30, 10]) == NOT_MEASURABLE
    assert per_token([], []) == NOT_MEASURABLE
