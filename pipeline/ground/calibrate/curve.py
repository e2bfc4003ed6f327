"""From loads that were measured to the `gpu:` section of a configuration."""

import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from typing import Any

from pipeline.checkpoint import durable
from pipeline.config import BadInput, Config, RunFailed, dump_yaml
from pipeline.config.mission import Gpu
from pipeline.flight.nvml import card


def curve(config: Config, answer: dict[str, Any], software: str) -> Gpu:
    """The section `gpu:`. Shares are of the throughput at the first level, which is the fullest.

    The time of a step is all counted as arithmetic (`step_overhead_s` 0): `mfu` is that of this very model.

    Raises:
        RunFailed: less work drew more power, or energy was not counted in some window.
    """
    points, step = answer["points"], answer["step"]
    if answer["idle_w"] is None or any("watts" not in point for point in points):
        raise RunFailed("no curve: energy was not counted in each window; measure again, or give --throughput_only")
    full = points[0]["tokens_per_s"]["median"]
    idle = answer["idle_w"]["median"]
    measured = sorted((point["share"]["median"], point["watts"]["median"]) for point in points)  # by turns: no drift
    pairs = [(round(share, 4), round(watts, 2)) for share, watts in measured]
    if answer["by"] == "duty-cycle":  # working none of the time is idling
        pairs.insert(0, (0.0, round(idle, 2)))
    for (share, watts), (more, above) in pairwise(pairs):
        if more <= share or above <= watts:
            raise RunFailed(
                f"--at: {above} W at a share of {more} of the throughput after {watts} W at {share}: no rising curve; "
                "measure longer (--seconds), at levels further apart, or on a GPU that nobody else uses"
            )
    flops_per_s = full * step["flops"] / config.tokens_per_step
    now = datetime.now(UTC).strftime("%Y-%m-%d")
    made = {
        "name": answer["device"],
        "peak_tflops": round(step["peak_flops_per_s"] / 1e12, 2),
        "mfu": round(flops_per_s / step["peak_flops_per_s"], 4),
        "step_overhead_s": 0.0,
        "idle_w": round(idle, 2),
        "curve": [list(pair) for pair in pairs],
        "provenance": "measured",
        "source": f"{now}, by {answer['by']}, training {config.name} in {config.train.precision}; peak: fastest square "
        f"matrix product; {software}",
    }
    return Gpu(**made)


def software(device: str) -> str:
    """Driver and versions that a figure depends on."""
    nvidia = card()
    found = [f"driver {nvidia[1]}" if nvidia else f"no NVIDIA driver, {device}"]
    for name in ("jax", "jaxlib", "jax-cuda13-plugin"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join([*found, f"Python {platform.python_version()}"])


def write(path: Path, gpu: Gpu) -> None:
    """The file that `gpu:` of a run may name.

    Raises:
        BadInput: it cannot be written.
    """
    try:
        durable.write(path, dump_yaml(gpu, but=("actuator", "sm_mhz")).encode())
    except OSError as error:
        raise BadInput(f"--out: {path}: {error.strerror}; name a file that can be written") from error
