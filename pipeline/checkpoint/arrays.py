"""A state as named host arrays, and back: the device-to-host copy, the fingerprints, Orbax.

Orbax is given a flat dictionary of NumPy arrays, so the file format knows nothing of Flax or Optax containers, and
any Orbax reads it back. It is imported on first use: 0.2–0.8 s that `verify` and `plan` need not pay.
"""

import re
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pipeline.checkpoint import quiet, seal
from pipeline.checkpoint.seal import Leaf

Named = dict[str, np.ndarray]
PIECE = 1 << 24  # bytes
_BRIEF = 300  # characters of an error
_KEY = "state"  # the name of the array collection inside an Orbax checkpoint


class HostCopy:
    """Memory that a state is copied into, reused from save to save.

    The copy is real and complete before `take` returns. A view would not do: the caller may overwrite host arrays at
    once, and on a CPU, where `device_get` returns the device buffer itself, a held view keeps JAX from reusing that
    buffer in a donated step (measured), which costs a second state. Reusing the memory makes 130 MB take 10 ms instead
    of 60: most of a fresh copy is page faults. It stays allocated: one state of host memory.
    """

    def __init__(self) -> None:
        self._arrays: Named = {}

    def begin(self, state: Any) -> Callable[[], Named]:
        """Copies every leaf of `state`, which may be overwritten at once; what is returned gives the copy, once, in any
        thread.

        What is on a GPU is copied there, and comes to the host when it is asked for, beside the training. It comes in
        pieces, each through memory that does not move: JAX would keep Python's lock while it fetches into any other.
        The state is copied to the host at once where the GPU never had room for another one besides what it needed at
        most.
        """
        if has_room(state):
            likes, pieces = jax.eval_shape(named, state), in_pieces(named(state), PIECE)
            return lambda: self._gather(likes, pieces)
        taken = self.take(state)
        return lambda: taken

    def take(self, state: Any) -> Named:
        """Copies every leaf of `state`; valid until the next call."""
        sources = jax.device_get(named(state))  # starts every transfer before it waits for the first
        return self._gather(sources, {name: [source.reshape(-1)] for name, source in sources.items()})

    def _gather(self, likes: dict[str, Any], pieces: dict[str, list[Any]]) -> Named:
        """Arrays like `likes` from their pieces, which are let go one after another; valid until the next call."""
        filled = {}
        for name, like in likes.items():
            held = self._arrays.get(name)
            if held is None or held.shape != like.shape or held.dtype != like.dtype:
                held = np.empty(like.shape, like.dtype)
            flat, end = held.reshape(-1), 0
            while pieces[name]:
                piece = np.asarray(fetched(pieces[name].pop(0)))
                flat[end : end + piece.size] = piece
                end += piece.size
            filled[name] = held
        self._arrays = filled
        return filled


def fetched(piece: Any) -> Any:
    """`piece` in pinned memory of the host, where it is on a device."""
    if not isinstance(piece, jax.Array):
        return piece
    return jax.device_put(piece, piece.sharding.with_memory_kind("pinned_host"))


copied = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))


