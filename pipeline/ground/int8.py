"""Weights in a quarter of their bytes: int8, symmetric, one scale for each output channel.

Layout of `model.int8.safetensors`: every matrix NAME [out, in] of the fp32 file is int8 here, under the same name, and
NAME_scale [out] beside it is fp32; w ≈ NAME_scale[:, None] * NAME. Vectors (the norms) stay fp32. The embedding, which
is the head too, has a scale for each token. Nothing but these is in the file.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Num

SCALE = "_scale"
LARGEST = 127  # -128 is left out: the range is symmetric

Tensors = dict[str, Num[np.ndarray, "..."]]


def quantise(tensors: Mapping[str, Num[np.ndarray, "..."]]) -> Tensors:
    """fp32 tensors -> int8 matrices with their scales. The error of a weight is at most half its row's scale.

    Raises:
        ValueError: a weight is not finite, which no integer says.
    """
    found: Tensors = {}
    for name, tensor in tensors.items():
        if tensor.ndim != 2:
            found[name] = tensor
            continue
        if not np.isfinite(tensor).all():
            raise ValueError(f"{name}: a weight is not finite")
        scale = (np.abs(tensor).max(axis=1) / LARGEST).astype(np.float32)
        scale[scale == 0] = 1.0  # a row of zeros, or so near them that no fp32 scale is smaller
        found[name] = np.clip(np.rint(tensor / scale[:, None]), -LARGEST, LARGEST).astype(np.int8)
        found[name + SCALE] = scale
    return found


def dequantise(tensors: Mapping[str, Num[np.ndarray, "..."]]) -> Tensors:
    """The fp32 tensors that `quantise` was given, sorted by name, as near as int8 comes.

    Raises:
        ValueError: a tensor is not of the layout.
    """
    found: Tensors = {}
    for name, tensor in sorted(tensors.items()):
        if name.endswith(SCALE) and name.removesuffix(SCALE) in tensors:
            continue
        if tensor.dtype == np.float32 and tensor.ndim == 1:
            found[name] = tensor
            continue
        scale = tensors.get(name + SCALE)
        if tensor.dtype != np.int8 or tensor.ndim != 2:
            raise ValueError(f"{name}: {tensor.dtype} {tensor.shape} is neither an int8 matrix nor an fp32 vector")
        if scale is None or scale.dtype != np.float32 or scale.shape != tensor.shape[:1]:
            raise ValueError(f"{name}{SCALE}: missing, or not one fp32 number for each of {len(tensor)} rows")
        found[name] = tensor.astype(np.float32) * scale[:, None]
    return found
