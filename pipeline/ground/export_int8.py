"""A run as int8 weights in the layout of `int8.py`, with what that costs in loss; and the way back to fp32."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config import BadInput, RunFailed
from pipeline.ground import int8
from pipeline.ground.arguments import Step, finite
from pipeline.ground.export_folder import (
    BESIDE,
    FP32,
    INT8,
    MANIFEST,
    about,
    beside,
    digests,
    put,
    require_replaceable,
    to_json,
)
from pipeline.ground.run_directory import RunDirectory, TrainedModel, Weights, open_run
from pipeline.lm import qwen3

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_LARGEST_JSON = 1 << 20  # bytes


def export_int8(
    run_dir: Path | str, out: Path | str, step: Step = None, corpus_path: str | None = None
) -> dict[str, Any]:
    """Writes the weights of `step` (default: the newest sealed) as int8 to the folder `out`: all of it, or nothing.

    Returns:
        as `export.export`, and loss: what `measure` returns.

    Raises:
        BadInput: no run, no such step, no text to measure on, or `out` cannot be written or holds something else.
        RunFailed: the checkpoint is damaged or not finite, or the disk is full.
    """
    require_replaceable(Path(out))
    model = open_run(run_dir).model(step)
    files, manifest = contents(model.run, model.weights, model.run.tokenizer(model.weights.vocab_size))
    manifest["loss"] = measure(model, files[INT8], corpus_path)
    put(Path(out), files | {MANIFEST: to_json(manifest)})
    return manifest | {"damaged": model.weights.damaged}


def contents(
    run: RunDirectory, weights: Weights, tokenizer: "Tokenizer | None"
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The files of an int8 export and what its manifest says; `loss` there is null: not measured.

    Equal weights give equal bytes.
    """
    from safetensors.numpy import save

    try:
        found = int8.quantise(qwen3.tensors(weights.params))
    except ValueError as error:
        raise RunFailed(f"{run.path}: step {weights.step}: {error}; export another --step") from error
    files = {INT8: save(found, {"format": "pt"})} | beside(run, weights, tokenizer)
    return files, about(run, weights, files) | {"loss": None}


def measure(model: TrainedModel, weights: bytes, corpus_path: str | None = None) -> dict[str, Any]:
    """The loss of a model on all held-out windows, as it is and with the int8 `weights` in its place, paired.

    Returns:
        fp32 and int8 [nats per token]; difference (int8 less fp32), with difference_low and difference_high (95 %; null
        where there is only one window); windows; corpus; precision of the arithmetic. What is not finite is null.
    """
    from safetensors.numpy import load

    from pipeline.corpus.uncertainty import mean_interval
    from pipeline.ground.token_losses import window_losses

    config = model.run.config
    windows = model.corpus(corpus_path).held_out_windows(config.model.context)
    stored = int8.dequantise(load(weights))
    rounded = qwen3.params(config.model, stored.__getitem__)
    before, after = (window_losses(config, params, windows) for params in (model.weights.params, rounded))
    interval = mean_interval(after - before)
    figures = {
        "fp32": float(before.mean(dtype="float64")),
        "int8": float(after.mean(dtype="float64")),
        "difference": float((after - before).mean(dtype="float64")),
        "difference_low": interval.low if interval else None,
        "difference_high": interval.high if interval else None,
        "windows": len(windows),
        "corpus": corpus_path or config.corpus.path or config.corpus.source,
        "precision": config.train.precision,
    }
    return finite(figures)  # export.json holds them


def line(loss: dict[str, Any]) -> str:
    if loss["difference"] is None:
        return f"loss on {loss['windows']:,} held-out windows: not finite"
    low, high = loss["difference_low"], loss["difference_high"]
    interval = "" if low is None else f" [{low:+.4f}, {high:+.4f}]"
    return (
        f"loss on {loss['windows']:,} held-out windows: fp32 {loss['fp32']:.4f}, int8 {loss['int8']:.4f}, difference "
        f"{loss['difference']:+.4f}{interval} nats per token"
    )


def write_back(folder: Path | str, out: Path | str) -> dict[str, Any]:
    """Writes the int8 export in `folder` as fp32, which transformers opens, to the folder `out`.

    Returns:
        what the new manifest says: that of `folder` with other hashes, `loss` included.

    Raises:
        BadInput: `folder` is no whole int8 export, or `out` cannot be written or holds something else.
        RunFailed: the disk is full.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load, save

    from pipeline.config.learning import Model

    folder, out = Path(folder), Path(out)
    require_replaceable(out)
    if folder.resolve() == out.resolve():
        raise BadInput(f"--out: {out}: is the int8 export itself; give another folder")
    manifest = _read_json(folder / MANIFEST)
    hashes = manifest.get("sha256")
    if not isinstance(hashes, dict):
        raise _refused(folder / MANIFEST, "has no sha256 of its files")
    files = {name: _read(folder / name) for name in (INT8, *BESIDE) if (folder / name).exists()}
    found = digests(files)
    for name in sorted(found.keys() | hashes.keys()):
        if found.get(name) != hashes.get(name):
            raise _refused(folder / str(name), f"is not what {MANIFEST} says")
    try:
        shape, vocab_size, _ = qwen3.read_config(_read_json(folder / "config.json"))
        asked = qwen3.tensor_shapes(Model(**shape), vocab_size)
        tensors = int8.dequantise(load(files.pop(INT8)))
    except (KeyError, ValueError, SafetensorError) as error:
        raise _refused(folder, str(error)) from error
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    if wrong := [name for name in asked.keys() | shapes.keys() if asked.get(name) != shapes.get(name)]:
        raise _refused(folder / INT8, f"{min(wrong)} is not of the model in config.json")
    files = {FP32: save(tensors, {"format": "pt"})} | files
    manifest |= {"sha256": digests(files)}
    put(out, files | {MANIFEST: to_json(manifest)})
    return manifest


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(_read(path, _LARGEST_JSON))
    except (ValueError, RecursionError) as error:
        raise _refused(path, f"not JSON ({error})") from error
    if not isinstance(found, dict):
        raise _refused(path, "not a JSON object")
    return found


def _read(path: Path, most: int = -1) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(most)
    except OSError as error:
        raise _refused(path, error.strerror or str(error)) from error


def _refused(path: Path, reason: str) -> BadInput:
    return BadInput(f"{path}: {reason}; copy the export again")
