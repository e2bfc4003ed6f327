"""A run as a folder that transformers, vLLM and llama.cpp open: safetensors, config.json, tokenizer.json.

Or with int8 weights, which they do not open: `export_int8.py`.
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
from pipeline.ground.arguments import RunParser, say_passed_over, set_up_jax, usable_path
from pipeline.ground.run_directory import RunDirectory, Weights, open_run
from pipeline.lm import qwen3

MANIFEST = "export.json"  # what the folder is of, and the hash of each file: it also tells an export from other folders
FP32, INT8 = "model.safetensors", "model.int8.safetensors"
BESIDE = ("config.json", "tokenizer.json", "tokenizer_config.json")  # the weights, whatever their numbers
_FILES = {FP32, INT8, *BESIDE, MANIFEST}


def main(arguments: Sequence[str]) -> int:
    """`train.py export RUN --out DIR`."""
    parser = RunParser(
        "export",
        "Writes a run as safetensors, config.json and tokenizer.json (Qwen3ForCausalLM). Given the folder of an int8 "
        "export in place of a run, it writes that back as fp32.",
    )
    parser.add_argument(
        "--out", type=usable_path, required=True, metavar="DIR", help="folder to write; an earlier export is replaced"
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
    from pipeline.ground import export_int8

    if given.corpus_path and not given.int8:
        raise BadInput("--corpus.path: is what --int8 measures on; leave it out, or give --int8")
    if (given.run / INT8).is_file():
        if given.int8 or given.step is not None:
            raise BadInput(f"{given.run}: is an int8 export already, to be written back as fp32; give --out alone")
        result = export_int8.write_back(given.run, given.out)
    elif given.int8:
        set_up_jax()
        result = export_int8.export_int8(given.run, given.out, given.step, given.corpus_path)
    else:
        result = export(given.run, given.out, given.step)
    say_passed_over(result.get("damaged", {}))
    if given.json:
        print(json.dumps(result))
    else:
        print(_line(given.out, result))
        if loss := result.get("loss"):
            print(export_int8.line(loss))
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
    from safetensors.numpy import save

    require_replaceable(Path(out))
    run = open_run(run_dir)
    weights = run.weights(step)
    tensors = qwen3.tensors(weights.params)
    files = {FP32: save(tensors, {"format": "pt"})} | beside(run, weights)
    manifest = about(run, weights, files)
    put(Path(out), files | {MANIFEST: to_json(manifest)})
    return manifest | {"damaged": weights.damaged}


def beside(run: RunDirectory, weights: Weights) -> dict[str, bytes]:
    """The files of an export that are not weights."""
    files = {"config.json": to_json(qwen3.config(run.config.model, weights.vocab_size))}
    if tokenizer := run.tokenizer(weights.vocab_size):
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
    try:
        _replace(out.resolve(), files)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunFailed(f"{out}: no space for {sum(map(len, files.values())) / 1e6:.0f} MB; free some") from error
        raise BadInput(f"--out: {out}: cannot be written ({error.strerror}); give another folder") from error


def _replace(out: Path, files: dict[str, bytes]) -> None:
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


def _line(out: Path, result: dict[str, Any]) -> str:
    kind, file = ("fp32", FP32) if FP32 in result["sha256"] else ("int8", INT8)
    size_mb = (out / file).stat().st_size / 1e6
    return f"{out}: step {result['step']:,}, {result['parameters']:,} parameters, {kind}, {size_mb:.1f} MB"
