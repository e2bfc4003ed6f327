"""Child process of a bench: a run of Dayside, its whole loop, that trains as far as it is told (see worker.py).

Everything of `train.py run` is in the time: batches, guard, ledger, periodic saves. Validation is not: a bench asks for
it.
"""

import contextlib
import json
import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pipeline.config import Config, load_file
from pipeline.flight.display import Display
from pipeline.flight.notices import Notices
from pipeline.flight.run import assemble
from pipeline.ground.bench.machine import processor_s
from pipeline.ground.bench.memory import peak_bytes

NEVER = 1 << 30  # steps


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else is printed goes to the log

    def answer(**what: Any) -> None:
        answers.write(json.dumps(what | {"processor_s": processor_s(), "peak_bytes": peak_bytes()}) + "\n")
        answers.flush()

    with contextlib.suppress(BrokenPipeError):
        _obey(_unasked(load_file(Path(sys.argv[1]))), answer)


def _unasked(config: Config) -> Config:
    """The same run without validations of its own."""
    train = config.train.model_copy(update={"eval_every": NEVER})
    return config.model_copy(update={"train": train})


def _obey(config: Config, answer: Any) -> None:
    with ExitStack() as stack:
        job = assemble(config, Notices(config.checkpoint.notice_s), Display(quiet=True), stack)
        import jax

        from pipeline.ground.bench.matmul import peak_flops

        job.save(urgent=True)

        def train(until: int) -> None:
            while job.progress.step < until:
                job.turn()

        def save() -> float:
            """Seconds that the loop stands still for it."""
            begun_s = time.perf_counter()
            job.save()
            return time.perf_counter() - begun_s

        def step() -> dict[str, Any]:
            return {"step": job.progress.step, "loss": job.loss}

        train(1)
        parameters = sum(leaf.size for leaf in jax.tree.leaves(job.state.params))
        answer(parameters=parameters, parts=job.parts.seconds, backend=jax.default_backend(), **step())
        for line in sys.stdin:
            asked = json.loads(line)
            if "train" in asked:
                if "save" in asked:  # or not, but beside no other save
                    job.store.wait(None)
                begun_s = time.perf_counter()
                stall_s = save() if asked.get("save") else 0.0
                train(asked["train"])
                answer(seconds=time.perf_counter() - begun_s, stall_s=stall_s, **step())
            elif "evaluate" in asked:
                result = job.validation.whole(job.state.params)
                answer(loss=result["loss"], standard_error=result["standard_error"])
            else:
                answer(flops_per_s=peak_flops(config.train.precision))


if __name__ == "__main__":
    main()