@partial(jax.jit, static_argnums=1)
def in_pieces(leaves: dict[str, jax.Array], most_bytes: int) -> dict[str, list[jax.Array]]:
    """A copy of each leaf, flat and cut into pieces of at most `most_bytes`."""

    def cut(leaf: jax.Array) -> list[jax.Array]:
        most = max(1, most_bytes // leaf.dtype.itemsize)
        return [jnp.copy(leaf.reshape(-1)[start : start + most]) for start in range(0, leaf.size, most)]

    return {name: cut(leaf) for name, leaf in leaves.items()}


def has_room(state: Any) -> bool:
    """Whether it is on a GPU that would have held it once more when it held most; on a CPU, no."""
    arrays = (leaf for leaf in jax.tree.leaves(state) if hasattr(leaf, "devices"))
    memory = [device.memory_stats() or {} for device in {device for array in arrays for device in array.devices()}]
    free = [one.get("bytes_limit", 0) - one.get("peak_bytes_in_use", 0) for one in memory]
    return bool(free) and min(free) >= nbytes(state)


def named(tree: Any) -> dict[str, Any]:
    """Leaves of a pytree by their path, dots between: {'params.embed': ...}."""
    pairs = jax.tree_util.tree_flatten_with_path(tree)[0]
    leaves = {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in pairs}
    if len(leaves) != len(pairs):
        raise ValueError("two leaves of the state have the same path; rename one")
    return leaves


def nbytes(tree: Any) -> int:
    """Size of all leaves [bytes]."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def fingerprints(arrays: Named) -> dict[str, Leaf]:
    """dtype, shape and hash of each array: 5 ms for 130 MB."""
    return {name: Leaf(a.dtype.name, a.shape, seal.digest(a.reshape(-1).view(np.uint8))) for name, a in arrays.items()}


def difference(like: Any, leaves: dict[str, Leaf]) -> str | None:
    """The first thing in which the state asked for is not the state that was sealed; None when they agree."""
    asked = {name: Leaf(np.dtype(s.dtype).name, tuple(s.shape), "") for name, s in named(like).items()}
    for name in sorted(asked.keys() | leaves.keys()):
        here, there = asked.get(name), leaves.get(name)
        if here is None or there is None or (here.dtype, here.shape) != (there.dtype, there.shape):
            return f"{name} is {there or 'absent'} there and {here or 'absent'} here"
    return None


def assemble(like: Any, arrays: Named) -> Any:
    """The pytree of `like`, with the arrays on the devices that it names (default device where it names none)."""
    leaves = [arrays[name] for name in named(like)]
    shardings = [getattr(spec, "sharding", None) for spec in jax.tree.leaves(like)]
    return jax.tree.unflatten(jax.tree.structure(like), jax.device_put(leaves, shardings))


@cache
def orbax() -> Any:
    """Orbax v1. Called first in the caller's thread, so that no import runs beside the train loop's own."""
    from orbax.checkpoint import v1

    quiet.hush()
    return v1


def write(directory: Path, arrays: Named) -> None:
    """Writes an Orbax checkpoint at `directory`, which must not exist.

    OCDBT without compression: zstd took 1,680 ms in place of 474 for 500 MB, and saved 9 %.
    """
    ocp = orbax()
    from orbax.checkpoint._src.futures.future import AwaitableSignalsContract

    context = ocp.Context()
    # First, and by this thread: others would wait five minutes for a directory that could not be made.
    context.asynchronous.create_directories_asynchronously = False
    context.array.saving.use_ocdbt = True
    context.array.saving.use_compression = False
    context.memory.deepcopy_host_arrays = False  # HostCopy was that copy
    with context:
        ocp.save_checkpointables(directory, {_KEY: {name: array for name, array in arrays.items() if array.size}})
    # Orbax does so for asynchronous directories alone. Not after a failure: a thread may still wait for one.
    AwaitableSignalsContract.remove_all_awaitable_signals()


def read(directory: Path, leaves: dict[str, Leaf], part: bool = False) -> Named:
    """Reads an Orbax checkpoint as host arrays. Orbax stores no empty arrays; they are made anew.

    `part`: `leaves` are some of what is there, and the rest is not read: weights are a third of a state under AdamW.
    """
    ocp = orbax()
    context = ocp.Context()
    context.pytree.loading.partial_load = part
    empty = {name: np.empty(leaf.shape, jnp.dtype(leaf.dtype)) for name, leaf in leaves.items()}
    asked = {name: array for name, array in empty.items() if array.size}
    with context:
        return empty | ocp.load_checkpointables(directory, {_KEY: asked})[_KEY]


def brief(error: Exception) -> str:
    """The beginning and the end of its first line. TensorStore names the files first, the cause last, and after that
    what it was asked to open, for a thousand characters."""
    line = re.split(r"\n| \[\w+='", str(error), maxsplit=1)[0]
    return line if len(line) <= _BRIEF else f"{line[: _BRIEF // 2]} ... {line[-_BRIEF // 2 :]}"
