"""How long it took from launch to the first step, by part: restart time is energy."""

import time


class Parts:
    """Seconds of each part of a start, and their total."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._began = self._last = time.perf_counter()

    def done(self, part: str) -> None:
        now = time.perf_counter()
        self.seconds[part] = round(now - self._last, 3)
        self.seconds["total"] = round(now - self._began, 3)
        self._last = now
