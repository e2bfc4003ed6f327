"""Folders of open weights, made without transformers."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors.numpy import save_file

from pipeline.config.learning import Model
from pipeline.corpus.tokenizer import char_tokenizer
from pipeline.lm import qwen3
from pipeline.lm.model import Params, init_params

# No two sizes alike and nothing at its default, so that a mix-up shows.
SHAPE = Model(
    depth=2, width=40, heads=6, kv_heads=2, head_dim=16, hidden=72, context=64, rope_theta=3000.0, norm_eps=1e-4
)
CHARACTERS = sorted(set("abcdefghijklmnopqrstuvwxyz .,;\n"))
ROWS = len(CHARACTERS) + 5  # an embedding with rows to spare, as open weights have


def noisy_params(shape: Model = SHAPE, rows: int = ROWS) -> Params:
    """Random everywhere, norms and output projections too."""
    random = np.random.default_rng(0)
    return jax.tree.map(
        lambda p: np.asarray(p) + 0.1 * random.standard_normal(p.shape, np.float32), init_params(shape, rows, 0)
    )


def write_folder(
    folder: Path, changed: Mapping[str, Any] = {}, without: str = "", extra: Mapping[str, np.ndarray] = {}
) -> Path:
    """A folder that opens; or one that should not, by the keys of config.json `changed` and the tensors left out."""
    folder.mkdir(parents=True)
    tensors = {name: tensor for name, tensor in qwen3.tensors(noisy_params()).items() if name != without}
    save_file(tensors | dict(extra), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(qwen3.config(SHAPE, ROWS) | dict(changed)))
    char_tokenizer(set(CHARACTERS)).save(str(folder / "tokenizer.json"))
    return folder
