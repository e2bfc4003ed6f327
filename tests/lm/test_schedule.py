import numpy as np
import pytest

from pipeline.lm.schedule import NEVER, Cooldown, rate


def test_rate_warms_up_stays_and_reaches_zero_exactly_at_the_end_of_the_budget() -> None:
    rates = np.array([float(rate(s, 10, Cooldown(60, 100))) for s in range(101)])
    assert rates[0] == pytest.approx(0.1)
    assert (rates[9:61] == 1.0).all()
    assert (np.diff(rates[60:]) < 0).all()
    assert rates[99] == pytest.approx(1 / 40)
    assert rates[100] == 0.0


def test_rate_stays_at_its_peak_until_the_cooldown_is_decided() -> None:
    assert float(rate(10**9, 10, Cooldown(NEVER, NEVER))) == 1.0


def test_no_warmup_starts_at_the_peak() -> None:
    assert float(rate(0, 0, Cooldown())) == 1.0
