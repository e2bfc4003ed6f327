"""States that are a function of their step, how to compare them, and a recorder of events."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, ClassVar

import jax
import numpy as np

from pipeline.checkpoint import Store


def state_of(step: int, kilobytes: int = 64) -> dict[str, Any]:
    """What a run would hold after `step` steps, four arrays of `kilobytes` each; every bit depends on the step."""
    random = np.random.default_rng(step)
    count = kilobytes * 256
    return {
        "params": {name: random.standard_normal(count, np.float32) for name in ("embed", "layers", "norm")},
        "opt": [random.standard_normal(count, np.float32), np.int32(step)],
        "key": random.integers(0, 2**32, 2, np.uint32),
    }


def like(state: Any) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype), state)


def same(first: Any, second: Any) -> bool:
    """Bit for bit, container for container."""
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    return jax.tree.structure(first) == jax.tree.structure(second) and all(
        np.asarray(a).dtype == np.asarray(b).dtype and np.asarray(a).tobytes() == np.asarray(b).tobytes()
        for a, b in pairs
    )


class Events(list[tuple[str, dict[str, Any]]]):
    """Records (name, fields), and refuses a call from any thread but the one that made it."""

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.current_thread()

    def __call__(self, name: str, fields: dict[str, Any]) -> None:
        assert threading.current_thread() is self._thread
        self.append((name, fields))

    def of(self, name: str) -> list[dict[str, Any]]:
        return [fields for kind, fields in self if kind == name]


def seal_steps(store: Store, *steps: int, kilobytes: int = 64) -> None:
    """Saves and seals each of `steps`."""
    for step in steps:
        assert store.save(step, state_of(step, kilobytes), {"step": step})
        assert store.wait(60)


class Saver:
    """saver.py in a process of its own."""

    running: ClassVar[list["Saver"]] = []

    def __init__(self, *arguments: object) -> None:
        here = Path(__file__).parent
        path = os.pathsep.join([str(here.parent.parent), os.environ.get("PYTHONPATH", "")])
        self.process = subprocess.Popen(
            [sys.executable, here / "saver.py", *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            text=True,
        )
        self.running.append(self)

    def until(self, *words: str) -> list[str]:
        """The next line that starts with one of `words`, split."""
        for line in self.process.stdout:
            if line.split()[0] in words:
                return line.split()
        raise AssertionError(self.process.stderr.read()[-2000:])

    def end(self, timeout_s: float = 60.0) -> tuple[list[str], str]:
        """Waits for its end; what it still said on standard output, by line, and on standard error."""
        said, complained = self.process.communicate(timeout=timeout_s)
        self.running.remove(self)
        return said.splitlines(), complained

    def kill(self, word: str = "sealed") -> list[int]:
        """SIGKILL; returns the steps that it had reported `word`, and that were not yet read."""
        self.running.remove(self)
        self.process.kill()
        rest = self.process.stdout.read().splitlines()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            pipe.close()
        return [int(line.split()[1]) for line in rest if line.startswith(f"{word} ")]
