"""The folder that an export is: what lies in it beside the weights, and how it is written, whole or not at all."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.checkpoint import durable
from pipeline.config import FULL, BadInput, RunFailed
from pipeline.ground.held import held
from pipeline.ground.run_directory import RunDirectory, Weights
from pipeline.lm import qwen3

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MANIFEST = "export.json"  # what the folder is of, and the hash of each file: it also tells an export from other folders
FP32, INT8 = "model.safetensors", "model.int8.safetensors"
BESIDE = ("config.json", "tokenizer.json", "tokenizer_config.json")  # the weights, whatever their numbers
_FILES = {FP32, INT8, *BESIDE, MANIFEST}


def beside(run: RunDirectory, weights: Weights, tokenizer: "Tokenizer | None") -> dict[str, bytes]:
    """The files of an export that are not weights."""
    files = {"config.json": to_json(qwen3.config(run.config.model, weights.vocab_size))}
    if tokenizer:
        files["tokenizer.json"] = tokenizer.to_str(pretty=True).encode()
        files["tokenizer_config.json"] = to_json(
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "model_max_length": run.config.model.context,
                "clean_up_tokenization_spaces": False,
            }
        )
    return files


def about(run: RunDirectory, weights: Weights, files: dict[str, bytes]) -> dict[str, Any]:
    """What the manifest says."""
    import jax

    return {
        "run": run.config.name,
        "step": weights.step,
        "tokens": weights.step * run.config.tokens_per_step,
        "parameters": sum(array.size for array in jax.tree.leaves(weights.params)),
        "sha256": digests(files),
    }


def digests(files: dict[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


def to_json(content: dict[str, Any]) -> bytes:
    return json.dumps(content, indent=2).encode() + b"\n"


def require_replaceable(out: Path) -> None:
    """Nothing but an earlier export, whole, with nothing of anybody's beside it, is ever replaced."""
    if not out.exists():
        return
    if not out.is_dir():
        raise BadInput(f"--out: {out}: is a file; give a folder")
    found = {path.name for path in out.iterdir()}
    if found and (MANIFEST not in found or found - _FILES):
        strange = min(found - _FILES, default=min(found))
        raise BadInput(
            f"--out: {out}: holds {strange} and is no export of ours; give another folder, or empty this one"
        )


def put(out: Path, files: dict[str, bytes]) -> None:
    """All of `files` in the folder `out`, or what was there before.

    Raises:
        BadInput: it cannot be written.
        RunFailed: the disk is full.
    """
    out = out.resolve()
    try:
        with held(out.parent):  # another export to the same place waits for this one
            _replace(out, files)
    except OSError as error:
        if error.errno in FULL:
            raise RunFailed(f"{out}: no space for {sum(map(len, files.values())) / 1e6:.0f} MB; free some") from error
        raise BadInput(f"--out: {out}: cannot be written ({error.strerror}); give another folder") from error


def _replace(out: Path, files: dict[str, bytes]) -> None:
    """The new folder beside the old one, flushed, then in its place."""
    draft, old = out.with_name(f".{out.name}.draft"), out.with_name(f".{out.name}.old")
    if old.exists() and not out.exists():  # the power went between the two renames
        durable.rename(old, out)
    for leftover in (draft, old):
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        draft.mkdir()
        for name, data in files.items():
            (draft / name).write_bytes(data)
        durable.fsync_tree(draft)
        if out.exists():
            durable.rename(out, old)
        durable.rename(draft, out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
