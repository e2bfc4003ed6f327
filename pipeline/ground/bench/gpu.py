"""Everything that is to be shown on a GPU, in one command: each part is a verb of `train.py` and has its time.

`train.py bench gpu --out DIR [--text FILE] [--peer-path DIR] [--minutes 25]` writes DIR/gpu.json after every part,
DIR/curve.yaml and DIR/gpu.png. Called again, it asks for what DIR/gpu.json has no answer to, or one of other code or of
another card: a lease that ends early loses nothing. Beside each answer stand card and driver. It wants a machine for
itself. Of the card it only reads: no power limit, clock or mode is set. `--dry_run` does the same with small models on
a processor, to show that all of it works.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.checkpoint import durable
from pipeline.config import BadInput
from pipeline.config.arguments import Parser, within
from pipeline.flight.child import ROOT, bound
from pipeline.flight.nvml import card
from pipeline.ground.arguments import usable_path
from pipeline.ground.bench.gpu_findings import findings
from pipeline.ground.bench.gpu_parts import Part, parts
from pipeline.ground.bench.printing import verdict
from pipeline.ground.bench.worker import SHARED

PATIENCE = 2.0  # a part that takes so many times as long as it should is ended
CLOSING_S = 10.0  # for the picture
Said = dict[str, Any]  # how one command ended: exit, and answer or why there is none


@dataclass
class Proof:
    """What has come of it so far."""

    out: Path
    dry: bool
    until_s: float
    parts: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.code = _digest()
        self.card = list(card() or ()) or None

    def run(self, part: Part) -> None:
        """Runs a part that has no answer of this code on this card and keeps what it says. One that fails or hangs says
        so in its place, beside an older answer; one that comes too late, if nothing else is known of it."""
        if self.is_well(part.name):
            return
        before, left_s, began_s = self.parts.get(part.name, {}), self.until_s - time.monotonic(), time.monotonic()
        print(f"{part.name} ...", file=sys.stderr, flush=True)
        if part.after and not self.is_well(part.after):
            found: Said = {"not_run": f"without {part.after}"}
        elif left_s < part.takes_s:
            found = {"not_run": f"{max(0.0, left_s):.0f} s were left of {part.takes_s:.0f}"}
        else:
            limit_s = min(PATIENCE * part.takes_s, left_s)
            found = _answer(part, limit_s, before if self.is_of_now(before) else {})
            if not _is_well(found) and time.monotonic() >= self.until_s:
                found["cut_off"] = f"the minutes were over {left_s:.0f} s after it began"
        if before and "not_run" in found:
            return
        command = " ".join(str(word) for word in ("train.py", *part.arguments))
        about = {"command": command, "card": self.card, "code": self.code}
        found = about | {"seconds": round(time.monotonic() - began_s, 1)} | found
        is_less = "answer" in before and "answer" not in found
        self.parts[part.name] = before | {"since": found} if is_less else found
        durable.write(self.out / "gpu.json", json.dumps(self.as_json(), indent=1).encode())

    def is_of_now(self, found: Mapping[str, Any]) -> bool:
        return found.get("code") == self.code and found.get("card") == self.card

    def is_well(self, name: str) -> bool:
        found = self.parts.get(name, {})
        return self.is_of_now(found) and _is_well(found)

    def turn(self, part: Part) -> int:
        """First comes what has not been tried, then what the end of the minutes cut off, then what failed; each with
        what comes after it."""
        return max(map(self._turn, filter(None, (part.name, part.after))))

    def _turn(self, name: str) -> int:
        before = self.parts.get(name, {})
        found = before.get("since", before)
        if not self.is_of_now(found) or _is_well(found) or "not_run" in found:
            return 0
        return 1 if "cut_off" in found else 2

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
        found = [one._replace(met=None) if self.dry else one for one in findings(self.answers())]
        return {
            "provenance": about,
            "cores": os.cpu_count(),
            "findings": [finding._asdict() for finding in found],
            "parts": self.parts,
        }

    def answers(self) -> dict[str, Any]:
        """Of this code on this card, well or not."""
        return {name: part["answer"] for name, part in self.parts.items() if self.is_of_now(part) and "answer" in part}

    def show(self) -> None:
        for name, found in self.parts.items():
            print(f"{name:<34}{found.get('seconds', 0.0):>7.1f} s  {self._state(found)}")
        for finding in self.as_json()["findings"]:
            value = "never" if finding["value"] is None else f"{finding['value']:,.4g} {finding['unit']}"
            print(f"{finding['what']:<54}{value:>18}  {finding['goal']:<10}{verdict(finding['met'])}".rstrip())

    def _state(self, found: Mapping[str, Any]) -> str:
        why_not = next((found[why] for why in ("not_run", "cut_off", "failed") if why in found), None)
        said = why_not or ("answered, exit 1" if found["exit"] else "answered")
        said = said if self.is_of_now(found) else f"{said}, by other code or on another card"
        return f"{said}; since then: {self._state(found['since'])}" if "since" in found else said


def main(arguments: Sequence[str]) -> int:
    """Runs every part. 0 if each has an answer of this code on this card, and none says that something failed.

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
    proof = Proof(own.out, own.dry_run, time.monotonic() + 60.0 * own.minutes - CLOSING_S)
    proof.go_on()
    asked = parts(own.out, own.text, own.peer, own.dry_run, proof.card)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        for part in sorted(asked, key=proof.turn):
            proof.run(part)
    finally:
        signal.signal(signal.SIGTERM, before)
        from pipeline.ground.bench.gpu_picture import draw

        draw(proof.as_json()["provenance"], proof.answers(), own.out / "gpu.png")
        print(json.dumps(proof.as_json())) if own.json else proof.show()
    if not own.json:
        print(f"{own.out / 'gpu.json'}, {own.out / 'gpu.png'}")
    return 0 if all(proof.is_well(part.name) for part in asked) else 1


