"""A training in a process of its own that goes on when it is told to and waits meanwhile: so two can be compared by
turns.

The process reads one JSON object a line and answers each with one. Before the first it answers once of itself, when its
first step is done. Each answer holds `processor_s`, all the processor time that it has used, and `peak_bytes`.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from pipeline.config import Config, RunFailed, dump_yaml
from pipeline.flight.child import bound, importing
from pipeline.ground.bench.energy import Meters

SHARED = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # environment of processes that hold one GPU together
SETTLE_S = 0.3  # threads of the one that stops spin for a while


class Worker:
    """`launch_s`: from its launch to the end of its first piece of work [s]; `first`: what it answered then."""

    def __init__(self, name: str, command: Sequence[str], log: Path, cwd: Path, **environment: str):
        """
        Raises:
            RunFailed: it ended before its first step; the message holds the last that it said.
        """
        self.name, self._log = name, log
        begun_s = time.perf_counter()
        with log.open("ab") as errors:
            # A session of its own: Ctrl-C at the terminal is for the bench, which ends its workers itself.
            self._process = subprocess.Popen(
                bound(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=cwd,
                text=True,
                start_new_session=True,
                env=importing(os.environ) | environment,
            )
        try:
            self.first = self._answer()
        except BaseException:
            self.close()
            raise
        self.launch_s = time.perf_counter() - begun_s

    def ask(self, meters: Meters | None = None, **what: Any) -> dict[str, Any]:
        """Its answer to `what`; with `meters`, `joules` is what they counted in between, waiting left out."""
        assert self._process.stdin is not None
        time.sleep(SETTLE_S)
        if meters:
            meters.joules()
        try:
            self._process.stdin.write(json.dumps(what) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._failure() from None
        answer = self._answer()
        return answer | {"joules": meters.worked(answer["seconds"])} if meters else answer

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._failure()
        return json.loads(line)

    def _failure(self) -> RunFailed:
        self._process.wait()
        said = [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        reason = said[-1].strip()[:300] if said else "it said nothing"
        return RunFailed(f"{self.name}: ended with exit code {self._process.returncode}: {reason}")

    def close(self) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
            self._process.wait(timeout=5.0)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def on_the_ground(config: Config) -> Config:
    """The same learning, that waits for no real eclipse, steers no hardware and writes to no second device."""
    changed = {
        "checkpoint": config.checkpoint.model_copy(update={"mirror_dir": None}),
        "mission": config.mission.model_copy(update={"clock": "simulated"}),
        "telemetry": config.telemetry.model_copy(update={"source": "simulated"}),
        "gpu": config.gpu.model_copy(update={"actuator": "simulated", "sm_mhz": None}),
    }
    return config.model_copy(update=changed)


def ours(name: str, config: Config, folder: Path, **environment: str) -> Worker:
    """`train.py run` of `config`, nothing compiled before, as a worker; it writes into `folder`."""
    written = folder / f"{name}.yaml"
    written.write_text(dump_yaml(on_the_ground(config).model_copy(update={"run_dir": folder / name})))
    command = [sys.executable, "-m", "pipeline.ground.bench.ours", str(written)]
    return Worker(name, command, folder / f"{name}.log", Path.cwd(), **environment)


def run(module: str, *arguments: str) -> str:
    """What a module prints that ends by itself.

    Raises:
        RunFailed: it ended badly; the message holds the last that it said.
    """
    command = bound([sys.executable, "-m", module, *arguments])
    done = subprocess.run(command, capture_output=True, text=True, env=importing(os.environ))
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["it said nothing"]
        raise RunFailed(f"{module}: ended with exit code {done.returncode}: {said[-1][:300]}")
    return done.stdout
