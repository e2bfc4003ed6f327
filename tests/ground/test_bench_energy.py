"""Joules are counted where a counter is, through its wrap; elsewhere it says that they are not."""

import time
from pathlib import Path

import pytest

from pipeline.flight.meter import NoMeter
from pipeline.ground.bench import energy
from pipeline.ground.bench.energy import NOT_MEASURABLE, Meters, RaplMeter, make_meters, per_token


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


class Card(NoMeter):
    """Draws 100 W at rest, and 600 W at work."""

    def __init__(self) -> None:
        self.worked_s, self._last_s = 0.0, time.perf_counter()

    def joules(self) -> float:
        passed_s, self._last_s = time.perf_counter() - self._last_s, time.perf_counter()
        drawn_j, self.worked_s = 100.0 * passed_s + 500.0 * self.worked_s, 0.0
        return drawn_j


@pytest.mark.parametrize(("rests", "drawn_w"), [(True, 600.0), (False, 700.0)])
def test_what_is_drawn_while_all_wait_is_not_the_turn_s(
    rests: bool, drawn_w: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The turn is as short as the wait for the counter."""
    monkeypatch.setattr(energy, "REST_S", 0.3)
    card = Card()
    meters = Meters({"gpu": card})
    if rests:
        meters.rest()
    meters.joules()
    time.sleep(0.1)
    card.worked_s = 0.1
    assert meters.worked(0.1)["gpu"] / 0.1 == pytest.approx(drawn_w, abs=40.0)


def test_per_token_is_of_all_turns_and_says_where_nothing_counts() -> None:
    turns = [{"processor": 3.0}, {"processor": 5.0}]
    assert per_token(turns, [10, 20]) == {"processor": {"median": 0.275, "least": 0.25, "most": 0.3}}
    assert per_token([*turns, {}], [10, 30, 10]) == NOT_MEASURABLE
    assert per_token([], []) == NOT_MEASURABLE
