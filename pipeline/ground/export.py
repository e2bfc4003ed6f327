"""A run as a folder that transformers, vLLM and llama.cpp open: safetensors, config.json, tokenizer.json.

Or with int8 weights, which they do not open: `export_int8.py`.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.config import BadInput
from pipeline.ground import export_int8
from pipeline.ground.arguments import RunParser, Step, say_passed_over, set_up_jax, usable_path
from pipeline.ground.export_folder import FP32, INT8, MANIFEST, about, beside, put, require_replaceable, to_json
from pipeline.ground.run_directory import open_run
from pipeline.lm import qwen3


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
    if given.corpus_path and not given.int8:
        raise BadInput("--corpus.path: is what --int8 measures on; leave it out, or give --int8")
    if again := (given.run / INT8).is_file():
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
            print(("as it was exported: " if again else "") + export_int8.line(loss))
    return 0


def export(run_dir: Path | str, out: Path | str, step: Step = None) -> dict[str, Any]:
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
    files = {FP32: save(tensors, {"format": "pt"})} | beside(run, weights, run.tokenizer(weights.vocab_size))
    manifest = about(run, weights, files)
    put(Path(out), files | {MANIFEST: to_json(manifest)})
    return manifest | {"damaged": weights.damaged}


def _line(out: Path, result: dict[str, Any]) -> str:
    kind, file = ("fp32", FP32) if FP32 in result["sha256"] else ("int8", INT8)
    size_mb = (out / file).stat().st_size / 1e6
    line = f"{out}: step {result['step']:,}, {result['parameters']:,} parameters, {kind}, {size_mb:.1f} MB"
    if "tokenizer.json" in result["sha256"]:
        return line
    return line + "; no tokenizer.json: a run on token files knows none; put it beside the run and export again"
