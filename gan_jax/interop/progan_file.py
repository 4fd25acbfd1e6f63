"""Network files of the original ProGAN, read without running what they hold.

A file is a pickle of (G, D, Gs); Gs is G with averaged weights. Each is an object whose state holds
its variables, and Python source that the original executes. Here that source is only text: as in
`numpy_pickle`, nothing in the file is run.
https://github.com/tkarras/progressive_growing_of_gans (tfutil.py)
"""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gan_jax.errors import UserError
from gan_jax.interop.formats import numpy_pickle
from gan_jax.interop.progan import identify, to_trees
from gan_jax.interop.trees import Tree, named_leaves

_ACCEPTED = (
    "accepted are (G, D, Gs) as tkarras/progressive_growing_of_gans saves them in "
    "network-snapshot-….pkl"
)
# ours: the original's name and default of an option, and whether the discriminator has it too
_OPTIONS = {
    "fmap_base": ("fmap_base", 8192, True),
    "fmap_decay": ("fmap_decay", 1.0, True),
    "fmap_max": ("fmap_max", 512, True),
    "equalized": ("use_wscale", True, True),
    "pixel_norm": ("use_pixelnorm", True, False),
    "normalize_latents": ("normalize_latents", True, False),
    "leaky": ("use_leakyrelu", True, False),
    "dtype": ("dtype", "float32", False),
}


class Networks(NamedTuple):
    """What a network file holds: parameters, and the arguments of `models.progan.build`."""

    gen: Tree
    disc: Tree
    gen_ema: Tree
    resolution: int
    channels: int
    classes: int
    model: dict[str, Any]  # every key of models.progan.defaults()


def networks(path: str | os.PathLike[str]) -> Networks:
    """Reads a network file of the original (network-snapshot-….pkl, karras2018iclr-….pkl).

    Nothing in the file is ever executed. An option that it does not name has the original's
    default. `pixelnorm_epsilon`, 1e-4 in its runs in half precision, has no counterpart here.

    Raises:
        UserError: no such file, not a pickle, damaged, or anything other than networks of ProGAN.
    """
    path = Path(path)
    states = dict(zip(("G", "D", "Gs"), _read(path), strict=True))
    trees = {}
    for name, state in states.items():
        try:
            trees[name] = to_trees(state.variables)
        except UserError as error:
            raise UserError(f"{path}: {name}: {error}") from None
    gen, disc = trees["Gs"], trees["D"]
    for name, first in (("G", "block4_dense"), ("D", "block4_dense1"), ("Gs", "block4_dense")):
        if first not in trees[name]:
            raise UserError(f"{path}: {name} is the other kind of network; {_ACCEPTED}")
    resolutions = {identify(state.variables)[1] for state in states.values()}
    classes = disc["block4_dense1"]["bias"].size - 1
    colours = {tree["to_rgb4"]["bias"].size for tree in (trees["G"], gen)}
    colours.add(disc["from_rgb4"]["kernel"].shape[2])
    z_dim = len(gen["block4_dense"]["kernel"]) - classes
    if len(resolutions) > 1 or len(colours) > 1 or z_dim < 1:
        raise UserError(
            f"{path}: the networks differ in resolution, channels or labels; {_ACCEPTED}"
        )
    model = _options(path, states["Gs"].options, states["D"].options)
    return Networks(
        trees["G"], disc, gen, resolutions.pop(), colours.pop(), classes, {**model, "z_dim": z_dim}
    )


def differences(found: Networks, facts: Any, model: Mapping[str, Any]) -> list[str]:
    """What a config must say for these networks and does not, as "config.key=value".

    Args:
        facts: has `resolution` and `channels`.
        model: the section `model` of the config; group sizes below 0 are left to its preset.
    """
    wanted = {"data.resolution": (found.resolution, facts.resolution)}
    if found.channels != facts.channels:
        colours = {1: "grey", 3: "rgb"}
        wanted["data.channels"] = (colours.get(found.channels, found.channels), None)
    for name, value in found.model.items():
        given = model[name]
        left = (
            name in ("dtype", "conditional")
            or (name == "z_dim" and not given)
            or (name == "minibatch_stddev" and given < 0)
        )
        if not left:
            wanted[f"model.{name}"] = (value, given)
    return [f"config.{key}={there}" for key, (there, here) in wanted.items() if there != here]


def net(path: str | os.PathLike[str], name: str) -> dict[str, np.ndarray]:
    """One network of a file by the names of its leaves, "params/block4_conv/kernel".

    Args:
        name: "gen", which gives the averaged weights, or "disc".

    Raises:
        UserError: as `networks`, or another name.
    """
    held = {"gen": "gen_ema", "disc": "disc"}
    if name not in held:
        raise UserError(f"{path} has no net {name!r}; accepted are gen and disc")
    return named_leaves(getattr(networks(path), held[name]), {})


