"""Child process of a bench: the training program alone, compiled ahead and run on random tokens: its times and memory.

`python -m pipeline.ground.bench.program CONFIG.yaml VOCAB_SIZE STEPS REPEATS` prints one JSON object.
"""

import json
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pipeline.config import Config, load_file


def measure(config: Config, vocab_size: int, steps: int, repeats: int) -> dict[str, Any]:
    """One program of `steps` steps, called `repeats` times after five that are not counted.

    Memory is what the process holds at most, from a fresh state to the end of one call, over what it held before (on a
    CPU, a second call may take its scratch space before the first has given its back); on a GPU, what the device holds
    at most. `xla_bytes` is what XLA planned for the program itself.
    """
    import jax
    import numpy as np

    from pipeline.ground.bench import memory
    from pipeline.ground.bench.matmul import peak_flops
    from pipeline.lm.schedule import Cooldown
    from pipeline.lm.step import init_state, make_train_chunk

    make_state = jax.jit(lambda: init_state(config, vocab_size))
    shape = (steps, config.train.batch, config.model.context + 1)
    tokens = np.random.default_rng(0).integers(0, vocab_size, shape).astype(np.int32)
    begun_s = time.perf_counter()
    fresh = make_state.lower().compile()
    made = make_train_chunk(config).lower(jax.eval_shape(make_state), tokens, steps, Cooldown())  # type: ignore[attr-defined]
    chunk = made.compile()
    compile_s = time.perf_counter() - begun_s
    planned = chunk.memory_analysis()
    held: list[int] = []
    for _ in range(5):  # the median counts: code is loaded at first, and arrays may be given back late
        state: Any = None
        memory.forget_peak()
        before = memory.held_bytes() if jax.default_backend() == "cpu" else 0
        state = jax.block_until_ready(fresh())  # arrays that are still being made would be copied
        state, metrics = chunk(state, tokens, steps, Cooldown())
        np.asarray(metrics.loss)  # waits for the device
        most = memory.peak_bytes()
        held += [most - before] if most is not None and before is not None else []
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    took_s, peaks = [], []
    for _ in range(repeats):
        begun_s = time.perf_counter()
        state, metrics = chunk(state, tokens, steps, Cooldown())
        np.asarray(metrics.loss)
        took_s.append((time.perf_counter() - begun_s) / steps)
        peaks.append(peak_flops(config.train.precision))
    return {
        "backend": jax.default_backend(),
        "parameters": parameters,
        "compile_s": compile_s,
        "step_s": took_s,
        "peak_flops_per_s": peaks,
        "peak_bytes": int(np.median(held)) if held else None,
        "xla_bytes": planned.argument_size_in_bytes
        + planned.temp_size_in_bytes
        + planned.output_size_in_bytes
        - planned.alias_size_in_bytes
        if planned
        else None,
    }


def apart(config: Config, vocab_size: int, steps: int, repeats: int) -> dict[str, Any]:
    """`measure` in a process of its own, whose memory is nobody else's.

    Raises:
        RunFailed: it ended badly, for want of memory perhaps.
    """
    from pipeline.config import dump_yaml
    from pipeline.ground.bench.worker import run

    with TemporaryDirectory(prefix="bench-") as folder:
        written = Path(folder) / "config.yaml"
        written.write_text(dump_yaml(config))
        said = run("pipeline.ground.bench.program", str(written), str(vocab_size), str(steps), str(repeats))
    return json.loads(said)


def main(arguments: list[str]) -> None:
    from pipeline.flight.device import choose_device

    config = load_file(Path(arguments[0]))
    with TemporaryDirectory(prefix="bench-") as cache:
        choose_device(config.train.device, config.model.attention, Path(cache), config.train.precision)
        print(json.dumps(measure(config, *map(int, arguments[1:]))))


if __name__ == "__main__":
    main(sys.argv[1:])
