"""Variables of the original WarpGAN ↔ this library's parameter trees.

https://github.com/seasonSH/WarpGAN saves its trainable variables as a TensorFlow checkpoint, and
begins from one of a classifier of identities whose trunk has the discriminator's names. Layouts are
the same: [h, w, in, out], [in, out], dense layers after maps in the order row, column, channel.

    Encoder/ContentEncoder/conv0/weights                  gen   content_encoder/conv0/kernel
    Encoder/ContentEncoder/res0_1/InstanceNorm/gamma      gen   content_encoder/res0/norm1/scale
    Decoder/WarpController/ldmark_mean                    gen   warp_controller/point_mean
    Discriminator/Bottleneck/biases                       disc  bottleneck/bias

Everything else, such as Adam's slots and counts of steps, is left out.
"""

import math
import os
import re
from collections.abc import Mapping

import numpy as np

from gan_jax.errors import UserError
from gan_jax.interop.formats import tf_checkpoint
from gan_jax.interop.formats.numpy_pickle import listed

TRUNK = "identity classifier trunk"
# net, our module, the original's; # is a number. A norm belongs to the layer before it.
_MODULES = (
    ("gen", "style_encoder/conv#", "Encoder/StyleEncoder/conv#"),
    ("gen", "style_encoder/code", "Encoder/StyleEncoder/fc1"),
    ("gen", "content_encoder/conv#", "Encoder/ContentEncoder/conv#"),
    ("gen", "content_encoder/res#/conv#", "Encoder/ContentEncoder/res#_#"),
    ("gen", "style_controller/fc0", "Decoder/StyleController/fc2"),
    ("gen", "style_controller/fc1", "Decoder/StyleController/fc3"),
    ("gen", "style_controller/scale", "Decoder/StyleController/fc4"),
    ("gen", "style_controller/shift", "Decoder/StyleController/fc5"),
    ("gen", "decoder/res#/conv#", "Decoder/Decoder/res#_#"),
    ("gen", "decoder/conv0", "Decoder/Decoder/deconv1_1"),
    ("gen", "decoder/conv1", "Decoder/Decoder/deconv2_1"),
    ("gen", "decoder/image", "Decoder/Decoder/conv_image"),
    ("gen", "warp_controller/fc", "Decoder/WarpController/fc1"),
    ("gen", "warp_controller/points", "Decoder/WarpController/fc_ldmark"),
    ("gen", "warp_controller/displacements", "Decoder/WarpController/fc_diff"),
    ("disc", "conv#", "Discriminator/conv#"),
    ("disc", "bottleneck", "Discriminator/Bottleneck"),
    ("disc", "patch", "Discriminator/patch5_logits"),
    ("disc", "identity", "Discriminator/Logits"),
)
_MEAN = ("warp_controller/point_mean", "Decoder/WarpController/ldmark_mean")
_LEAVES = {"kernel": "weights", "bias": "biases"}
_NORM_LEAVES = {"scale": "gamma", "bias": "beta"}
_FIRST = "Discriminator/conv1/weights"
_IDENTITIES = "Discriminator/Logits/biases"
_PATCHES = "Discriminator/patch5_logits/weights"
_PIXELS = "Decoder/WarpController/fc1/weights"  # a row for each number of the content code
_CODE = "Encoder/ContentEncoder/conv2/weights"

Shapes = Mapping[str, tuple[int, ...]]


def ours(name: str) -> tuple[str, str] | None:
    """(net, path) of one of the original's variables: ("disc", "conv1/kernel"). None for others."""
    if name == _MEAN[1]:
        return "gen", _MEAN[0]
    module, _, leaf = name.rpartition("/")
    layer = re.sub("/(InstanceNorm|LayerNorm)$", "", module)
    leaves = _LEAVES if layer == module else _NORM_LEAVES
    for net, here, there in _MODULES:
        path = _filled(layer, there, here)
        if path and leaf in leaves.values():
            if layer != module:
                path = re.sub("(conv|fc)([0-9]*)$", r"norm\2", path)
            return net, f"{path}/{next(k for k, v in leaves.items() if v == leaf)}"
    return None


