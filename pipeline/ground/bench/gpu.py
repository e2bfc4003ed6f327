"""Everything that is to be shown on a GPU, in one command: each part is a verb of `train.py` and has its time.

`train.py bench gpu --out DIR [--text FILE] [--peer-path DIR] [--minutes 25]` writes DIR/gpu.json after every part,
DIR/curve.yaml and DIR/gpu.png. Called again, it asks for what DIR/gpu.json has no answer to, or one of other code:
a lease that ends early loses nothing. Beside each answer stand card and driver. It wants a machine for itself.
Of the card it only reads: no power limit, clock or mode is set. `--dry_run` does the same with small models on a
processor, to show that all of it works.
"""

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.config import BadInput
from pipeline.config.arguments import Parser, within
from pipeline.flight.nvml import card
from pipeline.ground.arguments import usable_path
from pipeline.ground.bench.worker import ROOT, SHARED

SMALL, LARGE = ROOT / "configs" / "shakespeare.yaml", ROOT / "configs" / "gpt2-124m.yaml"
# What may win or lose by card and version; what is chosen is chosen by these figures.
JOINED = "xla_gpu_dot_merger_threshold_mb:32"  # products of one factor
BY_TRITON = "xla_gpu_experimental_enable_fusion_block_level_rewriter:true"  # what passes through memory
FLAGS = [
    "xla_gpu_deterministic_ops:false",
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
    """One command. `limit_s`: it is ended then, and the next one begins. With `seeds`, one for each at once, and the
    answer is a list."""

    name: str
    arguments: Sequence[str]
    limit_s: float
    seeds: Sequence[int] = ()


@dataclass
class Proof:
    """What was asked for, and what has come of it so far."""

    out: Path
    text: Path | None
    peer: Path | None
    dry: bool
    until_s: float
    parts: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.code = _digest()

    def run(self, part: Part) -> None:
        """Runs a part that has no answer of this code and keeps what it says. One that fails, hangs or comes too late
        says so in its place, where there is no answer of other code either."""
        before = self.parts.get(part.name, {})
        if _is_well(before) and before["code"] == self.code:
            return
        left_s = self.until_s - time.monotonic()
        print(f"{part.name} ...", file=sys.stderr, flush=True)
        began_s = time.monotonic()
        if left_s < 0.5 * part.limit_s:
            found: dict[str, Any] = {"not_run": f"{left_s:.0f} s were left"}
        else:
            found = _answers(part, min(part.limit_s, left_s))
        if "answer" in before and "answer" not in found:
            return  # an old answer is better than none
        command = " ".join(str(word) for word in ("train.py", *part.arguments))
        about = {"command": command, "card": card(), "code": self.code}
        self.parts[part.name] = about | {"seconds": round(time.monotonic() - began_s, 1)} | found
        (self.out / "gpu.json").write_text(json.dumps(self.as_json(), indent=1))

    def go_on(self) -> None:
        """Takes over what an earlier call has found.

        Raises:
            BadInput: what is there cannot be read, or is of small models where large ones are asked for, or vice versa.
        """
        path = self.out / "gpu.json"
        if not path.exists():
            return
        try:
            before = json.loads(path.read_text())
            found = {name: dict(part) for name, part in before["parts"].items()}
            same = before["provenance"] == self.as_json()["provenance"]
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise BadInput(f"--out: {path}: holds no figures of this bench; name another folder") from error
        if not same:
            raise BadInput(f"--out: {path}: {before['provenance']}; name another folder, or give --dry_run as before")
        self.parts = found

    def as_json(self) -> dict[str, Any]:
        about = "dry run: small models on a processor; no figure is of a GPU" if self.dry else "measured"
        return {"provenance": about, "cores": os.cpu_count(), "parts": self.parts}


def main(arguments: Sequence[str]) -> int:
    """Runs every part. 0 if each has an answer of this code, and none says that something failed.

    Raises:
        BadInput: an argument is wrong.
    """
    parser = Parser("train.py bench gpu", description=__doc__)
    parser.add_argument("--out", type=usable_path, required=True, metavar="DIR", help="for figures, curve and picture")
    parser.add_argument("--text", type=usable_path, metavar="FILE", help="Tiny Shakespeare, if it cannot be downloaded")
    parser.add_argument("--peer-path", dest="peer", type=usable_path, metavar="DIR", help="a checkout of nanoGPT")
    parser.add_argument("--minutes", type=within(float, 0, above=True), default=25.0, help="for all of it (25)")
    parser.add_argument("--dry_run", action="store_true", help="small models on a processor")
    parser.add_json()
    own = parser.parse_args(list(arguments))
    for name, path in (("--text", own.text), ("--peer-path", own.peer)):
        if path and not path.exists():
            raise BadInput(f"{name}: {path}: does not exist; name what is there, or leave it out")
    try:
        own.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"--out: {own.out}: {error.strerror}; name a folder that can be written") from error
    proof = Proof(own.out, own.text, own.peer, own.dry_run, time.monotonic() + 60.0 * own.minutes)
    proof.go_on()
    asked = []
    for part in parts(proof):
        proof.run(part)
        asked.append(proof.parts[part.name])
    from pipeline.ground.bench.gpu_picture import draw

    draw(proof.as_json(), own.out / "gpu.png")
    well = all(_is_well(found) and found["code"] == proof.code for found in asked)
    if own.json:
        print(json.dumps(proof.as_json()))
    else:
        for name, found in proof.parts.items():
            print(f"{name:<34}{found['seconds']:>7.1f} s  {_state(proof, found)}")
        print(f"{own.out / 'gpu.json'}, {own.out / 'gpu.png'}")
    return 0 if well else 1


