"""Child process of a bench: a checkout of nanoGPT, its own unmodified train.py, that trains as far as it is told.

`python nanogpt.py [ARGUMENTS OF ITS train.py]` in a folder that holds its train.py, model.py, configurator.py and data.
Its train.py runs with a `print` of ours: whenever it prints an iteration, this waits for what the bench asks next
(worker.py). Needs nothing of Dayside, so that any Python that has torch can run it.
"""

import builtins
import json
import os
import re
import sys
import time
from typing import Any

ITERATION = re.compile(r"iter (\d+): loss (\S+), time")


class Gate:
    """In place of `print` in its train.py, whose names are in `module`."""

    def __init__(self, module: dict[str, Any], answers: Any):
        self._module, self._answers = module, answers
        self._until, self._begun_s = 1, time.perf_counter()
        self._windows: Any = None

    def __call__(self, *words: Any, **options: Any) -> None:
        text = " ".join(map(str, words))
        builtins.print(text, file=sys.stderr)
        found = ITERATION.match(text)
        if found and int(found[1]) + 1 >= self._until:
            self._wait(int(found[1]) + 1, float(found[2]))

    def _wait(self, step: int, loss: float) -> None:
        """Answers how long it took to come here, then whatever is asked, until it may go on."""
        self._answer(seconds=time.perf_counter() - self._begun_s, step=step, loss=loss, parameters=self._parameters())
        for line in sys.stdin:
            asked = json.loads(line)
            if "train" in asked:
                self._until, self._begun_s = asked["train"], time.perf_counter()
                return
            self._answer(loss=self._evaluate())
        raise SystemExit

    def _answer(self, **what: Any) -> None:
        used_s = time.process_time() + sum(os.times()[2:4])
        self._answers.write(json.dumps(what | {"processor_s": used_s, "peak_bytes": self._peak_bytes()}) + "\n")
        self._answers.flush()

    def _peak_bytes(self) -> int | None:
        """Most memory that it has held at a time, of the GPU if it trains on one."""
        on_gpu = self._module["device_type"] == "cuda"
        return self._module["torch"].cuda.max_memory_allocated() if on_gpu else peak_bytes()

    def _parameters(self) -> int:
        return sum(parameter.numel() for parameter in self._module["raw_model"].parameters())

    def _evaluate(self) -> float:
        """Mean loss of every held-out window at stride block_size [nats per token], as Dayside validates."""
        import numpy as np

        module, torch = self._module, self._module["torch"]
        model, seq, rows = module["raw_model"], module["block_size"], module["batch_size"]
        if self._windows is None:
            data = np.fromfile(os.path.join(module["data_dir"], "val.bin"), np.uint16).astype(np.int64)
            count = (len(data) - 1) // seq
            self._windows = torch.from_numpy(np.stack([data[i * seq : i * seq + seq + 1] for i in range(count)]))
        model.eval()
        total = 0.0
        with torch.no_grad():
            for batch in self._windows.to(module["device"]).split(rows):
                total += float(model(batch[:, :-1], batch[:, 1:].contiguous())[1]) * len(batch)
        model.train()
        return total / len(self._windows)


def peak_bytes() -> int | None:
    """Most of the machine's memory that this process has held at a time; None where the system does not tell."""
    try:
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return None


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sys.path.insert(0, os.getcwd())
    module: dict[str, Any] = {"__name__": "__main__", "__file__": "train.py"}
    module["print"] = Gate(module, answers)
    sys.argv[0] = "train.py"
    with open("train.py") as file:
        exec(compile(file.read(), "train.py", "exec"), module)


if __name__ == "__main__":
    main()
