"""Trees of named arrays as `.npz`: what numpy alone can read, for use outside this library."""

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from gan_jax import npz
from gan_jax.errors import UserError
from gan_jax.files import reason, replacing

GROWTH = 100  # how many times longer than their file weights and statistics may be
DEEPEST = 32  # of nested dicts


def write_npz(path: str | os.PathLike[str], tree: Mapping[str, Any]) -> None:
    """Writes nested dicts of arrays, flattened to names like `params/conv_1/kernel`.

    The file appears whole or not at all, and the same arrays give the same bytes. Empty dicts leave
    no trace. bfloat16, which numpy's format cannot name, is written as float32 (exact).

    Raises:
        ValueError: a key that is empty or contains "/", or a leaf that is no array of numbers.
    """
    arrays = _flatten(tree)
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, array in arrays.items():
            # Dated 1980: the clock would make equal trees into different files.
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


def read_npz(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads what `write_npz` wrote: nested dicts of arrays. Never unpickles.

    Raises:
        UserError: no such file, not an npz file, damaged, or holding Python objects.
    """
    path = Path(path)
    try:
        with npz.opened(path, GROWTH) as stored:
            arrays = {name: stored.read(name) for name in stored.names}
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist; give the path of an .npz file") from error
    except npz.NpzError as error:
        raise UserError(
            f"{path} is not a readable .npz file of arrays ({reason(error)})"
        ) from error
    tree: dict[str, Any] = {}
    for name, array in arrays.items():
        *folders, leaf = name.split("/")
        if len(folders) > DEEPEST:
            raise UserError(f"{path} holds arrays nested more than {DEEPEST} times")
        branch = tree
        for folder in folders:
            branch = branch.setdefault(folder, {})
            if not isinstance(branch, dict):
                raise UserError(f"{path} holds both an array {folder} and arrays inside it")
        if leaf in branch:
            raise UserError(f"{path} holds both an array {leaf} and arrays inside it")
        branch[leaf] = array
    return tree


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, np.ndarray]:
    arrays = {}
    for key, value in tree.items():
        if not isinstance(key, str) or not key or "/" in key:
            raise ValueError(f"{prefix}{key!r}: keys are non-empty strings without '/'")
        if isinstance(value, Mapping):
            arrays |= _flatten(value, f"{prefix}{key}/")
            continue
        array = np.asarray(value)
        if array.dtype == ml_dtypes.bfloat16:
            array = array.astype(np.float32)
        if array.dtype.kind not in "biufcSU":
            raise ValueError(f"{prefix}{key} is no array of numbers: {array.dtype}")
        arrays[prefix + key] = array
    return arrays
