"""A ledger of thirty days and half a million lines, as a long mission on a real clock leaves it, damage included."""

import json
from pathlib import Path

import numpy as np

DAYS, LINES = 30, 500_000
PERIOD_S, SHADOW_S = 5678.0, 1926.0
EPOCH = 1_790_000_000.0
OUTAGES_S = (4.31e5, 1.02e6, 2.2e6)  # mission times of power cuts; each takes ten minutes
AWAY_S = 600.0
DAMAGED = 37


def write(path: Path, lines: int = LINES, days: float = DAYS) -> None:
    """Deterministic. Steps lost to the outages are computed again; DAMAGED lines say nothing."""
    random = np.random.default_rng(0)
    end_s, mode, step, lost, charge_wh, train_wh = days * 86400.0, "OFF", 0, 0, 1000.0, 0.0
    minutes = int(end_s / 60)
    per_minute = lines / minutes - 1.07  # of them steps; the rest is telemetry, modes, saves
    noise = (0.15 * random.normal(size=9973)).tolist()
    out: list[str] = []
    sealed = 0

    def put(event: str, time_s: float, **fields: object) -> None:
        line = {"event": event, "mission_s": round(time_s, 3), "step": step, "wall": round(EPOCH + time_s, 3)}
        out.append(json.dumps(line | fields))

    about = {"parameters": 124_000_000, "vocab_size": 32768, "device": "NVIDIA H100 PCIe", "unigram_loss": 7.6}
    put("launch", 0.0, lost_steps=0, **about)
    outages, owed, dark_until_s = list(OUTAGES_S), 0.0, -1.0
    for minute in range(minutes):
        time_s = 60.0 * minute
        if time_s < dark_until_s:
            continue
        if outages and time_s >= outages[0]:
            outages.pop(0)
            lost += step - sealed
            dark_until_s, step, mode = time_s + AWAY_S, sealed, "OFF"
            put("resume", dark_until_s, lost_steps=lost, **about)
            continue
        phase_s = time_s % PERIOD_S
        sunlit = phase_s > SHADOW_S
        wanted = "TRAIN" if charge_wh > (720.0 if mode == "TRAIN" else 900.0) else "OFF"
        telemetry = {
            "charge_wh": round(charge_wh, 3),
            "charge": round(charge_wh / 1000, 5),
            "temperature_c": round(30 + 20 * (mode == "TRAIN") + float(random.normal()), 2),
            "sunlit": float(sunlit),
            "orbit": int(time_s // PERIOD_S) + 1,
            "train_wh": round(train_wh, 3),
        }
        if wanted != mode:
            mode = wanted
            put("mode", time_s, mode=mode, reason="charge allows" if mode == "TRAIN" else "umbra reserve", **telemetry)
        put("telemetry", time_s, mode=mode, **telemetry)
        charge_wh = float(np.clip(charge_wh + (14.0 if sunlit else -1.5) - (9.0 if mode == "TRAIN" else 0.0), 0, 1000))
        train_wh += 8.0 * (mode == "TRAIN")
        owed += per_minute
        if mode == "TRAIN":
            count = int(owed)
            owed -= count
            for i in range(count):
                step += 10
                loss, at_s = (
                    2.6 + 8.0 / (1 + step / 2000) ** 0.5 + noise[step // 10 % len(noise)],
                    time_s + 60.0 * i / count,
                )
                out.append(
                    f'{{"event": "step", "mission_s": {at_s:.3f}, "step": {step}, "wall": {EPOCH + at_s:.3f}, '
                    f'"at": {step}, "tokens_per_s": 81234.5, "loss": {loss}, "grad_norm": 0.31415926, "rate": 1.0}}'
                )
            if minute % 15 == 0:
                sealed = step
                put("sealed", time_s + 59.0, checkpoint=step, bytes=1_488_000_000, seconds=1.9, blocking_s=0.021)
        if minute % 480 == 479:
            loss = 2.7 + 8.0 / (1 + step / 2000) ** 0.5
            put("validation", time_s + 59.5, loss=loss, standard_error=0.01, bits_per_byte=loss / 3, windows=900)
    put(
        "done",
        end_s,
        spent="time",
        tokens=step * 4096,
        orbits=end_s / PERIOD_S,
        eclipses=456,
        train_wh=train_wh,
        lost_steps=lost,
    )
    for at in random.integers(100, len(out) - 1, DAMAGED - 3):
        out[at] = out[at][: len(out[at]) // 2]  # torn
    out[50] = '{"event": "step", "mission_s": "yesterday", "step": null}'
    out[60] = "\x00" * 200
    out[70] = '["not", "an", "event"]'
    path.write_text("\n".join(out) + "\n")