def parts(proof: Proof) -> Iterator[Part]:
    """What is asked of the card, the most wanted first. Reads what came before: the curve is planned with."""
    small, large = _of(proof, SMALL), _of(proof, LARGE)
    curve, dry = proof.out / "curve.yaml", proof.dry

    def windows(count: int, seconds: int) -> list[str]:
        return ["--json", "--windows", str(1 if dry else count), "--seconds", str(1 if dry else seconds)]

    uncounted = ["--throughput_only"] if dry else []
    if not dry:
        large += ["--train.batch", "192"]  # two microbatches in place of five: a step is a third of a second
    both = ["--sweep", f"precision={'mixed' if dry else 'fp8'}", *uncounted]
    yield Part("124 M in bf16 and fp8", ["calibrate", *large, *windows(3, 4), "--at", "1", *both], 150)
    speed = ["bench", "speed", "--json", "--repeats", "2" if dry else "4", "--turn_s"]
    yield Part("speed of 124 M", [*speed, "3", "--parts", "loop,saves", *large], 150)
    yield Part("speed of 10.7 M", [*speed, "2", "--parts", "loop,saves,start", "--starts", "1", *small], 150)
    if proof.peer:
        peer = ["bench", "--peer", "nanogpt", "--peer-path", str(proof.peer), "--json", "--arms"]
        # Its own 5,000 steps end far beyond its best loss, which comes before the 2,000th.
        own = ["--peer-set", "lr_decay_iters=5000", "--segment", "50", "--evaluate_every", "50"]
        ends = ["--steps", "100" if dry else "350", "--peer-steps", "200" if dry else "2000"]
        yield Part("beside nanoGPT, 10.7 M", [*peer, "adamw,muon,compiled", *ends, *own, *small], 220)
        few = ["--steps", "40", "--segment", "10", "--evaluate_every", "100000", "--peer-set", "dropout=0.0"]
        if not dry:  # it keeps all logits of a microbatch
            few += ["--peer-set", "batch_size=32", "--peer-set", "gradient_accumulation_steps=6"]
        yield Part("beside nanoGPT, 124 M", [*peer, "muon,compiled", *few, *large], 200)
    kills = ["--kind", "kill", "--outages", str(1 if dry else KILLS // BESIDE), "--json"]
    short = ["--budget.steps", "60" if dry else "300", "--budget.orbits", "null", "--checkpoint.interval_s", "30"]
    yield Part("SIGKILLs", ["drill", *kills, *small, *short], 300, range(1, 3 if dry else BESIDE + 1))
    counted = uncounted or ["--out", str(curve)]
    yield Part("curve of 10.7 M", ["calibrate", *small, *windows(2, 4), *counted], 120)
    quick = ["--at", "1", "--throughput_only", "--sweep"]
    choices = f"xla={','.join(FLAGS)};chunk_steps=1,10" + ("" if dry else ";attention=xla")
    yield Part("choices, 10.7 M", ["calibrate", *small, *windows(4, 1), *quick, choices], 240)
    fp8 = [*large, "--train.precision", "mixed" if dry else "fp8"]
    choices = f"xla={JOINED},{BY_TRITON}"
    yield Part("choices, 124 M in fp8", ["calibrate", *fp8, *windows(3, 2), *quick, choices], 150)
    yield Part("plan with the modelled curve", ["plan", *_of(proof, SMALL), "--days", "1", "--json"], 60)
    if curve.exists():
        planned = ["plan", *_of(proof, SMALL), "--gpu", str(curve), "--days", "1", "--json"]
        yield Part("plan with this curve", planned, 60)


def _is_well(found: Mapping[str, Any]) -> bool:
    return "answer" in found and found.get("exit") == 0


def _state(proof: Proof, found: dict[str, Any]) -> str:
    said = found.get("not_run") or found.get("failed") or ("answered, exit 1" if found["exit"] else "answered")
    return said if found.get("code") == proof.code else f"{said}, by other code"


def _digest() -> str:
    """Of the code that is measured, and of its configurations."""
    files = sorted([*(ROOT / "pipeline").rglob("*.py"), *(ROOT / "configs").rglob("*.yaml")])
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]


def _of(proof: Proof, config: Path) -> list[str]:
    words = ["--config", str(config), "--corpus.cache_dir", str(proof.out / "corpus")]
    if proof.text and config == SMALL:
        words += ["--corpus.path", str(proof.text)]
    return words + (DRY if proof.dry else [])


def _answers(part: Part, limit_s: float) -> dict[str, Any]:
    """That of a part; of one with seeds the list of all, or the first failure."""
    if not part.seeds:
        return _answer(part.arguments, limit_s, os.environ)
    with ThreadPoolExecutor(len(part.seeds)) as pool:
        asked = ([*part.arguments, "--seed", str(seed)] for seed in part.seeds)
        every = list(pool.map(lambda words: _answer(words, limit_s, os.environ | SHARED), asked))
    failed = next((found for found in every if not _is_well(found)), None)
    return failed or {"exit": 0, "answer": [found["answer"] for found in every]}


def _answer(arguments: Sequence[str], limit_s: float, environment: Mapping[str, str]) -> dict[str, Any]:
    command = [sys.executable, str(ROOT / "train.py"), *map(str, arguments)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    ) as process:
        try:
            said, errors = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)  # a group of its own: what it had started goes too
            _, errors = process.communicate()
            return {"failed": f"not done after {limit_s:.0f} s", "said": errors.strip().splitlines()[-20:]}
    try:
        return {"exit": process.returncode, "answer": json.loads(said)}
    except ValueError:
        last = (errors.strip().splitlines() or ["nothing"])[-1]
        return {"exit": process.returncode, "failed": f"exit {process.returncode}, said: {last[:400]}"}
