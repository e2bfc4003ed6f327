"""What is asked of a GPU: commands of `train.py`, the most wanted first."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.config.shipped import CONFIGS

LARGE_BY_PRECISION, LARGE_SPEED, SMALL_SPEED = "124 M in bf16 and fp8", "speed of 124 M", "speed of 10.7 M"
SMALL_BESIDE, LARGE_BESIDE = "beside nanoGPT, 10.7 M", "beside nanoGPT, 124 M"
SIGKILLS, CURVE = "SIGKILLs", "curve of 10.7 M"
XLA_FLAGS, DISPATCHES = "flags of XLA's, 10.7 M", "dispatches and attention, 10.7 M"
LARGE_XLA_FLAGS = "flags of XLA's, 124 M in fp8"
MODELLED, PLANNED = "plan with the modelled curve", "plan with this curve"

SMALL, LARGE = CONFIGS / "shakespeare.yaml", CONFIGS / "gpt2-124m.yaml"
# The modelled curve of a card by what NVML calls it; of any other, that of the configuration.
CARDS = {" H200": "h200.yaml", "H100 80GB HBM3": "h100-sxm.yaml", "H100 PCIe": "h100-pcie.yaml"}
# What may win or lose by card and version; what is chosen is chosen by these figures. What the fixed order costs is
# not among them: XLA keeps what it has tuned for one of these programs, and takes it for the next without asking how.
JOINED = "xla_gpu_dot_merger_threshold_mb:32"  # products of one factor
BY_TRITON = "xla_gpu_experimental_enable_fusion_block_level_rewriter:true"  # what passes through memory
FLAGS = [
    "xla_gpu_enable_triton_gemm:true",
    "xla_gpu_graph_min_graph_size:1000000",  # no command buffers
    "xla_gpu_enable_dynamic_slice_fusion:true",
    "xla_gpu_enable_latency_hiding_scheduler:true",
    JOINED,
]
KILLS, BESIDE = 20, 4  # drills at once on one card, each of a part of the kills
DRY = ["--train.device", "cpu", "--model.attention", "xla", "--train.precision", "fp32", "--model.depth", "1"]
DRY += ["--model.width", "32", "--model.heads", "2", "--model.context", "32", "--train.batch", "8"]
DRY += ["--train.microbatch", "null", "--train.chunk_steps", "10", "--corpus.tokenizer", "byte"]


@dataclass(frozen=True)
class Part:
    """One command.

    `takes_s`: about so long on an H200; with less time left it is not begun, and one that takes PATIENCE times as long
    is ended. With `seeds`, one for each at once, and the answer is by seed. `after`: a part that must be well before.
    """

    name: str
    arguments: Sequence[str]
    takes_s: float
    seeds: Sequence[int] = ()
    after: str | None = None


def parts(out: Path, text: Path | None, peer: Path | None, dry: bool, card: Sequence[str] | None) -> list[Part]:
    """All of them.

    Args:
        out: where the curve goes, and tokens are kept.
        text: Tiny Shakespeare; null: to be downloaded.
        peer: a checkout of nanoGPT; null: nothing is asked beside it.
        dry: with small models on a processor.
        card: name and driver of the GPU.
    """

    def of(config: Path) -> list[str]:
        given = ["--corpus.path", str(text)] if text and config == SMALL else []
        words = ["--config", str(config), "--corpus.cache_dir", str(out / "corpus"), *given]
        return words + (DRY if dry else [])

    def windows(count: int, seconds: int) -> list[str]:
        return ["--json", "--windows", str(1 if dry else count), "--seconds", str(1 if dry else seconds)]

    small, large, curve = of(SMALL), of(LARGE), out / "curve.yaml"
    uncounted = ["--throughput_only"] if dry else []
    if not dry:
        large += ["--train.batch", "192"]  # two microbatches in place of five: a step is a third of a second
    both = ["--at", "1", "--sweep", f"precision={'mixed' if dry else 'fp8'}", *uncounted]
    asked = [Part(LARGE_BY_PRECISION, ["calibrate", *large, *windows(4, 3), *both], 90)]
    against = ["bench", "--peer", "nanogpt", "--peer-path", str(peer), "--json", "--arms", "muon,compiled"]
    if peer:
        # Its own 5,000 steps end far beyond its best loss, which comes before the 2,000th.
        own = ["--peer-set", "lr_decay_iters=5000", "--segment", "50", "--evaluate_every", "20"]
        ends = ["--steps", "100" if dry else "350", "--peer-steps", "200" if dry else "2000"]
        asked.append(Part(SMALL_BESIDE, [*against, *ends, *own, *small], 150))
    asked.append(Part(CURVE, ["calibrate", *small, *windows(2, 4), *(uncounted or ["--out", str(curve)])], 90))
    kills = ["--kind", "kill", "--outages", str(1 if dry else KILLS // BESIDE), "--json"]
    short = ["--budget.steps", "60" if dry else "300", "--budget.orbits", "null", "--checkpoint.interval_s", "30"]
    asked.append(Part(SIGKILLS, ["drill", *kills, *small, *short], 190, range(1, 3 if dry else BESIDE + 1)))
    if peer:
        few = ["--steps", "40", "--segment", "10", "--evaluate_every", "100000", "--peer-set", "dropout=0.0"]
        if not dry:  # it keeps all logits of a microbatch
            few += ["--peer-set", "batch_size=32", "--peer-set", "gradient_accumulation_steps=6"]
        asked.append(Part(LARGE_BESIDE, [*against, *few, *large], 130))
    speed = ["bench", "speed", "--json", "--repeats", "2" if dry else "4", "--turn_s"]
    asked.append(Part(LARGE_SPEED, [*speed, "3", "--parts", "loop,saves", *large], 95))
    asked.append(Part(MODELLED, ["plan", *small, *_curve_of(card), "--days", "1", "--json"], 15))
    if not dry:  # a processor counts no energy, and writes no curve
        asked.append(Part(PLANNED, ["plan", *small, "--gpu", str(curve), "--days", "1", "--json"], 15, after=CURVE))
    quick = [*windows(2, 1), "--at", "1", "--throughput_only", "--sweep"]
    asked.append(Part(XLA_FLAGS, ["calibrate", *small, *quick, f"xla={','.join(FLAGS)}"], 75))
    choices = "chunk_steps=1,10" + ("" if dry else ";attention=xla")
    asked.append(Part(DISPATCHES, ["calibrate", *small, *quick, choices], 50))
    fp8 = [*large, "--train.precision", "mixed" if dry else "fp8"]
    asked.append(Part(LARGE_XLA_FLAGS, ["calibrate", *fp8, *quick, f"xla={JOINED},{BY_TRITON}"], 75))
    asked.append(Part(SMALL_SPEED, [*speed, "4", "--parts", "loop,saves,start", "--starts", "1", *small], 90))
    return asked


def _curve_of(card: Sequence[str] | None) -> list[str]:
    """The modelled curve that a measured one is compared with."""
    known = (file for name, file in CARDS.items() if card and name in card[0])
    return [word for file in known for word in ("--gpu", str(CONFIGS / "gpus" / file))]
