"""Which tensors the networks of guided-diffusion have, by PyTorch's names.

https://github.com/openai/guided-diffusion, guided_diffusion/unet.py: UNetModel, SuperResModel and
EncoderUNetModel. The names that are there tell which network it is, and so which tensors its blocks
must have and which they may not have.
"""

import re
from collections.abc import Iterator, Mapping

import ml_dtypes
import numpy as np

from gan_jax.errors import UserError
from gan_jax.interop.trees import shown

UNET, UPSAMPLER, CLASSIFIER = "diffusion unet", "super-resolution unet", "noisy classifier"

# the tensors of a kind of layer, with their dimensions
_LAYERS = {
    "conv": {"weight": 4, "bias": 1},
    "sequence conv": {"weight": 3, "bias": 1},
    "linear": {"weight": 2, "bias": 1},
    "norm": {"weight": 1, "bias": 1},
    "embedding": {"weight": 2},
    "positions": {"positional_embedding": 2},
}
_RESIDUAL = {
    "in_layers.0": "norm",
    "in_layers.2": "conv",
    "emb_layers.1": "linear",
    "out_layers.0": "norm",
    "out_layers.3": "conv",
    "skip_connection": "conv",
}
_ATTENTION = {"norm": "norm", "qkv": "sequence conv", "proj_out": "sequence conv"}
_DOWN, _UP = {"op": "conv"}, {"conv": "conv"}
_HEAD = {"out.0": "norm", "out.2": "conv"}
# what takes a classifier's pool; the last layer gives the logits
_POOLS = {
    "attention": {
        "out.0": "norm",
        "out.2": "positions",
        "out.2.qkv_proj": "sequence conv",
        "out.2.c_proj": "sequence conv",
    },
    "adaptive": {"out.0": "norm", "out.3": "conv"},
    "spatial": {"out.0": "linear", "out.2": "linear"},
    "spatial_v2": {"out.0": "linear", "out.1": "norm", "out.3": "linear"},
}
# what a state dict lists before what, wherever two of these are neighbours
_ORDER = (
    *("time_embed", "label_emb", "input_blocks", "middle_block", "output_blocks", "out"),
    *("in_layers", "emb_layers", "out_layers", "skip_connection"),
    *("norm", "qkv", "positional_embedding", "qkv_proj", "proj_out", "c_proj"),
    *("op", "conv", "weight", "bias"),
)
# of identify: what every network has
_ANCHORS = {
    "time_embed.0": "linear",
    "input_blocks.0.0": "conv",
    "middle_block.0.out_layers.3": "conv",
    "middle_block.1.qkv": "sequence conv",
}