def original(net: str, path: str) -> str | None:
    """The inverse of `ours`. None for a parameter that the original does not have."""
    if (net, path) == ("gen", _MEAN[0]):
        return _MEAN[1]
    module, _, leaf = path.rpartition("/")
    layers, leaves, norm = [module], _LEAVES, ""
    if re.search("norm[0-9]*$", module):
        kind = "InstanceNorm" if module.startswith("content_encoder") else "LayerNorm"
        layers = [re.sub("norm([0-9]*)$", rf"{layer}\1", module) for layer in ("conv", "fc")]
        leaves, norm = _NORM_LEAVES, f"/{kind}"
    for layer in layers:
        for own, here, there in _MODULES:
            name = _filled(layer, here, there)
            if own == net and name and leaf in leaves:
                return f"{name}{norm}/{leaves[leaf]}"
    return None


def identify(shapes: Shapes) -> str:
    """What variables with these shapes are of: "WarpGAN…", with its sizes, TRUNK, or "".

    The class heads of a TRUNK are not WarpGAN's, whatever they are called.
    """
    nets = {found[0] for found in map(ours, shapes) if found}
    if "gen" not in nets and _PATCHES not in shapes:
        return TRUNK if _FIRST in shapes else ""
    found = []
    numbers, code = shapes.get(_PIXELS, ()), shapes.get(_CODE, ())
    if len(numbers) == 2 and len(code) == 4 and code[3]:
        side = 4 * math.isqrt(numbers[0] // code[3])
        found.append(f"warp_head and disc_head 'flat' at {side} px")
    if count := identities(shapes):
        found.append(f"{count} identities")
    return "WarpGAN" + (f" with {' and '.join(found)}" if found else "")


def identities(shapes: Shapes) -> int:
    """How many identities a WarpGAN knows; 0 for other variables."""
    head = shapes.get(_IDENTITIES, ())
    return head[0] // 3 if len(head) == 1 and _PATCHES in shapes else 0


def convert(arrays: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """{"gen": arrays, "disc": arrays} by path, "params/conv1/kernel", of the original's variables.

    Only what is there is given: the trunk of a classifier gives a "disc" without heads, and {} as
    "gen".

    Raises:
        UserError: they are not WarpGAN's variables.
    """
    kind = identify({name: np.shape(array) for name, array in arrays.items()})
    if not kind:
        raise UserError(f"no network of WarpGAN has the variables {_some(arrays)}: {_ACCEPTED}")
    out: dict[str, dict[str, np.ndarray]] = {"gen": {}, "disc": {}}
    for name, array in arrays.items():
        if found := _taken(name, kind):
            out[found[0]][f"params/{found[1]}"] = np.asarray(array)
    return out


def net(prefix: str | os.PathLike[str], name: str) -> dict[str, np.ndarray]:
    """The net "gen" or "disc" of a checkpoint, as `convert` gives it; nothing else is read.

    Raises:
        UserError: as `tf_checkpoint.read`, variables of something else, or no such net.
    """
    found = shapes(prefix)
    kind = identify(found)
    if not kind:
        raise UserError(f"{prefix} holds {_some(found)}: {_ACCEPTED}")
    paths = {variable: _taken(variable, kind) for variable in found}
    paths = {variable: path[1] for variable, path in paths.items() if path and path[0] == name}
    if not paths:
        raise UserError(f"{prefix} ({kind}) has no net {name!r}")
    arrays = tf_checkpoint.read(prefix, lambda variable: variable in paths)
    return {f"params/{paths[variable]}": array for variable, array in arrays.items()}


def shapes(prefix: str | os.PathLike[str]) -> Shapes:
    """The shape of every variable of a checkpoint by name."""
    return {name: v.shape for name, v in tf_checkpoint.variables(prefix).items()}


_ACCEPTED = (
    "accepted are checkpoints of WarpGAN (Encoder/…, Decoder/…, Discriminator/…) and of "
    f"classifiers with its discriminator's trunk ({_FIRST}, …)"
)


def _taken(name: str, kind: str) -> tuple[str, str] | None:
    """As `ours`, without the class head of a classifier."""
    found = ours(name)
    return None if found and kind == TRUNK and found[1].startswith("identity/") else found


def _filled(name: str, pattern: str, other: str) -> str:
    """The name with the shape of `other`, number by number; "" where it is not of the pattern."""
    match = re.fullmatch(re.escape(pattern).replace(r"\#", "([0-9]{1,3})"), name)
    numbers = iter(match.groups() if match else ())
    return re.sub("#", lambda _: next(numbers), other) if match else ""


def _some(names: Mapping[str, object]) -> str:
    return listed(", ".join(list(names)[:3])) + ", …"
