"""Trained weights of MTCNN's three networks, from PyTorch's files or an `.npz`.

- A folder with pnet.pt, rnet.pt and onet.pt, the state dicts that facenet-pytorch ships
  (https://github.com/timesler/facenet-pytorch, facenet_pytorch/data).
- An `.npz` of arrays named network/layer/leaf, as `write_npz(path, read(folder))` makes it.

    PyTorch, in pnet.pt   here
    conv1.weight          pnet/conv1/kernel    [3, 3, 3, 10]: height, width, in, out
    conv1.bias            pnet/conv1/bias      [10]
    prelu1.weight         pnet/prelu1/slope    [10]
    dense4.weight (rnet)  rnet/dense4/kernel   [576, 128]: in, out

The layers are conv1 to conv3, conv4_1 (not a face, a face) and conv4_2 (offsets of x1, y1, x2, y2)
of pnet; conv1 to conv3, dense4, dense5_1 and dense5_2 of rnet; conv1 to conv4, dense5, dense6_1,
dense6_2 and dense6_3 (x of five points, then y) of onet; and a prelu<i> after each but the heads.
PyTorch's first dense layers read a map by column, row and channel, those here by row, column and
channel: their kernels are permuted.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from gan_jax.errors import UserError
from gan_jax.interop.formats import torch_file
from gan_jax.interop.formats.npz_file import read_npz
from gan_jax.interop.pytorch_gan import AXES_IN, AXES_OUT
from gan_jax.interop.trees import Tree, shown
from gan_jax.models import mtcnn

FILES = {name: f"{name}.pt" for name in ("pnet", "rnet", "onet")}
# the dense layers after a map [3, 3, C], by network
_BEHIND_MAP = {"rnet": "dense4", "onet": "dense5"}
_ACCEPTED = (
    f"accepted are a folder with {', '.join(FILES.values())} (facenet-pytorch's state dicts) and "
    "an .npz of arrays named pnet/conv1/kernel and so on"
)


def read(path: str | os.PathLike[str]) -> Tree:
    """The parameters {"pnet": …, "rnet": …, "onet": …} as `gan_jax.models.mtcnn` takes them.

    Float32 arrays; nothing in the files is executed.

    Raises:
        UserError: no such file or folder, one of another kind, damaged, or with a tensor that is
            absent, of another shape, or that the networks do not have.
    """
    path = Path(path)
    if os.path.isdir(path):
        absent = [file for file in FILES.values() if not (path / file).is_file()]
        if absent:
            raise UserError(f"{path}: the folder has no {', '.join(absent)}; {_ACCEPTED}")
        return {name: _of_torch(path / file, name) for name, file in FILES.items()}
    if not os.path.lexists(path):
        raise UserError(f"{path} does not exist; {_ACCEPTED}")
    if path.suffix.lower() != ".npz":
        raise UserError(f"{path} is a file of another kind; {_ACCEPTED}")
    tree = read_npz(path)
    for name in tree:
        if name not in FILES:
            raise UserError(f"{path} holds {name}, which is none of MTCNN's networks; {_ACCEPTED}")
    found = {}
    for name in FILES:
        layers = tree.get(name, {})
        tensors = {
            f"{name}/{layer}/{leaf}": array
            for layer, leaves in (layers.items() if isinstance(layers, dict) else ())
            for leaf, array in (leaves.items() if isinstance(leaves, dict) else ())
        }
        found[name] = _fitted(path, name, tensors, lambda *place: "/".join(place), torch=False)
    return found


def _of_torch(path: Path, name: str) -> Tree:
    """One network of a state dict."""
    params = _fitted(path, name, torch_file.state_dict(path), _torch_name, torch=True)
    if name in _BEHIND_MAP:
        layer = params[_BEHIND_MAP[name]]
        inputs, outputs = layer["kernel"].shape
        by_column = layer["kernel"].reshape(3, 3, inputs // 9, outputs)
        layer["kernel"] = np.ascontiguousarray(by_column.transpose(1, 0, 2, 3)).reshape(-1, outputs)
    return params


def _torch_name(name: str, layer: str, leaf: str) -> str:
    return f"{layer}.{'bias' if leaf == 'bias' else 'weight'}"


def _fitted(path: Path, name: str, tensors: Mapping[str, np.ndarray], named, torch: bool) -> Tree:
    """The tensors as the tree of the network `name`; UserError for the first that does not fit."""
    params: Tree = {}
    used = set()
    for layer, leaves in mtcnn.shapes()[name].items():
        for leaf, like in leaves.items():
            own = named(name, layer, leaf)
            used.add(own)
            kernel = torch and len(like.shape) in AXES_OUT
            shape = like.shape
            if kernel:
                shape = tuple(shape[axis] for axis in AXES_OUT[len(shape)])
            tensor = tensors.get(own)
            if tensor is None or tensor.shape != shape:
                what = "is absent from" if tensor is None else f"is {shown(tensor.shape)} in"
                raise UserError(f"tensor {own} {what} {path}, expected {shown(shape)} of {name}")
            if tensor.dtype.kind != "f":
                raise UserError(f"tensor {own} in {path} holds {tensor.dtype}, expected float32")
            if kernel:
                tensor = tensor.transpose(AXES_IN[tensor.ndim])
            params.setdefault(layer, {})[leaf] = np.ascontiguousarray(tensor, np.float32)
    spare = next((own for own in tensors if own not in used), None)
    if spare is not None:
        raise UserError(f"tensor {spare} in {path} is none of {name}'s; {_ACCEPTED}")
    return params
