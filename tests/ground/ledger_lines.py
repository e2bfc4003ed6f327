"""Lines of a ledger, and the first half of one: thirty steps, then the power goes."""

from typing import Any


def event(kind: str, time_s: float, step: int, /, **fields: Any) -> dict[str, Any]:
    return {"event": kind, "mission_s": time_s, "step": step, "wall": 1000.0 + time_s} | fields


def step(at: int, time_s: float, loss: float) -> dict[str, Any]:
    return event("step", time_s, at, at=at, loss=loss, grad_norm=1.0, rate=1.0, tokens_per_s=9.0)


def telemetry(time_s: float, charge: float, wh: float) -> dict[str, Any]:
    return event(
        "telemetry",
        time_s,
        0,
        charge=charge,
        charge_wh=1000 * charge,
        temperature_c=30.0,
        sunlit=1.0,
        train_wh=wh,
        orbit=1,
    )


BEFORE = [
    event("launch", 0.0, 0),
    event("mode", 0.0, 0, mode="TRAIN", reason="charge allows"),
    telemetry(0.0, 1.0, 0.0),
    step(10, 10.0, 5.0),
    event("sealed", 11.0, 10, checkpoint=10, bytes=100, seconds=0.5, blocking_s=0.01),
    step(20, 20.0, 4.0),
    event("validation", 20.0, 20, loss=4.5, standard_error=0.1, bits_per_byte=2.0),
    telemetry(20.0, 0.9, 5.0),
    step(30, 30.0, 3.5),
]
