"""A run as a folder that transformers, vLLM and llama.cpp open: safetensors, config.json, tokenizer.json."""

import errno
import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.checkpoint import durable
from pipeline.config import BadInput, RunFailed
from pipeline.ground.arguments import RunParser, say_passed_over
from pipeline.ground.run_directory import RunDirectory, Weights, open_run
from pipeline.lm import qwen3

MANIFEST = "export.json"  # what the folder is of, and the hash of each file: it also tells an export from other folders
_FILES = {"model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", MANIFEST}


def main(arguments: Sequence[str]) -> int:
    """`train.py export RUN --out DIR`."""
    parser = RunParser("export", "Writes a run as safetensors, config.json and tokenizer.json (Qwen3ForCausalLM).")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder to write; an earlier export is replaced"
    )
    parser.add_step()
    parser.add_json()
    given = parser.parse_args(arguments)
    result = export(given.run, given.out, given.step)
    say_passed_over(result["damaged"])
    if given.json:
        print(json.dumps(result))
    else:
        size_mb = (given.out / "model.safetensors").stat().st_size / 1e6
        print(f"{given.out}: step {result['step']:,}, {result['parameters']:,} parameters, fp32, {size_mb:.1f} MB")
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
