"""How long it took from launch to the first step, by part: restart time is energy."""

import os
import sys
import time
from pathlib import Path


class Parts:
    """Seconds of each part of a start, and their total; after the first step nothing is counted any more."""

    def __init__(self) -> None:
        self._last = time.perf_counter()
        # Python itself, and what the command line needs. Within another program it is not ours to count.
        python_s = process_age_s() if Path(sys.argv[0]).name == "train.py" else 0.0
        self._began = self._last - python_s
        self.seconds: dict[str, float] = {"python": round(python_s, 3)}

    @property
    def started(self) -> bool:
        return "first_step" in self.seconds

    def done(self, part: str, **within: float) -> None:
        """Ends a part. `within` are seconds of it that count as parts of their own."""
        if self.started:
            return
        now = time.perf_counter()
        self.seconds |= {name: round(seconds, 3) for name, seconds in within.items()}
        self.seconds[part] = round(now - self._last - sum(within.values()), 3)
        self.seconds["total"] = round(now - self._began, 3)
        self._last = now


def process_age_s() -> float:
    """Since the start of this process, to the kernel's tick of 10 ms [s]; 0 where there is no /proc."""
    try:
        # The name of the program may hold spaces and brackets; what follows its last bracket is field 3.
        started_ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    except OSError:
        return 0.0
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started_ticks / os.sysconf("SC_CLK_TCK")
