"""What a watt buys: a GPU's throughput against its power."""

import math
from functools import lru_cache

import numpy as np

from pipeline.config.mission import Gpu


class GpuCurve:
    """A configured GPU's curve, linear between its points."""

    def __init__(self, gpu: Gpu) -> None:
        self.shares, self.watts = np.array(gpu.curve).T
        self.flops_per_s = gpu.peak_tflops * 1e12 * gpu.mfu
        self.overhead_s = gpu.step_overhead_s
        self.idle_w = gpu.idle_w
        self.full_w = float(self.watts[-1])
        self.share = lru_cache(maxsize=256)(self._share)

    def _share(self, cap_w: float | None = None) -> float:
        """Throughput under a power cap, as a share of the full; 0 below the lowest power of the curve."""
        return 1.0 if cap_w is None else float(np.interp(cap_w, self.watts, self.shares, left=0.0))

    def step_seconds(self, flops: float, cap_w: float | None = None) -> float:
        """How long one step of `flops` takes under a power cap [s]; infinite where the cap stops the GPU."""
        share = self.share(cap_w)
        return self.overhead_s + flops / (self.flops_per_s * share) if share > 0.0 else math.inf