def _is_well(found: Mapping[str, Any]) -> bool:
    return "answer" in found and found.get("exit") == 0


def _digest() -> str:
    """Of the code that is measured, and of its configurations."""
    files = sorted([*(ROOT / "pipeline").rglob("*.py"), *(ROOT / "configs").rglob("*.yaml")])
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]


def _answer(part: Part, limit_s: float, before: Said) -> Said:
    """That of a part; of one with seeds all answers by seed, and why one is missing. A seed that has answered, well or
    not, as in `before`, is not asked again: what happens once in a while is not to be asked for until it is gone."""
    exits, answers = (dict(before.get(what, {})) if part.seeds else {} for what in ("exits", "answer"))
    seeds = [seed for seed in part.seeds if str(seed) not in answers]
    if part.seeds and not seeds:
        return {what: before[what] for what in ("exit", "exits", "answer")}
    commands = [[*part.arguments, "--seed", str(seed)] for seed in seeds] or [[*part.arguments]]
    environment = os.environ | SHARED if part.seeds else os.environ
    with ThreadPoolExecutor(len(commands)) as pool:
        try:
            every = list(pool.map(lambda words: _ask(words, limit_s, environment), commands))
        except BaseException:
            _end(os.getpid())  # the pool waits for those who wait for them
            raise
    if not part.seeds:
        return every[0]
    failed = dict[str, Any]()
    for seed, found in zip(map(str, seeds), every, strict=True):
        if "answer" in found:
            answers[seed], exits[seed] = found["answer"], found["exit"]
        else:
            failed = {"failed": f"seed {seed}: {found['failed']}"} | failed
    if not answers:
        return failed
    return failed | {"exit": max(exits.values()) or int(bool(failed)), "exits": exits, "answer": answers}


def _ask(arguments: Sequence[str], limit_s: float, environment: Mapping[str, str]) -> Said:
    command = bound([sys.executable, str(ROOT / "train.py"), *map(str, arguments)])
    piped: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "errors": "replace"}
    with subprocess.Popen(command, **piped, text=True, env=environment, start_new_session=True) as process:
        try:
            said, errors = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            _end(process.pid)
            errors = ""
            with suppress(subprocess.TimeoutExpired):  # of whoever has left the family and holds the pipe
                _, errors = process.communicate(timeout=10.0)
            return {"failed": f"not done after {limit_s:.0f} s", "said": errors.strip().splitlines()[-20:]}
    try:
        return {"exit": process.returncode, "answer": json.loads(said.strip().rpartition("\n")[2])}
    except ValueError:
        last = (errors.strip().splitlines() or ["nothing"])[-1]
        return {"exit": process.returncode, "failed": f"exit {process.returncode}, said: {last[:400]}"}


def _end(pid: int) -> None:
    """Ends a process, unless it is this one, and its children and theirs, in whatever sessions: what went on on the
    card would be counted in what is measured next."""
    found = [pid]
    for one in found:  # grows meanwhile
        _send(one, signal.SIGSTOP)  # so that it starts no more
        for children in Path(f"/proc/{one}/task").glob("*/children"):
            with suppress(OSError):
                found += map(int, children.read_text().split())
    for one in found:
        _send(one, signal.SIGKILL)


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(OSError):
        if pid != os.getpid():
            os.kill(pid, number)
