"""When a periodic save pays.

A save costs the time that it blocks; without it, a fault costs the work since the last one. Three things make the
orbit's case different from the textbook's:

- Only *unpredicted* faults count. Before a planned stop (umbra, low charge, heat) a save is sealed anyway, so that an
  eclipse is no fault, and counting it as one buys saves that protect nothing.
- Faults come more often over the South Atlantic. At a rate λ(t) the best density of saves is √(λ(t) / 2C) (Ling, Mi
  and Lin, "A variational calculus approach to optimal checkpoint placement", IEEE Trans. Computers 50(7), 2001). So
  time is measured here in *weighted seconds*, ∫ √h dt with h the rate relative to the quiet part of the orbit: in them
  the best interval is constant, and is Young's.
- The work ends at a known stop. Over a span of U best intervals, cut into m pieces, saves and expected loss cost
  (m − 1) + U²/m saves' worth, which is least for the smallest m with m (m + 1) ≥ U². One piece means: no save.

With saves in the background the work at risk is the interval and the time to seal; the latter does not depend on the
interval, so that the optimum is the same. What it does is to bring forward the last moment at which a save still helps.
"""

import math


def young_s(cost_s: float, mtbf_s: float) -> float:
    """Interval that loses least, to first order [s]: √(2 C M).

    J. W. Young, "A first order approximation to the optimum checkpoint interval", CACM 17(9), 1974.

    Args:
        cost_s: how long a save holds up the work, C [s].
        mtbf_s: mean time between faults, M [s].
    """
    return math.sqrt(2.0 * cost_s * mtbf_s)


def daly_s(cost_s: float, mtbf_s: float) -> float:
    """The same to higher order [s], for costs that are not small beside the time between faults.

    J. T. Daly, "A higher order estimate of the optimum checkpoint interval for restart dumps", FGCS 22(3), 2006,
    equation 37. The interval is of work, from the end of one save to the start of the next.
    """
    if cost_s >= 2.0 * mtbf_s:
        return mtbf_s
    ratio = math.sqrt(cost_s / (2.0 * mtbf_s))
    return young_s(cost_s, mtbf_s) * (1.0 + ratio / 3.0 + ratio * ratio / 9.0) - cost_s


def pieces(intervals: float) -> int:
    """Into how many equal pieces to cut a span of so many best intervals, ended by a stop that is sealed anyway."""
    return max(1, math.ceil((math.sqrt(1.0 + 4.0 * intervals * intervals) - 1.0) / 2.0))


def wait_s(since_s: float, ahead_s: float, interval_s: float) -> float:
    """How long until the next periodic save; not above 0 when it is due, infinite when the planned stop will do.

    All in weighted seconds.

    Args:
        since_s: of work since the last save.
        ahead_s: of work until the next planned stop, less the time to seal; infinite when none is known.
        interval_s: the best interval where no stop is near, of `daly_s` at the rate of the quiet part of the orbit.
    """
    if math.isinf(ahead_s):
        return interval_s - since_s
    span_s = since_s + max(ahead_s, 0.0)
    count = pieces(span_s / interval_s)
    return span_s / count - since_s if count > 1 and ahead_s > 0.0 else math.inf
