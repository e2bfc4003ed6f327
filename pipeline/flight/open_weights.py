"""A folder of open weights as transformers saves it: config.json, safetensors in one file or in shards, tokenizer.json.

Only safetensors are read. The other format of such folders is pickle, which runs whatever its writer put into it.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401  (teaches NumPy the bfloat16 that open weights are stored in)
import numpy as np
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer

from pipeline.config import BadInput
from pipeline.config.learning import Model
from pipeline.corpus.tokenizer import read, rows
from pipeline.lm import qwen3
from pipeline.lm.model import Params

CONFIG, TOKENIZER, WEIGHTS, INDEX = "config.json", "tokenizer.json", "model.safetensors", "model.safetensors.index.json"
_FLOATS = {"F32", "F16", "BF16"}
_LARGEST_JSON = 64 << 20  # bytes; an index of 1,000 layers takes 1 MB


@dataclass(frozen=True)
class OpenWeights:
    """A folder whose config.json fits this network. Its weights are read when they are asked for.

    `shape` has the fields of `Model` that config.json decides; `longest` is the longest context the weights were made
    for [tokens].
    """

    path: Path
    shape: dict[str, Any]
    vocab_size: int
    longest: int

    def sha256(self) -> str:
        """Of the names and SHA-256 of every file that is used; 1 s for 1 GB."""
        names = [CONFIG, *self._shard_of().values()] + [
            name for name in (INDEX, TOKENIZER) if (self.path / name).is_file()
        ]
        digests = {}
        for name in sorted(set(names)):
            with self._opened(name) as file:
                digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
        return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()

    def params(self, model: Model) -> Params:
        """fp32 parameters, whatever floats they are stored in: one copy in memory, and one tensor beside it.

        Raises:
            BadInput: a tensor is missing, unknown, of another shape or type, or not finite.
        """
        asked = qwen3.tensor_shapes(model, self.vocab_size)
        shard_of = self._shard_of()
        files = {name: self._safetensors(name) for name in sorted(set(shard_of.values()))}
        for name, shard in shard_of.items():
            if name not in files[shard].keys():  # noqa: SIM118  (a safetensors file is no mapping)
                raise _refused(self.path / INDEX, f"{name} is not in {shard}, where the index has it")
        if missing := sorted(asked.keys() - shard_of.keys()):
            raise _refused(self.path, f"{missing[0]} is missing ({len(missing)} of {len(asked)} tensors are)")
        # The tied head may be written out; any other tensor would be something that this network does not compute.
        if strange := sorted(shard_of.keys() - asked.keys() - {qwen3.HEAD}):
            raise _refused(self.path, f"{strange[0]} is unknown: not a plain Qwen3")

        def tensor(name: str) -> Float[np.ndarray, "..."]:
            where, file = self.path / shard_of[name], files[shard_of[name]]
            stored = file.get_slice(name)
            if stored.get_dtype() not in _FLOATS:
                raise _refused(
                    where, f"{name} is {stored.get_dtype()}; only {', '.join(sorted(_FLOATS))} can be trained"
                )
            size = asked[qwen3.EMBEDDING if name == qwen3.HEAD else name]
            if tuple(stored.get_shape()) != size:
                raise _refused(where, f"{name} is {tuple(stored.get_shape())}, but {CONFIG} makes it {size}")
            found = np.asarray(file.get_tensor(name)).astype(np.float32)
            if not np.isfinite(found).all():
                raise _refused(where, f"{name} is not finite")
            return found

        if qwen3.HEAD in shard_of and not np.array_equal(tensor(qwen3.HEAD), tensor(qwen3.EMBEDDING)):
            raise _refused(
                self.path, f"{qwen3.HEAD} differs from the embedding: only tied embeddings can be trained here"
            )
        return qwen3.params(model, tensor)

    def _shard_of(self) -> dict[str, str]:
        """Tensor name -> file, from the index or from the one file there is."""
        if not (self.path / INDEX).is_file():
            if not (self.path / WEIGHTS).is_file():
                raise self._no_safetensors()
            return dict.fromkeys(self._safetensors(WEIGHTS).keys(), WEIGHTS)
        shards = _json(self.path / INDEX).get("weight_map")
        if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
            raise _refused(self.path / INDEX, "has no weight_map from tensors to files")
        for name in shards.values():
            if Path(name).name != name or not name.endswith(".safetensors") or "\0" in name:
                raise _refused(self.path / INDEX, f"names {name!r}, which is no .safetensors file of this folder")
        return shards

    def _no_safetensors(self) -> BadInput:
        pickles = sorted(path.name for end in ("bin", "pt", "pth") for path in self.path.glob(f"*.{end}"))
        if pickles:
            return _refused(
                self.path,
                f"{pickles[0]} is pickle, which could run any code as it is opened; save the model as safetensors",
            )
        if any(self.path.glob("*.safetensors")):
            return _refused(self.path, f"no {WEIGHTS}; write an int8 export back as fp32 with `train.py export` first")
        return _refused(self.path, f"no {WEIGHTS}")

    def _safetensors(self, name: str) -> Any:
        self._opened(name).close()
        try:
            return safe_open(self.path / name, "numpy")
        except SafetensorError as error:
            raise _refused(self.path / name, f"not a safetensors file ({error}); copy it again") from error

    def _opened(self, name: str) -> Any:
        try:
            return (self.path / name).open("rb")
        except OSError as error:
            raise _refused(self.path / name, error.strerror or str(error)) from error


def open_weights(folder: Path) -> OpenWeights:
    """The model in `folder`.

    Raises:
        BadInput: no such folder, or its config.json is missing, unreadable or of a network other than this one.
    """
    if not folder.is_dir():
        raise _refused(folder, "no such folder; name one with config.json and safetensors")
    if (folder / "checkpoints").is_dir():
        raise _refused(folder, f"a run; export it first: train.py export {folder} --out DIR")
    try:
        return OpenWeights(folder, *qwen3.read_config(_json(folder / CONFIG)))
    except ValueError as error:
        raise _refused(folder / CONFIG, str(error)) from error


def read_tokenizer(path: Path, vocab_size: int, as_it_is: bool = False) -> Tokenizer:
    """The tokenizer.json at `path`; `as_it_is` as in `read`.

    Raises:
        BadInput: missing, unreadable, or with more tokens than the embedding has (`vocab_size`).
    """
    try:
        tokenizer = read(path, as_it_is)
    except OSError as error:
        raise _refused(
            path, f"{error.strerror}; save the tokenizer there, or train on corpus.source: tokens"
        ) from error
    except ValueError as error:
        raise _refused(path, str(error)) from error
    known = rows(tokenizer)
    if known > vocab_size:
        raise _refused(path, f"{known} tokens, but the embedding has {vocab_size}")
    return tokenizer


def _json(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(_LARGEST_JSON))
    except OSError as error:
        raise _refused(path, error.strerror or str(error)) from error
    except (ValueError, RecursionError) as error:
        raise _refused(path, f"not JSON ({error})") from error
    if not isinstance(found, dict):
        raise _refused(path, "not a JSON object")
    return found


def _refused(path: Path, reason: str) -> BadInput:
    return BadInput(f"init_from: {path}: {reason}")
