"""A run as a folder that transformers, vLLM and llama.cpp open: safetensors, config.json, tokenizer.json.

Or as int8 weights in the layout of `int8.py`, which they do not open, and which this writes back as fp32 that they do.
"""

import errno
import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.checkpoint import durable
from pipeline.config import BadInput, RunFailed
from pipeline.ground.arguments import Parser, say_passed_over
from pipeline.ground.run_directory import RunDirectory, Weights, open_run
from pipeline.lm import qwen3

MANIFEST = "export.json"  # what the folder is of, and the hash of each file: it also tells an export from other folders
FP32, INT8 = "model.safetensors", "model.int8.safetensors"
_FILES = {FP32, INT8, "config.json", "tokenizer.json", "tokenizer_config.json", MANIFEST}


def main(arguments: Sequence[str]) -> int:
    """`train.py export RUN --out DIR`."""
    parser = Parser(
        "export",
        "Writes a run as safetensors, config.json and tokenizer.json (Qwen3ForCausalLM). Given the folder of an int8 "
        "export in place of a run, it writes that back as fp32.",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder to write; an earlier export is replaced"
    )
    parser.add_step()
    parser.add_argument(
        "--int8", action="store_true", help="int8 weights, one scale for each output channel; their loss is measured"
    )
    parser.add_argument(
        "--corpus.path", dest="corpus_path", metavar="TEXT", help="with --int8: measure on the second half of this text"
    )
    parser.add_json()
    given = parser.parse_args(arguments)
    if (given.run / INT8).is_file():
        if given.int8 or given.step is not None or given.corpus_path:
            raise BadInput(f"{given.run}: is an int8 export, which is written back as fp32; give --out alone")
        result = write_back(given.run, given.out)
    elif given.int8:
        set_up_jax()
        result = export_int8(given.run, given.out, given.step, given.corpus_path)
    else:
        result = export(given.run, given.out, given.step)
    say_passed_over(result.pop("damaged", {})) if not given.json else None
    if given.json:
        print(json.dumps(result))
    else:
        print(_line(given.out, result))
    return 0


def export(run_dir: Path | str, out: Path | str, step: int | None = None) -> dict[str, Any]:
    """Writes the weights of `step` (default: the newest sealed) to the folder `out`: all of it, or nothing.

    Equal weights give equal bytes. Runs on token files have no tokenizer to write, unless one was put beside them.

    Returns:
        what export.json says (run, step, tokens trained on, parameters, sha256 of each file) and damaged: newer steps
        that were passed over, and why.

    Raises:
        BadInput: no run, no such step, or `out` holds something else than an earlier export, or cannot be written.
        RunFailed: the checkpoint is damaged, or the disk is full.
    """
    out = Path(out)
    _require_replaceable(out)
    run = open_run(run_dir)
    weights = run.weights(step)
    files, about = _contents(run, weights)
    try:
        _put(out.resolve(), files)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunFailed(f"{out}: no space for {sum(map(len, files.values())) / 1e6:.0f} MB; free some") from error
        raise BadInput(f"--out: {out}: cannot be written ({error.strerror}); give another folder") from error
    return about | {"damaged": weights.damaged}


def _contents(run: RunDirectory, weights: Weights) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Every file of the export, and what its manifest says."""
    from safetensors.numpy import save

    tensors = qwen3.tensors(weights.params)
    files = {
        "model.safetensors": save(tensors, {"format": "pt"}),
        "config.json": _json(qwen3.config(run.config.model, weights.vocab_size)),
    }
    if tokenizer := run.tokenizer(weights.vocab_size):
        files["tokenizer.json"] = tokenizer.to_str(pretty=True).encode()
        files["tokenizer_config.json"] = _json(
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "model_max_length": run.config.model.context,
                "clean_up_tokenization_spaces": False,
            }
        )
    about = {
        "run": run.config.name,
        "step": weights.step,
        "tokens": weights.step * run.config.tokens_per_step,
        "parameters": sum(tensor.size for tensor in tensors.values()),
        "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
    }
    return files | {MANIFEST: _json(about)}, about


def _json(content: dict[str, Any]) -> bytes:
    return json.dumps(content, indent=2).encode() + b"\n"


def _require_replaceable(out: Path) -> None:
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


def _put(out: Path, files: dict[str, bytes]) -> None:
    """The new folder beside the old one, flushed, then in its place."""
    draft, old = out.with_name(f".{out.name}.draft"), out.with_name(f".{out.name}.old")
    out.parent.mkdir(parents=True, exist_ok=True)
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
