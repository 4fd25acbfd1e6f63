"""TorchScript archives, written opcode by opcode: Python's pickler would import what it names."""

import math
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np


def text(value: str) -> bytes:
    data = value.encode()
    return pickle.BINUNICODE + struct.pack("<I", len(data)) + data


def whole(number: int) -> bytes:
    return pickle.BININT + struct.pack("<i", number)


def sizes(numbers) -> bytes:
    return pickle.MARK + b"".join(map(whole, numbers)) + pickle.TUPLE


def tensor(key: int, array: np.ndarray) -> bytes:
    """A tensor over the whole of float storage `key`."""
    strides = [math.prod(array.shape[axis + 1 :]) for axis in range(array.ndim)]
    storage = [text("storage"), b"ctorch\nFloatStorage\n", text(str(key)), text("cpu")]
    hooks = b"ccollections\nOrderedDict\n" + pickle.EMPTY_TUPLE + pickle.REDUCE
    return b"".join([
        b"ctorch._utils\n_rebuild_tensor_v2\n",
        *(pickle.MARK, pickle.MARK, *storage, whole(array.size), pickle.TUPLE, pickle.BINPERSID),
        *(whole(0), sizes(array.shape), sizes(strides), pickle.NEWFALSE, hooks),
        *(pickle.TUPLE, pickle.REDUCE),
    ])  # fmt: skip


def module(kind: str, attributes: dict[str, bytes]) -> bytes:
    """An object of a class of the archive's code, as torch.jit.save pickles it."""
    state = {"training": pickle.NEWFALSE, "_is_full_backward_hook": pickle.NONE} | attributes
    made = f"c__torch__{kind}\n".encode() + pickle.EMPTY_TUPLE + pickle.NEWOBJ
    items = b"".join(text(name) + value for name, value in state.items())
    return made + pickle.EMPTY_DICT + pickle.MARK + items + pickle.SETITEMS + pickle.BUILD


def program(body: bytes) -> bytes:
    return pickle.PROTO + b"\x02" + body + pickle.STOP


def archive(path, structure: bytes, storages=(), code: bool = True) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for key, array in enumerate(storages):
            file.writestr(f"net/data/{key}", np.ascontiguousarray(array, "<f4").tobytes())
        file.writestr("net/data.pkl", structure)
        if code:
            file.writestr("net/code/__torch__.py", "class Net(Module):\n")
        file.writestr("net/version", "3\n")
    return path


def module_archive(path, tensors: dict[str, np.ndarray]) -> Path:
    """An archive of nested modules with these dotted names."""
    storages: list[np.ndarray] = []

    def build(tree: dict) -> bytes:
        attributes = {}
        for name, value in tree.items():
            if isinstance(value, dict):
                attributes[name] = build(value)
            else:
                attributes[name] = tensor(len(storages), value)
                storages.append(value)
        return module(".layers\nLayer", attributes)

    tree: dict = {}
    for name, array in tensors.items():
        *folders, leaf = name.split(".")
        branch = tree
        for folder in folders:
            branch = branch.setdefault(folder, {})
        branch[leaf] = array
    structure = program(build(tree))
    return archive(path, structure, storages)
