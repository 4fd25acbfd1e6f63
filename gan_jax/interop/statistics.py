"""Statistics of a set of images as an npz: this project's, and those of other programs.

mu, sigma     mean and covariance of the 2048 features: what FID needs (pytorch-fid, TTUR, ADM)
mu_s, sigma_s the same of the spatial features: sFID (ADM's evaluator)
arr_0         the images themselves (ADM)

Ours have `meta` beside them, JSON that says how they were made, and further arrays named
mean/<network>/<tap>, cov/<network>/<tap> and features/<network>/<tap>.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from gan_jax import npz
from gan_jax.errors import UserError
from gan_jax.files import parse_json, reason
from gan_jax.interop.formats.npz_file import GROWTH, write_npz

CLASSIC = {  # names of other programs for moments: (network, tap)
    ("mu", "sigma"): ("inception", "features"),
    ("mu_s", "sigma_s"): ("inception", "spatial"),
}


def holds_statistics(path: str | os.PathLike[str]) -> bool:
    """Whether the file is an npz with moments or features in it."""
    names = npz.names(path)
    return "mu" in names or any(name.startswith(("mean/", "features/")) for name in names)


def write(
    path: str | os.PathLike[str],
    moments: dict[tuple[str, str], tuple[np.ndarray, np.ndarray]],
    features: dict[tuple[str, str], np.ndarray],
    meta: dict[str, Any],
) -> None:
    """Writes means [D] and covariances [D, D], and features [N, D], by (network, tap).

    Those of the 2015 Inception network get the names that other programs read.
    """
    tree: dict[str, Any] = {"meta": np.array(json.dumps(meta))}
    classic = {place: names for names, place in CLASSIC.items()}
    for place, (mean, cov) in moments.items():
        if place in classic:
            tree |= dict(zip(classic[place], (mean, cov), strict=True))
        else:
            network, tap = place
            tree.setdefault("mean", {}).setdefault(network, {})[tap] = mean
            tree.setdefault("cov", {}).setdefault(network, {})[tap] = cov
    for (network, tap), rows in features.items():
        tree.setdefault("features", {}).setdefault(network, {})[tap] = rows
    write_npz(path, tree)


def read(
    path: str | os.PathLike[str],
) -> tuple[dict[tuple[str, str], tuple[np.ndarray, np.ndarray]], dict, dict[str, Any]]:
    """(moments, features, meta) as `write` takes them; meta is {} in files of other programs.

    Raises:
        UserError: not a readable npz of plain arrays, or means and covariances that do not fit.
    """
    path = Path(path)
    moments, features, meta = {}, {}, {}
    try:
        with npz.opened(path, GROWTH) as stored:
            held = set(stored.names)
            if "meta" in held:
                meta = _meta(stored.read("meta"))
            pairs = {place: names for names, place in CLASSIC.items() if set(names) <= held}
            for name in held:
                kind, *rest = name.split("/")
                if kind == "mean" and len(rest) == 2:
                    pairs[rest[0], rest[1]] = (name, f"cov/{rest[0]}/{rest[1]}")
                elif kind == "features" and len(rest) == 2:
                    features[rest[0], rest[1]] = _real(stored.read(name), name)
            for place, names in pairs.items():
                mean, cov = (_real(stored.read(n), n).astype(np.float64, copy=False) for n in names)
                if mean.ndim != 1 or cov.shape != (mean.size, mean.size):
                    raise ValueError(f"{names[0]} {mean.shape} and {names[1]} {cov.shape}")
                moments[place] = mean, cov
    except KeyError as error:
        raise UserError(f"{path}: statistics of images without {error.args[0]}") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable statistics of images ({reason(error)})") from error
    return moments, features, meta


def _real(array: np.ndarray, name: str) -> np.ndarray:
    """The array. ValueError if it does not hold real numbers."""
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{name} holds {array.dtype}")
    return array


def _meta(array: np.ndarray) -> dict[str, Any]:
    """The JSON in an array of one text. ValueError where it is not what `write` is given."""
    if array.ndim or array.dtype.kind != "U":
        raise ValueError(f"its meta is {array.dtype} {list(array.shape)}")
    meta = parse_json(array.item())
    _check(meta)
    return meta


def _check(meta: Any) -> None:
    """ValueError where `meta` is not what `write` is given."""
    networks = meta.get("networks", {}) if isinstance(meta, dict) else None
    known = isinstance(networks, dict) and isinstance(meta.get("n_real", 0), int)
    words = ("network", "weights", "resize")
    if not known or not all(
        isinstance(found, dict) and all(isinstance(found.get(word), str) for word in words)
        for found in networks.values()
    ):
        raise ValueError(f"its meta is {str(meta)[:80]!r}")
