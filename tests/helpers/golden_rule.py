"""Golden files: numbers made by the original implementations, and the rule their weights come from.

Each `.npz` holds a JSON string `meta` and arrays `in/...`, `out/...`. Weights are not stored: every
tensor is a function of its name and shape.
"""

import json
import zlib
from pathlib import Path

import jax
import numpy as np

GOLDEN = Path(__file__).parents[1] / "golden"


def load(path: str) -> tuple[dict, dict[str, np.ndarray]]:
    """Reads `tests/golden/<path>.npz` → (meta, arrays by name)."""
    with np.load(GOLDEN / f"{path}.npz") as stored:
        arrays = {name: stored[name] for name in stored.files}
    return json.loads(str(arrays.pop("meta"))), arrays


def rule(name: str, shape: tuple[int, ...], scale: float | str) -> np.ndarray:
    """The tensor called `name`, in PyTorch's shape; `scale` multiplies matrices, or is 'fan_in'."""
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    random = np.random.RandomState(zlib.crc32(name.encode()) & 0xFFFFFFFF)
    r = np.asarray(random.randn(*shape)).astype(np.float32)
    if name.endswith("running_var"):
        return (0.5 + np.abs(r) * np.float32(0.1)).astype(np.float32)
    if r.ndim >= 2:
        return r * np.float32(scale if scale != "fan_in" else 1 / np.sqrt(np.prod(shape[1:])))
    return (1 if name.endswith("weight") else 0) + r * np.float32(0.1)


def weights(meta: dict, key: str) -> dict[str, np.ndarray]:
    """The state dict that `meta[key]` lists ([name, shape] pairs), filled by the rule."""
    scale = meta["weight_rule"]["matrix_scale"]
    scale = "fan_in" if scale == "1/sqrt(prod(shape[1:]))" else float(scale)
    return {name: rule(name, tuple(shape), scale) for name, shape in meta[key]}


def gradient(old, new, b1: float):
    """The gradient of a step from the nets before and after it: Adam's first moment moves by
    (1 − b1) of it."""
    return jax.tree.map(
        lambda n, o: (n.astype(np.float64) - b1 * o) / (1 - b1),
        new.opt["moments"].mu,
        old.opt["moments"].mu,
    )


def compare(found, golden, key, skip, rtol, atol_of_global) -> None:
    """Norms by tensor name against `golden[key]`, those in `skip` left out; the absolute tolerance
    is a share of the norm over all tensors."""
    names, values = golden[f"{key}_names"], golden[key]
    atol = atol_of_global * float(np.sqrt(np.sum(values**2)))
    assert len(names)
    for name, value in zip(names, values, strict=True):
        if name not in skip:
            np.testing.assert_allclose(
                found[str(name)], value, rtol=rtol, atol=atol, err_msg=f"{key} {name}"
            )
