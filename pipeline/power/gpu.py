"""What a watt buys: a GPU's throughput against its power."""

import math
from bisect import bisect_right

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
        self._points = self.watts.tolist(), self.shares.tolist()

    def share(self, cap_w: float | None = None) -> float:
        """Throughput under a power cap, as a share of the full; 0 below the lowest power of the curve."""
        if cap_w is None or cap_w >= self.full_w:
            return 1.0
        watts, shares = self._points  # np.interp to the bit; of one number, that takes microseconds
        if (above := bisect_right(watts, cap_w)) == 0:
            return 0.0
        slope = (shares[above] - shares[above - 1]) / (watts[above] - watts[above - 1])
        return shares[above - 1] + slope * (cap_w - watts[above - 1])

    def power_w(self, share: float) -> float:
        """Power while training at a share of the full throughput [W]."""
        return float(np.interp(share, self.shares, self.watts))

    def step_seconds(self, flops: float, cap_w: float | None = None) -> float:
        """How long one step of `flops` takes under a power cap [s]; infinite where the cap stops the GPU."""
        share = self.share(cap_w)
        return self.overhead_s + flops / (self.flops_per_s * share) if share > 0.0 else math.inf
