"""What the parts of `bench gpu` come to: each figure that is to be shown on a GPU, beside its goal."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from pipeline.ground.bench.gpu_parts import (
    CURVE,
    KILLS,
    LARGE_BESIDE,
    LARGE_BY_PRECISION,
    LARGE_SPEED,
    MODELLED,
    PLANNED,
    SIGKILLS,
    SMALL_BESIDE,
    SMALL_SPEED,
)
from pipeline.ground.bench.race import first_below

NANOGPTS_BEST = 1.4697  # validation loss on Tiny Shakespeare that nanoGPT's README gives for 10.7 M parameters
SAVED_EVERY_S = 15.0


class Finding(NamedTuple):
    """`value` is None where it was never reached; `met` is None where nothing is asked of it."""

    what: str
    value: float | None
    unit: str
    goal: str
    met: bool | None


class _Asked(NamedTuple):
    what: str
    part: str
    unit: str
    read: Callable[[Any], float | None]
    at_least: float | None = None
    at_most: float | None = None


def findings(answers: Mapping[str, Any]) -> Iterator[Finding]:
    """Of answers by part. What one leaves out, as a processor does energy, is left out."""
    for asked in _ASKED:
        if asked.part not in answers:
            continue
        try:
            value = asked.read(answers[asked.part])
        except (KeyError, IndexError, TypeError, AttributeError, StopIteration):
            continue
        if asked.at_least is not None:
            goal, met = f">= {asked.at_least:.4g}", value is not None and value >= asked.at_least
        elif asked.at_most is not None:
            goal, met = f"<= {asked.at_most:.4g}", value is not None and value <= asked.at_most
        else:
            goal, met = "", None
        yield Finding(asked.what, value, asked.unit, goal, met)
    with suppress(KeyError, TypeError, ZeroDivisionError):
        measured, modelled = (answers[name]["policies"]["dp"]["steps"] for name in (PLANNED, MODELLED))
        yield Finding("optimal plan of a day, measured curve over modelled", measured / modelled, "", "", None)


def _reached(arm: str, along: str) -> Callable[[Any], float | None]:
    """Where the validation loss of one comes down to NANOGPTS_BEST: its step, or its seconds from launch."""

    def read(answer: Any) -> float | None:
        curve = answer["arms"][arm]["curve"]
        return first_below([point[along] for point in curve], [point["loss"] for point in curve], NANOGPTS_BEST)

    return read


def _share_of_tokens(answer: Any) -> float | None:
    """Over all that nanoGPT took, where it did not come so far."""
    ours, theirs = (_reached(arm, "step")(answer) for arm in ("muon", "compiled"))
    return ours / (theirs or answer["arms"]["compiled"]["curve"][-1]["step"]) if ours else None


def _speed(answer: Any) -> float:
    return answer["pairs"]["muon / compiled"]["speed"]["median"]


def _other_precision(answer: Any) -> dict[str, Any]:
    return next(iter(answer["swept"].values()))


def _mfu(answer: Any) -> float:
    return answer["loop"]["mfu"]["median"]


def _rate(answer: Any) -> float:
    return answer["loop"]["tokens_per_s"]["median"]


def _stall(answer: Any) -> float:
    return 100.0 * answer["saves"]["stall_s"]["median"] / SAVED_EVERY_S


def _launch(kind: str) -> Callable[[Any], float]:
    return lambda answer: answer["start"][kind]["total"]["median"]


def _joules(point: Any) -> float:
    return 1000.0 * point["joules_per_token"]["median"]


def _identical(drills: Any) -> float:
    return sum(one["resumed"] for one in drills.values() if one["well"] and one["bit_identical"])


_ASKED = [
    _Asked(
        "124 M, fp8 over bf16", LARGE_BY_PRECISION, "", lambda a: _other_precision(a)["share"]["median"], at_least=1.15
    ),
    _Asked("124 M, of the matmul peak, bf16", LARGE_SPEED, "", _mfu, at_least=0.5),
    _Asked("124 M, bf16, whole loop", LARGE_SPEED, "tokens/s", _rate),
    _Asked("124 M, over nanoGPT compiled", LARGE_BESIDE, "", _speed),
    _Asked("124 M, stall of a save every 15 s", LARGE_SPEED, "%", _stall, at_most=0.5),
    _Asked("124 M, bf16", LARGE_BY_PRECISION, "mJ/token", lambda a: _joules(a["points"][0])),
    _Asked("124 M, fp8", LARGE_BY_PRECISION, "mJ/token", lambda a: _joules(_other_precision(a))),
    _Asked("10.7 M, over nanoGPT compiled", SMALL_BESIDE, "", _speed, at_least=1.5),
    _Asked("10.7 M, tokens to 1.4697 over nanoGPT's", SMALL_BESIDE, "", _share_of_tokens, at_most=1 / 3),
    _Asked("10.7 M, from launch to 1.4697", SMALL_BESIDE, "s", _reached("muon", "seconds")),
    _Asked("nanoGPT, from launch to 1.4697", SMALL_BESIDE, "s", _reached("compiled", "seconds")),
    _Asked("10.7 M, whole loop", SMALL_SPEED, "tokens/s", _rate),
    _Asked("10.7 M, stall of a save every 15 s", SMALL_SPEED, "%", _stall, at_most=0.5),
    _Asked("10.7 M, launch to first step, cold", SMALL_SPEED, "s", _launch("cold")),
    _Asked("10.7 M, launch to first step, interrupted run", SMALL_SPEED, "s", _launch("warm")),
    _Asked("10.7 M", CURVE, "mJ/token", lambda a: _joules(a["points"][0])),
    _Asked("power, full load", CURVE, "W", lambda a: a["points"][0]["watts"]["median"]),
    _Asked("power, nothing to do", CURVE, "W", lambda a: a["idle_w"]["median"]),
    _Asked("SIGKILLs that ended with the same bits", SIGKILLS, "", _identical, at_least=KILLS),
    _Asked(
        "SIGKILL, exec to the next step, worst drill's p99",
        SIGKILLS,
        "s",
        lambda drills: max(one["restart_s"]["p99"] for one in drills.values()),
        at_most=15.0,
    ),
]