def bare(state_dict: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tensors without the prefix "module." of DistributedDataParallel."""
    prefix = "module." if all(name.startswith("module.") for name in state_dict) else ""
    return {name.removeprefix(prefix): np.asarray(t) for name, t in state_dict.items()}


def identify(state_dict: Mapping[str, np.ndarray]) -> str | None:
    """The kind of network in a state dict: "diffusion unet", "super-resolution unet" or "noisy
    classifier", or None if it is not from guided-diffusion.

    A U-Net whose stem reads more channels than an image has is taken for one that enlarges: more
    than it gives (6, RGB), or as many and 2, 6 or 8 (gray, RGB, RGBA with learned variances).
    """
    tensors = bare(state_dict)
    anchors = [_weight(tensors, *anchor) for anchor in _ANCHORS.items()]
    if None in anchors or anchors[0][0] != 4 * anchors[0][1] or 0 in anchors[0]:
        return None
    if not any(name.startswith("output_blocks.") for name in tensors):
        return CLASSIFIER if head(tensors) else None
    outputs, inputs = _weight(tensors, "out.2", "conv"), anchors[1][1]
    if outputs is None:
        return None
    enlarges = inputs > outputs[0] or (inputs == outputs[0] and inputs in (2, 6, 8))
    return UPSAMPLER if enlarges else UNET


def head(tensors: Mapping[str, np.ndarray]) -> tuple[str, int] | None:
    """A classifier's (pool, number of classes), or None where its last layer is none of a pool's"""
    for pool, layers in _POOLS.items():
        *_, last = layers.items()
        shape = _weight(tensors, *last)
        if shape:
            return pool, shape[0]
    return None


def count(tensors: Mapping[str, np.ndarray], blocks: str) -> int:
    """How many `blocks` there are by the highest index, and never more than there are tensors."""
    found = (re.match(rf"{blocks}\.([0-9]{{1,6}})\.", name) for name in tensors)
    return min(max((1 + int(match[1]) for match in found if match), default=0), len(tensors))


def rank(name: str) -> tuple[list[int], str]:
    """Sorts names as PyTorch lists a module: blocks, indices as numbers, then a layer's tensors."""
    places = []
    for part in name.split("."):
        if re.fullmatch("[0-9]{1,6}", part):
            places.append(int(part))
        else:
            places.append(_ORDER.index(part) if part in _ORDER else len(_ORDER))
    return places, name


def check(tensors: Mapping[str, np.ndarray]) -> str:
    """What `identify` says, of a network that has all of its tensors and no others.

    Raises:
        UserError: none of guided-diffusion's networks, a tensor that the network does not have, or
            one that it lacks.
    """
    network = identify(tensors)
    if network is None:
        some = ", ".join(list(tensors)[:3])
        raise UserError(
            f"no network of guided-diffusion has the tensors {some}, …: accepted are its U-Nets, "
            "upsamplers and noisy classifiers"
        )
    expected = {
        f"{module}.{leaf}": (layer, ndim)
        for module, layer in _layers(tensors, network)
        for leaf, ndim in _LAYERS[layer].items()
    }
    for name, tensor in tensors.items():
        layer, ndim = expected.get(name, ("", -1))
        long = layer == "sequence conv" and ndim == 3 and tensor.shape[-1:] != (1,)
        numbers = tensor.dtype.kind == "f" or tensor.dtype == ml_dtypes.bfloat16
        if tensor.ndim != ndim or long or not numbers:
            raise UserError(
                f"tensor {name} {shown(tensor.shape)} {tensor.dtype} is none of the {network}'s: "
                "accepted are the tensors of guided-diffusion's UNetModel, SuperResModel and "
                "EncoderUNetModel, of floating-point numbers"
            )
    for name in expected:
        if name not in tensors:
            raise UserError(f"tensor {name} of the {network} is missing")
    return network


def _weight(tensors: Mapping[str, np.ndarray], module: str, layer: str) -> tuple[int, ...] | None:
    """The shape of a layer's weight, None where it is not there or another kind's."""
    weight = tensors.get(f"{module}.weight")
    fits = weight is not None and weight.ndim == _LAYERS[layer]["weight"]
    return weight.shape if fits else None


def _layers(tensors: Mapping[str, np.ndarray], network: str) -> Iterator[tuple[str, str]]:
    """(PyTorch's name, kind) of every layer that such a network has to have."""
    modules = {name.rpartition(".")[0] for name in tensors}

    def block(place: str, *kinds: dict[str, str]) -> Iterator[tuple[str, str]]:
        """The layers of the block at `place`, of the first kind that has one there, or the last."""
        here = (k for k in kinds if any(f"{place}.{module}" in modules for module in k))
        for module, layer in next(here, kinds[-1]).items():
            if module != "skip_connection" or _changes_channels(tensors, place):
                yield f"{place}.{module}", layer

    yield from (("time_embed.0", "linear"), ("time_embed.2", "linear"))
    if "label_emb" in modules and network != CLASSIFIER:
        yield "label_emb", "embedding"
    yield "input_blocks.0.0", "conv"
    # the decoder takes back what each block of the encoder gave
    total = max(count(tensors, "input_blocks"), count(tensors, "output_blocks"))
    for i in range(1, total):
        yield from block(f"input_blocks.{i}.0", _DOWN, _RESIDUAL)
        yield from block(f"input_blocks.{i}.1", _ATTENTION, {})
    for i, kind in enumerate((_RESIDUAL, _ATTENTION, _RESIDUAL)):
        yield from block(f"middle_block.{i}", kind)
    if network == CLASSIFIER:
        yield from _POOLS[head(tensors)[0]].items()
        return
    for i in range(total):
        yield from block(f"output_blocks.{i}.0", _RESIDUAL)
        yield from block(f"output_blocks.{i}.1", _ATTENTION, _UP, _RESIDUAL, {})
        yield from block(f"output_blocks.{i}.2", _UP, _RESIDUAL, {})
    yield from _HEAD.items()


def _changes_channels(tensors: Mapping[str, np.ndarray], block: str) -> bool:
    """Whether a residual block's skip is a convolution; else it is the input itself."""
    shape = _weight(tensors, f"{block}.in_layers.2", "conv")
    return shape is not None and shape[0] != shape[1]
