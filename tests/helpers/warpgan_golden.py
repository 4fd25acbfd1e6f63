"""WarpGAN's weights as the golden files give them, and where they lie in our parameter trees."""

import math
import re
import zlib

import numpy as np

PARTS = {
    "Encoder/StyleEncoder": ("gen", "style_encoder"),
    "Encoder/ContentEncoder": ("gen", "content_encoder"),
    "Decoder/StyleController": ("gen", "style_controller"),
    "Decoder/Decoder": ("gen", "decoder"),
    "Decoder/WarpController": ("gen", "warp_controller"),
    "Discriminator": ("disc", ""),
}
LAYERS = {
    ("style_encoder", "fc1"): "code",
    ("style_controller", "fc2"): "fc0",
    ("style_controller", "fc3"): "fc1",
    ("style_controller", "fc4"): "scale",
    ("style_controller", "fc5"): "shift",
    ("decoder", "deconv1_1"): "conv0",
    ("decoder", "deconv2_1"): "conv1",
    ("decoder", "conv_image"): "image",
    ("warp_controller", "fc1"): "fc",
    ("warp_controller", "fc_ldmark"): "points",
    ("warp_controller", "fc_diff"): "displacements",
    ("", "Bottleneck"): "bottleneck",
    ("", "patch5_logits"): "patch",
    ("", "Logits"): "identity",
}
LEAVES = {"weights": "kernel", "biases": "bias", "gamma": "scale", "beta": "bias"}
CHUNK = 2**22  # even: random numbers are made in twos


def rule(name: str, shape: tuple[int, ...], image_hw: tuple[int, int]) -> np.ndarray:
    """The original's variable called `name`, float32; `image_hw` places the control points."""
    r = _normal(np.random.RandomState(zlib.crc32(name.encode()) & 0xFFFFFFFF), shape)
    leaf = name.rsplit("/", 1)[-1]
    if leaf == "ldmark_mean":
        hw = np.resize(np.float32(image_hw), shape)
        return np.clip(0.5 * hw + np.float32(0.15625) * hw * r, 0, hw - 1)
    if len(shape) < 2:
        return 1 + np.float32(0.1) * r if leaf == "gamma" else np.float32(0.1) * r
    r *= np.float32(1 / np.sqrt(np.prod(shape[:-1])))
    return r


def _normal(random: np.random.RandomState, shape: tuple[int, ...]) -> np.ndarray:
    """random.randn(*shape) in float32, without ever holding all of it in float64."""
    flat = np.empty(math.prod(shape), np.float32)
    for start in range(0, flat.size, CHUNK):
        part = flat[start : start + CHUNK]
        part[:] = random.randn(part.size)
    return flat.reshape(shape)


def place(name: str) -> tuple[str, tuple[str, ...]]:
    """("gen" or "disc", path in that net's parameters) of "Encoder/StyleEncoder/conv0/weights"."""
    prefix = next(prefix for prefix in PARTS if name.startswith(f"{prefix}/"))
    net, part = PARTS[prefix]
    layer, *rest = name.removeprefix(f"{prefix}/").split("/")
    if layer == "ldmark_mean":
        return net, (part, "point_mean")
    found = LAYERS.get((part, layer), layer)
    block = re.fullmatch(r"(res\d+)_(\d)", found)
    path = [block[1], f"conv{block[2]}"] if block else [found]
    if len(rest) == 2:  # a norm: it lies beside its layer
        path[-1] = re.sub(r"^(conv|fc)", "norm", path[-1])
    return net, tuple(filter(None, (part, *path, LEAVES[rest[-1]])))


def pairs(variables: list) -> list[tuple[str, str, tuple[str, ...]]]:
    """(original name, "gen" or "disc", path) for [name, shape] rows of a golden file's meta."""
    return [(name, *place(name)) for name, _ in variables]


def trees(variables: list, image_hw: tuple[int, int]) -> tuple[dict, dict]:
    """Parameters of generator (flat warp head) and discriminator (flat head) by the rule."""
    nets = {"gen": {}, "disc": {}}
    for name, shape in variables:
        net, (*branch, leaf) = place(name)
        tree = nets[net]
        for part in branch:
            tree = tree.setdefault(part, {})
        tree[leaf] = rule(name, tuple(shape), image_hw)
    return nets["gen"], nets["disc"]
