"""The figures of a GPU in one picture: power against throughput, and what each variant of the step is worth."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.ground.bench.gpu_parts import CURVE, DISPATCHES, LARGE_BY_PRECISION, LARGE_XLA_FLAGS, XLA_FLAGS


def draw(provenance: str, answers: Mapping[str, Any], path: Path) -> None:
    """Writes a PNG of the answers by part; those that are missing are left out."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (curve, variants) = plt.subplots(1, 2, figsize=(11, 4), constrained_layout=True)
    figure.suptitle(provenance, fontsize=10)
    for name in (CURVE, LARGE_BY_PRECISION):
        points = answers.get(name, {}).get("points", [])
        full = points[0]["tokens_per_s"]["median"] if points else 1.0
        pairs = [(p["tokens_per_s"]["median"] / full, p["watts"]["median"]) for p in points if "watts" in p]
        if pairs:
            curve.plot(*zip(*sorted(pairs), strict=True), "o-", label=name)
            curve.legend()
    curve.set(xlabel="share of full throughput", ylabel="GPU power [W]", xlim=(0, 1.05))
    if not curve.lines:
        curve.text(0.5, 0.5, "energy was not counted", ha="center", transform=curve.transAxes, color="grey")
    shown = {
        name.removeprefix("xla_gpu_").replace("_", " ") + size: point
        for part, size in ((XLA_FLAGS, ""), (DISPATCHES, ""), (LARGE_XLA_FLAGS, ", 124 M"))
        for name, point in answers.get(part, {}).get("swept", {}).items()
        if "share" in point
    }
    for row, point in enumerate(shown.values()):
        median, least, most = (point["share"][which] for which in ("median", "least", "most"))
        variants.barh(row, median, xerr=[[median - least], [most - median]], color="#868e99", capsize=3)
    variants.set_yticks(range(len(shown)), list(shown))
    variants.invert_yaxis()
    variants.axvline(1.0, color="#3b82d6")
    variants.set_title("10.7 M parameters, where nothing is said", fontsize=9)
    variants.set_xlabel("tokens/s over those as it flies, by turns\nbars: least and most")
    figure.savefig(path, dpi=110)
    plt.close(figure)
