"""What machine and GPU draw, where they count it."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from pipeline.flight.meter import Meter, NoMeter, make_meter
from pipeline.ground.bench.spread import spread

POWERCAP = Path("/sys/class/powercap")
NOT_MEASURABLE = "not measurable here"
# NVML refreshes its energy counter about ten times a second: so much is unknown at either end of a window.
COUNTER_S = 0.1
REST_S = 2.0


class RaplMeter:
    """Running average power limit: the processor packages' own counters [µJ], which wrap round.

    Linux shows them to root only (since CVE-2020-8694).
    """

    def __init__(self, root: Path = POWERCAP):
        """
        Raises:
            OSError: there are none, or they may not be read.
        """
        self._zones = [
            path for path in sorted(root.glob("*-rapl:*")) if (path / "name").read_text().startswith("package")
        ]
        if not self._zones:
            raise FileNotFoundError(root)
        self._ranges_uj = [int((zone / "max_energy_range_uj").read_text()) for zone in self._zones]
        self._last_uj = self._read_uj()

    def joules(self) -> float | None:
        """Drawn since the last call [J]; right if that was less than one wrap ago, some minutes under load."""
        now_uj = self._read_uj()
        since_uj = sum(
            (now - last) % (most + 1) for now, last, most in zip(now_uj, self._last_uj, self._ranges_uj, strict=True)
        )
        self._last_uj = now_uj
        return since_uj / 1e6

    def close(self) -> None:
        pass

    def _read_uj(self) -> list[int]:
        return [int((zone / "energy_uj").read_text()) for zone in self._zones]


class Meters:
    """All that count here."""

    def __init__(self, meters: dict[str, Meter]):
        self._meters = meters
        self._resting_w: dict[str, float] = {}  # nothing until `rest`
        self._looked_s = 0.0

    def rest(self) -> None:
        """Learns what is drawn while all wait; where nothing counts, at once."""
        if self.joules():
            time.sleep(REST_S)
            looked_s = self._looked_s
            drawn = self.joules()
            self._resting_w = {name: joules / (self._looked_s - looked_s) for name, joules in drawn.items()}

    def worked(self, seconds: float) -> dict[str, float]:
        """What each has counted since the last call, of which `seconds` were work and the rest waiting [J]."""
        looked_s = self._looked_s
        found = self.joules()
        waited_s = self._looked_s - looked_s - seconds
        return {name: joules - self._resting_w.get(name, 0.0) * waited_s for name, joules in found.items()}

    def joules(self) -> dict[str, float]:
        """What each has counted since the last call [J]; empty where nothing counts. Waits until the GPU's counter
        holds all that was drawn."""
        if "gpu" in self._meters:
            time.sleep(COUNTER_S)
        self._looked_s = time.perf_counter()
        found = {name: meter.joules() for name, meter in self._meters.items()}
        return {name: value for name, value in found.items() if value is not None}

    def close(self) -> None:
        for meter in self._meters.values():
            meter.close()


def make_meters(backend: str, root: Path = POWERCAP) -> Meters:
    """NVML on an NVIDIA GPU and RAPL of the processor, as far as they can be had, while nobody works."""
    meters: dict[str, Meter] = {}
    gpu = make_meter(backend)
    if not isinstance(gpu, NoMeter):
        meters["gpu"] = gpu
    with suppress(OSError, ValueError):
        meters["processor"] = RaplMeter(root)
    made = Meters(meters)
    made.rest()
    return made


def per_token(joules: Sequence[Mapping[str, float]], tokens: Sequence[int]) -> dict[str, dict[str, float]] | str:
    """Joules per token of each counter, turn by turn, or that none counts."""
    names = set.intersection(*(set(one) for one in joules)) if joules else set()
    if not names:
        return NOT_MEASURABLE
    return {
        name: spread([one[name] / count for one, count in zip(joules, tokens, strict=True)]) for name in sorted(names)
    }
