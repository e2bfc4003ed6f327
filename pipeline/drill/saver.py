"""How others save, for the control arms: a program that saves states as fast as it can, and says what it has saved.

    python -m pipeline.drill.saver stock|overwrite DIRECTORY BYTES

`stock` is Orbax as its documentation has it: `result()` has returned, so it is saved. `overwrite` is one file written
anew in place, as `torch.save(checkpoint, "ckpt.pt")` does in nanoGPT and many others.
"""

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

FILE = "ckpt.npz"
LEAVES = 4


def state(step: int, size: int) -> dict[str, Float[np.ndarray, " values"]]:
    """A state of `size` bytes in which every bit depends on the step."""
    dice = np.random.default_rng(step)
    return {f"layer{leaf}": dice.standard_normal(max(1, size // 4 // LEAVES), np.float32) for leaf in range(LEAVES)}


def restored(arm: str, directory: Path) -> tuple[int, Any] | None:
    """The newest step that this arm restores, and its state; None if it cannot."""
    try:
        if arm == "overwrite":
            with np.load(directory / FILE) as file:
                found = dict(file)
            return int(found.pop("step")), found
        from orbax.checkpoint import v1 as ocp

        with ocp.training.Checkpointer(directory) as checkpointer:
            step = checkpointer.latest.step
        return step, ocp.load_checkpointables(directory / str(step))["state"]
    except Exception:  # whatever a half-written file makes a reader do
        return None


def same(found: Any, wanted: dict[str, Float[np.ndarray, " values"]]) -> bool:
    """Bit for bit."""
    return found.keys() == wanted.keys() and all(np.array_equal(found[name], wanted[name]) for name in wanted)


def main(arm: str, directory: Path, size: int) -> None:
    save = {"stock": _stock, "overwrite": _overwrite}[arm](directory)
    step = 0
    while True:
        step += 1
        made = state(step, size)
        _say("saving", step)
        save(step, made)
        _say("sealed", step)


def _stock(directory: Path) -> Any:
    from orbax.checkpoint import v1 as ocp

    checkpointer = ocp.training.Checkpointer(directory)
    return lambda step, made: checkpointer.save_checkpointables_async(step, {"state": made}).result()


def _overwrite(directory: Path) -> Any:
    directory.mkdir(parents=True, exist_ok=True)

    def save(step: int, made: Any) -> None:
        with (directory / FILE).open("wb") as file:
            np.savez(file, step=step, **made)

    return save


def _say(what: str, step: int) -> None:
    os.write(1, f"{what} {step}\n".encode())


if __name__ == "__main__":
    try:
        main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
    except Exception:
        os._exit(1)  # threads of Orbax would keep a program alive that does nothing any more (measured, full disk)
