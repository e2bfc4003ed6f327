"""A training step of a configuration, done over and over at a share of the time: what it computes and what it draws."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from pipeline.config import Config
from pipeline.flight.meter import Meter
from pipeline.flight.mission import unread_vocabulary
from pipeline.ground.bench.energy import COUNTER_S
from pipeline.ground.bench.matmul import peak_flops
from pipeline.ground.bench.spread import spread
from pipeline.lm.flops import token_flops
from pipeline.lm.schedule import Cooldown

CHUNK_S = 0.2  # of work between two pauses: long against a dispatch, short against the heat of the chip


class Load:
    """The compiled step with a state of its own. Random tokens and fresh parameters: time does not depend on them."""

    def __init__(self, config: Config, meter: Meter, xla: dict[str, str] | None = None):
        """`xla` are flags of XLA's for this step alone."""
        import jax

        from pipeline.lm.step import init_state, make_train_chunk

        self.config, self._meter = config, meter
        self.vocab_size = unread_vocabulary(config.corpus)
        shape = (config.train.chunk_steps, config.train.batch, config.model.context + 1)
        self._tokens = np.random.default_rng(0).integers(0, self.vocab_size, shape).astype(np.int32)
        self._state = jax.jit(lambda: init_state(config, self.vocab_size))()
        self._chunk = make_train_chunk(config, xla)
        self._steps(1)  # compiles
        self.step_s = min(self._steps(1) for _ in range(3))
        self._at_once = max(1, min(config.train.chunk_steps, round(CHUNK_S / self.step_s)))

    def about(self) -> dict[str, float]:
        """FLOPs of a step by formula, and the most that this device multiplies, measured now [FLOP/s]."""
        flops = token_flops(self.config.model, self.vocab_size) * self.config.tokens_per_step
        return {"flops": flops, "peak_flops_per_s": peak_flops(self.config.train.precision)}

    def run(self, duty: float, seconds: float) -> tuple[float, float, float | None]:
        """Works for a share `duty` of `seconds`. Returns tokens, seconds and joules; joules are None if not counted."""
        self._meter.joules()
        begun_s, steps = time.perf_counter(), 0
        while time.perf_counter() - begun_s < seconds:
            worked_s = self._steps(self._at_once)
            steps += self._at_once
            time.sleep(worked_s * (1.0 / duty - 1.0))
        took_s, joules = time.perf_counter() - begun_s, self._meter.joules()
        return steps * self.config.tokens_per_step, took_s, joules

    def _steps(self, count: int) -> float:
        begun_s = time.perf_counter()
        self._state, metrics = self._chunk(self._state, self._tokens, count, Cooldown())
        np.asarray(metrics.loss)  # waits for the device
        return time.perf_counter() - begun_s


def idle_w(meter: Meter, seconds: float, windows: int) -> dict[str, float] | None:
    """Mean power with nothing to do, of `windows` windows [W]; None where nothing counts energy."""
    time.sleep(min(5.0, seconds))  # clocks fall
    found = []
    for _ in range(windows):
        meter.joules()
        begun_s = time.perf_counter()
        time.sleep(seconds)
        joules = meter.joules()
        if joules is None:
            return None
        found.append(joules / (time.perf_counter() - begun_s))
    return spread(found)


class Setting(NamedTuple):
    """One load of several that are compared: `set_up` gives an actuator that is closed after the window, or None."""

    load: Load
    level: float
    duty: float = 1.0
    set_up: Callable[[], Any] = lambda: None


def settings(config: Config, load: Load, by: str, levels: Sequence[float]) -> list[Setting]:
    """Each level with what sets the card to it and gives the actuator that puts it back; for a duty cycle, nothing."""
    if by == "duty-cycle":
        return [Setting(load, level, duty=level) for level in levels]
    from pipeline.flight.actuator import make_actuator

    def capped(watts: float) -> Any:
        actuator = make_actuator(config.gpu.model_copy(update={"actuator": "nvml", "sm_mhz": None}))
        actuator.apply(watts)
        return actuator

    def locked(mhz: float) -> Any:
        return make_actuator(config.gpu.model_copy(update={"actuator": "nvml", "sm_mhz": round(mhz)}))

    make = capped if by == "power-cap" else locked
    return [Setting(load, level, set_up=partial(make, level)) for level in levels]


def measured(settings: Sequence[Setting], seconds: float, windows: int) -> list[dict[str, Any]]:
    """Throughput and power at each setting, `windows` windows each, by turns so that a drift of the chip hits all.

    Every second turn goes the other way round: what one leaves behind, heat above all, is not always for the same next.

    `share` is of the throughput of the first setting in the same turn.
    """
    rates: list[list[float]] = [[] for _ in settings]
    powers: list[list[float]] = [[] for _ in settings]
    turn = [*zip(settings, rates, powers, strict=True)]
    for number in range(windows):
        for (load, _, duty, set_up), rate, power in reversed(turn) if number % 2 else turn:
            actuator = set_up()
            try:
                load.run(duty, min(seconds, 3.0))  # until clocks and power have settled
                tokens, took_s, joules = load.run(duty, seconds)
            finally:
                if actuator:
                    actuator.close()
            rate.append(tokens / took_s)
            if joules is not None:
                power.append(joules / took_s)
    found = []
    for setting, rate, power in zip(settings, rates, powers, strict=True):
        shares = [mine / first for mine, first in zip(rate, rates[0], strict=True)]
        point: dict[str, Any] = {"level": setting.level, "tokens_per_s": spread(rate), "share": spread(shares)}
        if len(power) == windows:
            each = [watts / tokens for watts, tokens in zip(power, rate, strict=True)]
            point |= {"watts": spread(power), "joules_per_token": spread(each)}
            point["counter_error"] = 2.0 * COUNTER_S / seconds  # at most, as a share
        found.append(point)
    return found
