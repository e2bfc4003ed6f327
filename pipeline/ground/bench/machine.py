"""The machine that is measured: how much of it others took meanwhile, and how much of it a process may take."""

import os
import time
from pathlib import Path


class Others:
    """Since it was made: what share of all processor time went to processes that are not of this bench."""

    def __init__(self) -> None:
        self._began = _busy_s(), processor_s()

    def share(self) -> float | None:
        """In [0, 1], of the time that anything ran at all; None where the system does not tell.

        Only what a child of this process used up to its end is known, so ask when all have ended.
        """
        busy_s, own_s = _busy_s(), processor_s()
        if busy_s is None or self._began[0] is None or busy_s <= self._began[0]:
            return None
        return max(0.0, 1.0 - (own_s - self._began[1]) / (busy_s - self._began[0]))


def describe(backend: str, others: float | None) -> str:
    """Provenance of a measurement, and a warning where others computed beside it."""
    text = f"measured on {os.cpu_count()} cores, JAX on {backend}"
    if others is not None and others > 0.1:
        text += f"; OTHERS TOOK {100 * others:.0f} % of the processor time, so trust the ratios more than the times"
    return text


def _busy_s() -> float | None:
    """Processor time of the whole machine, all cores, since it began; with what its hypervisor gave to others."""
    try:
        user, nice, system, _, _, irq, softirq, steal, *_ = map(
            int, Path("/proc/stat").read_text().split("\n")[0].split()[1:]
        )
    except (OSError, ValueError):
        return None
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def processor_s() -> float:
    """Processor time of this process, and of its children that have ended."""
    times = os.times()  # to the kernel's tick
    return time.process_time() + times.children_user + times.children_system
