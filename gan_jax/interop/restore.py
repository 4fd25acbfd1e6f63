"""Weights from elsewhere into a net's trees, by globs, with a report of what matched."""

from collections.abc import Mapping
from dataclasses import dataclass, field
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
    """(params, stats, report), with each matching leaf replaced by the array of its name.

    Args:
      arrays: "params/a/kernel" and "stats/batch_stats/a/mean" → array.
      pattern: a glob over names inside the tree ("conv*", "*/kernel"), or several with "|" between
        them; the collection of statistics is not part of the name ("a/mean").
      params, stats: nested dicts of arrays, the net as initialised.
      key, source: named in errors and in the report.
      kind: what the source is known to be ("original generator"), for errors.

    Raises UserError when one of the globs matches nothing, or a matching array has another shape.
    """
    globs = [glob.strip() for glob in pattern.split("|")]
    matches = _Matches()
    params = _replaced(params, "params", "", arrays, globs, matches)
    stats = _replaced(stats, "stats", "", arrays, globs, matches)
    article = "an" if kind[:1] in tuple("aeiou") else "a"
    told = f" (the file is of {article} {kind})" if kind else ""
    if matches.wrong:
        more = f" (and {len(matches.wrong) - 5} more)" if len(matches.wrong) > 5 else ""
        wrong = "; ".join(matches.wrong[:5])
        raise UserError(f"{key}: {source} has other shapes: {wrong}{more}{told}")
    for glob in globs:
        if not any(fnmatchcase(label, glob) for label in matches.used):
            raise UserError(f"{key}: {_idle(glob, source, arrays, matches)}{told}")
    return params, stats, _report(matches, pattern, key, source)


@dataclass
class _Matches:
    """Names of leaves by what was done with them; `wrong` ones with both shapes."""

    used: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)  # in the source
    left: list[str] = field(default_factory=list)  # because no glob matches
    wrong: list[str] = field(default_factory=list)


def _replaced(
    tree: PyTree,
    prefix: str,
    shown: str,
    arrays: Mapping[str, np.ndarray],
    globs: list[str],
    matches: _Matches,
) -> PyTree:
    """The tree with its matching leaves replaced. `prefix` is its name in `arrays`, `shown` the
    name that globs are compared with."""
    out = {}
    for name, leaf in tree.items():
        path, label = f"{prefix}/{name}", f"{shown}/{name}" if shown else name
        if isinstance(leaf, Mapping):
            # collections ("batch_stats") are left out of the names that users write
            inner = "" if prefix == "stats" else label
            out[name] = _replaced(leaf, path, inner, arrays, globs, matches)
            continue
        out[name] = leaf
        if not any(fnmatchcase(label, glob) for glob in globs):
            matches.left.append(label)
        elif path not in arrays:
            matches.missing.append(label)
        elif tuple(arrays[path].shape) != tuple(np.shape(leaf)):
            there, here = tuple(arrays[path].shape), np.shape(leaf)
            matches.wrong.append(f"{label} is {there} there, {here} here")
        else:
            out[name] = np.asarray(arrays[path], np.asarray(leaf).dtype)
            matches.used.append(label)
    return out


def _idle(glob: str, source: str, arrays: Mapping[str, np.ndarray], matches: _Matches) -> str:
    """The message for a glob that matches nothing, with some names of both sides."""
    held = (k.split("/", 2 if k.startswith("stats/") else 1)[-1] for k in arrays)
    some = ", ".join(sorted(held)[:5])
    here = ", ".join(sorted(matches.used + matches.missing + matches.left)[:3])
    return f"{glob!r} matches nothing in {source}, which holds {some}, …; this net has {here}, …"


def _report(matches: _Matches, pattern: str, key: str, source: str) -> list[str]:
    """A line on the arrays used, and one for each group that was not, if it is not empty."""
    used, missing, left = matches.used, matches.missing, matches.left
    report = [f"{key}: {len(used)} arrays from {source}: {_some(used)}"]
    if missing:
        report.append(
            f"{key}: {len(missing)} match but are not there, left as initialised: {_some(missing)}"
        )
    if left:
        report.append(
            f"{key}: {len(left)} do not match {pattern!r}, left as initialised: {_some(left)}"
        )
    return report


def _some(names: list[str], most: int = 6) -> str:
    more = f", … {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