def _options(path: Path, gen: Mapping[str, Any], disc: Mapping[str, Any]) -> dict[str, Any]:
    """The section config.model of both networks' options."""
    model: dict[str, Any] = {"conditional": True}
    model["minibatch_stddev"] = _option(path, disc, "mbstd_group_size", 4)
    model["fused_scale"] = _option(path, disc, "fused_scale", True)  # G is the same either way
    for ours, (name, default, shared) in _OPTIONS.items():
        model[ours] = _option(path, gen, name, default)
        if shared and model[ours] != _option(path, disc, name, default):
            raise UserError(f"{path}: {name} of G and D differ, which no network here can have")
    return model


def _option(path: Path, options: Mapping[str, Any], name: str, default: Any) -> Any:
    value = options.get(name, default)
    numbers = value.numbers if isinstance(value, numpy_pickle.Array) else None
    value = numbers.item() if numbers is not None and numbers.ndim == 0 else value
    accepted = (int, float, bool) if type(default) is not str else (str,)
    if type(value) not in accepted or (type(value) is float and not math.isfinite(value)):
        raise UserError(f"{path}: the option {name} of a network is no {type(default).__name__}")
    return type(default)(value)


class _State(NamedTuple):
    """One network: its variables by name and the options that it was built with."""

    variables: dict[str, np.ndarray]
    options: dict[str, Any]


class _Array(numpy_pickle.Array):
    """An array, also as Python 2 wrote it: with its bytes as text, which is read as Latin-1."""

    def __setstate__(self, state: Any) -> None:
        *rest, raw = state
        super().__setstate__((*rest, raw.encode("latin1") if type(raw) is str else raw))


def _reconstruct(kind: Any, shape: Any, code: Any) -> _Array:
    numpy_pickle.reconstruct(kind, shape, b"b" if code == "b" else code)
    return _Array()


def _scalar(dtype: Any, raw: Any) -> _Array:
    raw = raw.encode("latin1") if type(raw) is str else raw
    return _Array(numpy_pickle.numbers_of(raw, dtype, (), "C"))


class _Network(numpy_pickle.Inert):
    """Represents the original's class, since a pickle can make instances of a class only.

    The class cannot be altered: setting its state would call the method below without an instance.
    """

    state: dict | None = None

    def __setstate__(self, state: Any) -> None:
        if type(state) is not dict or self.state is not None:
            raise ValueError("the state of a network is not what the original writes")
        self.state = state


_ALLOWED: dict[tuple[str, str], Any] = {
    ("tfutil", "Network"): _Network,
    ("network", "Network"): _Network,  # of the Theano version
    **{
        (f"numpy.{core}.multiarray", name): numpy_pickle.Function(function)
        for core in ("core", "_core")
        for name, function in (("_reconstruct", _reconstruct), ("scalar", _scalar))
    },
}


class _Unpickler(numpy_pickle.Unpickler):
    def find(self, module: str, name: str) -> Any:
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        try:
            return super().find(module, name)
        except numpy_pickle.Refused:
            raise numpy_pickle.Refused(
                f"asks to run {module}.{name}, which no network of ProGAN needs"
            ) from None


def _read(path: Path) -> list[_State]:
    """The states of (G, D, Gs)."""

    def states(content: Any) -> list[_State]:
        if type(content) is not tuple or len(content) != 3:
            raise numpy_pickle.Refused(f"holds a {_kind(content)} and not three networks")
        return [_state(network) for network in content]

    return numpy_pickle.load(path, _Unpickler, states, _ACCEPTED)


def _state(network: Any) -> _State:
    state = network.state if type(network) is _Network else None
    if state is None:
        raise numpy_pickle.Refused(f"holds a {_kind(network)} in place of a network")
    if "build_func_spec" in state:
        raise numpy_pickle.Refused("holds networks of the original's Theano version")
    variables, options = state.get("variables"), state.get("static_kwargs")
    version = state.get("version")
    if type(version) is not int or version != 2 or type(options) is not dict:
        raise numpy_pickle.Refused("holds a network of another version than 2")
    if type(variables) is not list:
        raise numpy_pickle.Refused("holds a network without variables")
    found = {}
    for pair in variables:
        name, array = pair if type(pair) is tuple and len(pair) == 2 else (None, None)
        if type(name) is not str or not isinstance(array, numpy_pickle.Array):
            raise numpy_pickle.Refused("holds a variable that is no name with an array")
        if array.numbers is None or array.numbers.dtype.kind not in "fiu":
            raise numpy_pickle.Refused(f"holds no real numbers in the variable {name!r}")
        found[name] = array.numbers
    return _State(found, options)


def _kind(value: Any) -> str:
    names = {_Network: "network", _Array: "bare array"}
    return names.get(type(value)) or numpy_pickle.kind_of(value)
