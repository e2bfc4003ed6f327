"""`train.py calibrate`: what this GPU computes and draws under load, as a curve that plans can rest on.

By duty cycle nothing of the card is touched. By power cap or SM clock it is set, where that is permitted, and put back.
"""

import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipeline.config import BadInput, Config, load
from pipeline.config.arguments import Parser, within
from pipeline.ground.arguments import set_up_jax, usable_path
from pipeline.ground.calibrate.sweep import EXAMPLE, Variant, swept

if TYPE_CHECKING:
    from pipeline.ground.calibrate.work import Load

USAGE = "train.py calibrate --config FILE [--out configs/gpus/mine.yaml] [--by duty-cycle] [--KEY VALUE ...]"
KINDS = ("duty-cycle", "power-cap", "sm-clock")
DUTIES = "1,0.75,0.5,0.25"
REFUSED = ("No such compile option", "While setting option")  # what XLA says of a flag or value that it does not know


def main(arguments: Sequence[str]) -> int:
    """Measures, prints a table or JSON, and writes the curve if `--out` names a file.

    Raises:
        BadInput: an argument is wrong, nothing here counts energy, or the card may not be set.
        RunFailed: what was measured is no curve.
    """
    parser = Parser("train.py calibrate", USAGE, usage=USAGE, description=__doc__)
    parser.add_argument("--by", choices=KINDS, default=KINDS[0], help="what makes the GPU do less (duty-cycle)")
    parser.add_argument("--at", help=f"shares of the time ({DUTIES}), watts, or MHz, the fullest first; separated by ,")
    parser.add_argument("--seconds", type=within(float, 0, above=True), default=20.0, help="of each window (20)")
    parser.add_argument("--windows", type=within(int, 1), default=3, help="of each load (3)")
    parser.add_argument("--sweep", help=f"also, at full load, other values: {EXAMPLE}")
    parser.add_argument("--throughput_only", action="store_true", help="where nothing counts energy: no curve")
    parser.add_argument("--out", type=usable_path, metavar="FILE", help="the curve, as a run's `gpu:` names it")
    parser.add_json()
    own, rest = parser.parse_known_args(list(arguments))
    config = load(rest, prog=USAGE)
    levels = _numbers("--at", own.at or (DUTIES if own.by == KINDS[0] else ""))
    if own.by == KINDS[0] and not all(0.0 < level <= 1.0 for level in levels):
        raise BadInput(f"--at: {own.at}: shares of the time lie above 0 and at most at 1; give --at {DUTIES}")
    if own.out and own.throughput_only:
        raise BadInput(f"--out: {own.out}: without energy there is no curve; leave --throughput_only or --out away")
    if own.out and not own.out.parent.is_dir():
        raise BadInput(f"--out: {own.out}: there is no folder {own.out.parent}; create it")
    variants = swept(config, own.sweep)
    for each in (*(variant.config for variant in variants.values()), config):
        device = set_up_jax(each)  # what cannot be had is refused before anything is measured
    answer = _measure(config, own, levels, variants, device)
    if own.out:
        from pipeline.ground.calibrate.curve import write

        write(own.out, answer["gpu"])
    if own.json:
        print(json.dumps(answer, default=lambda gpu: gpu.model_dump(mode="json")))
    else:
        from pipeline.ground.calibrate.table import show

        show(answer, own.out)
    return 0


def _measure(
    config: Config, own: Any, levels: Sequence[float], variants: dict[str, Variant], device: str
) -> dict[str, Any]:
    """The loads of the curve and those swept, by turns, `windows` times each."""
    import jax

    from pipeline.flight.meter import NoMeter, make_meter
    from pipeline.ground.calibrate.curve import curve, software
    from pipeline.ground.calibrate.work import Load, Setting, idle_w, measured, settings

    meter = make_meter(jax.default_backend())
    try:
        if isinstance(meter, NoMeter) and not own.throughput_only:
            raise BadInput(
                f"train.device: {device}: nothing here counts its energy (NVML on an NVIDIA GPU, `pip install "
                "'.[cuda]'`); give --throughput_only to measure the rest"
            )
        is_curve = not own.throughput_only and bool(own.out or len(levels) > 1)
        idle = idle_w(meter, own.seconds, own.windows) if is_curve else None
        load = Load(config, meter)
        compared = settings(config, load, own.by, levels)
        others = {name: _load(name, variant, meter) for name, variant in variants.items()}
        compared += [Setting(other, 1.0) for other in others.values() if isinstance(other, Load)]
        points = iter(measured(compared, own.seconds, own.windows))
        answer: dict[str, Any] = {"device": device, "provenance": "measured", "by": own.by, "cores": os.cpu_count()}
        answer |= {"idle_w": idle, "points": [next(points) for _ in levels], "step": load.about()}
        answer["swept"] = {
            name: next(points) if isinstance(other, Load) else {"failed": other} for name, other in others.items()
        }
        if is_curve:
            answer["gpu"] = curve(config, answer, software(device))
        return answer
    finally:
        meter.close()


def _load(name: str, variant: Variant, meter: Any) -> "Load | str":
    """Ready to be measured; or why it does not run, for want of memory perhaps: the others do all the same.

    Raises:
        BadInput: XLA has no such flag, or it takes no such value.
    """
    from pipeline.ground.calibrate.work import Load

    try:
        return Load(variant.config, meter, variant.xla)
    except Exception as error:  # a compiler and its libraries refuse in many ways
        said = str(error).partition("\n")[0] or type(error).__name__
        if variant.xla and any(words in said for words in REFUSED):
            raise BadInput(f"--sweep: {name}: {said}; another flag or value") from error
        return said[:200]


def _numbers(name: str, text: str) -> list[float]:
    try:
        found = [float(word) for word in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(0.0 < number < 1e6 for number in found):
        raise BadInput(f"{name}: {text!r}: not numbers above 0 separated by commas; give {name} 1,0.5")
    return found
