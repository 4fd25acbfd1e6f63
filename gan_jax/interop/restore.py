"""Weights from elsewhere into a net's trees, by globs, with a report of what matched."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from gan_jax.errors import UserError

PyTree = Any


def replace(
    arrays: Mapping[str, np.ndarray],
    pattern: str,
    params: PyTree,
    stats: PyTree,
    key: str,
    source: str,
    kind: str = "",
) -> tuple[PyTree, PyTree, list[str]]:
    """(params, stats, report) with every leaf replaced whose name matches and which has a twin.

    Args:
      arrays: "params/a/kernel" and "stats/batch_stats/a/mean" → array.
      pattern: a glob over names inside the tree ("conv*", "*/kernel"), or several with "|" between
        them; the collection of statistics is not part of the name ("a/mean").
      params, stats: nested dicts of arrays, the net as initialised.
      key, source: named in errors and in the report.
      kind: what the source is known to be ("original generator"), for errors.

    Raises UserError when one of the globs matches nothing, or a matching array has another shape.
    """
    used, missing, left, wrong = [], [], [], []
    globs = [glob.strip() for glob in pattern.split("|")]
    article = "an" if kind[:1] in tuple("aeiou") else "a"
    told = f" (the file is of {article} {kind})" if kind else ""

    def visit(tree: PyTree, prefix: str, shown: str) -> PyTree:
        out = {}
        for name, leaf in tree.items():
            path, label = f"{prefix}/{name}", f"{shown}/{name}" if shown else name
            if isinstance(leaf, Mapping):
                # collections ("batch_stats") are not something a person thinks of
                inner = "" if prefix == "stats" else label
                out[name] = visit(leaf, path, inner)
                continue
            out[name] = leaf
            if not any(fnmatchcase(label, glob) for glob in globs):
                left.append(label)
            elif path not in arrays:
                missing.append(label)
            elif tuple(arrays[path].shape) != tuple(np.shape(leaf)):
                wrong.append(f"{label} is {tuple(arrays[path].shape)} there, {np.shape(leaf)} here")
            else:
                out[name] = np.asarray(arrays[path], np.asarray(leaf).dtype)
                used.append(label)
        return out

    params, stats = visit(params, "params", ""), visit(stats, "stats", "")
    if wrong:
        more = f" (and {len(wrong) - 5} more)" if len(wrong) > 5 else ""
        raise UserError(f"{key}: {source} has other shapes: {'; '.join(wrong[:5])}{more}{told}")
    for idle in (g for g in globs if not any(fnmatchcase(label, g) for label in used)):
        held = (k.split("/", 2 if k.startswith("stats/") else 1)[-1] for k in arrays)
        some = ", ".join(sorted(held)[:5])
        here = ", ".join(sorted(used + missing + left)[:3])
        raise UserError(
            f"{key}: {idle!r} matches nothing in {source}, which holds {some}, …; this net "
            f"has {here}, …{told}"
        )
    report = [f"{key}: {len(used)} arrays from {source}: {_some(used)}"]
    if missing:
        report.append(
            f"{key}: {len(missing)} match but are not there, left as initialised: {_some(missing)}"
        )
    if left:
        report.append(
            f"{key}: {len(left)} do not match {pattern!r}, left as initialised: {_some(left)}"
        )
    return params, stats, report


def _some(names: list[str], most: int = 6) -> str:
    more = f", … {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
