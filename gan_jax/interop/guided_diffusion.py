"""OpenAI's .pt files (guided-diffusion, improved-diffusion) ↔ this library's parameter trees.

https://github.com/openai/guided-diffusion: UNetModel, SuperResModel and the classifier EncoderUNet.
The networks here carry PyTorch's names, with "_" for the dot before a number:

    input_blocks.3.0.in_layers.2.weight   params["input_blocks_3_0"]["in_layers_2"]["kernel"]
    middle_block.1.norm.weight            params["middle_block_1"]["norm"]["scale"]
    label_emb.weight                      params["label_emb"]["embedding"]
    out.2.positional_embedding            params["out_2"]["positional_embedding"]

Convolutions turn from [O, I, H, W] into [H, W, I, O], dense layers from [O, I] into [I, O], and
convolutions of one pixel over a sequence, [O, I, 1] in the files, are dense layers here. Tables
keep their layout, [classes, 4C] and [channels, side² + 1]. Half precision becomes float32.

Names and shapes are the same in both orders of attention ("legacy", "new") and with any number of
heads: those, the noise schedule and the size of images are for the config to know.
"""

import math
import os
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from gan_jax.errors import UserError
from gan_jax.interop.formats import torch_file
from gan_jax.interop.guided_diffusion_layers import (
    CLASSIFIER,
    UNET,
    UPSAMPLER,
    bare,
    check,
    count,
    head,
    identify,
    rank,
)
from gan_jax.interop.pytorch_gan import AXES_IN, AXES_OUT
from gan_jax.interop.trees import Tree, named_leaves

__all__ = [
    "RELEASED",
    "Released",
    "architecture",
    "from_trees",
    "identify",
    "mismatches",
    "state_dict",
    "to_trees",
]


class Released(NamedTuple):
    """config: stem of the config file; variant: its own, "" if plain; role: as `identify` says."""

    config: str
    variant: str
    role: str


# https://github.com/openai/guided-diffusion#download-pre-trained-models
RELEASED = {
    "64x64_diffusion.pt": Released("diffusion_imagenet64", "", UNET),
    "128x128_diffusion.pt": Released("diffusion_imagenet128", "", UNET),
    "256x256_diffusion.pt": Released("diffusion_imagenet256", "", UNET),
    "256x256_diffusion_uncond.pt": Released("diffusion_imagenet256", "unconditional", UNET),
    "512x512_diffusion.pt": Released("diffusion_imagenet512", "", UNET),
    "64x64_classifier.pt": Released("noisy_classifier_imagenet64", "", CLASSIFIER),
    "128x128_classifier.pt": Released("noisy_classifier_imagenet128", "", CLASSIFIER),
    "256x256_classifier.pt": Released("noisy_classifier_imagenet256", "", CLASSIFIER),
    "512x512_classifier.pt": Released("noisy_classifier_imagenet512", "", CLASSIFIER),
    "64_256_upsampler.pt": Released("upsampler_64_256", "", UPSAMPLER),
    "128_512_upsampler.pt": Released("upsampler_128_512", "", UPSAMPLER),
    "lsun_bedroom.pt": Released("diffusion_lsun", "bedroom", UNET),
    "lsun_cat.pt": Released("diffusion_lsun", "cat", UNET),
    "lsun_horse.pt": Released("diffusion_lsun", "horse", UNET),
    "lsun_horse_nodropout.pt": Released("diffusion_lsun", "horse_nodropout", UNET),
}

_SEQUENCE = ("qkv", "proj_out", "qkv_proj", "c_proj")  # layers of kernels [O, I, 1]
_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "embedding": "weight",
    "bias": "bias",
    "positional_embedding": "positional_embedding",
}
_UPSAMPLER = re.compile(r"output_blocks\.[0-9]+\.[12]\.(conv|in_layers\.2)\.weight")


def state_dict(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The named tensors of a .pt file, as torch_file.state_dict.

    Raises:
        UserError: as there; an opt*.pt, the optimiser's state, is named as such.
    """
    try:
        return torch_file.state_dict(path)
    except UserError as error:
        problem = str(error)
    content = torch_file.read(path)  # says the same again where the file cannot be read
    if isinstance(content, dict) and {"state", "param_groups"} <= content.keys():
        raise UserError(
            f"{path} holds an optimiser's state and no network: give the model*.pt or ema_*.pt "
            "that was saved beside it"
        )
    raise UserError(problem)


def to_trees(state_dict: Mapping[str, np.ndarray]) -> tuple[Tree, Tree]:
    """A state dict as (params, stats); stats is {}: no network of guided-diffusion has any.

    The prefix "module." of DistributedDataParallel is dropped.

    Raises:
        UserError: none of guided-diffusion's networks, a tensor that the network does not have, or
            one that it lacks.
    """
    tensors = bare(state_dict)
    check(tensors)
    params: Tree = {}
    for name, tensor in tensors.items():
        module, _, leaf = name.rpartition(".")
        if leaf == "weight":
            vector = "scale" if tensor.ndim == 1 else "kernel"
            leaf = "embedding" if module == "label_emb" else vector
        if leaf == "kernel":
            tensor = tensor[..., 0] if tensor.ndim == 3 else tensor
            tensor = tensor.transpose(AXES_IN[tensor.ndim])
        if tensor.dtype in (np.float16, ml_dtypes.bfloat16):
            tensor = tensor.astype(np.float32)
        tree = params
        for part in re.sub(r"\.([0-9])", r"_\1", module).split("."):
            tree = tree.setdefault(part, {})
        tree[leaf] = np.ascontiguousarray(tensor)
    return params, {}


def from_trees(params: Mapping[str, Any], stats: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The inverse of `to_trees`: a state dict in PyTorch's names, layouts and order.

    Raises:
        ValueError: a leaf that guided-diffusion's networks do not have, or one that they lack.
    """
    found = {}
    for path, value in named_leaves(params, stats).items():
        name, leaf = _torch_name(path)
        if not name:
            raise ValueError(f"{path} has no counterpart in guided-diffusion's networks")
        array = np.asarray(value)
        shape = _torch_shape(name, leaf, array.shape)
        if leaf == "kernel":
            array = array.transpose(AXES_OUT.get(array.ndim))
        found[name] = np.ascontiguousarray(array).reshape(shape)
    tensors = {name: found[name] for name in sorted(found, key=rank)}
    try:
        check(tensors)
    except UserError as error:
        raise ValueError(f"no parameters of guided-diffusion's networks: {error}") from None
    return tensors


def mismatches(
    tensors: Mapping[str, np.ndarray], params: Mapping[str, Any], most: int = 5
) -> list[str]:
    """Where a state dict differs from a network, in PyTorch's names and shapes; [] if nowhere.

    Args:
        params: the network's tree of arrays or jax.ShapeDtypeStruct.
        most: how many tensors are told; "and 37 more" then follows as the last entry.

    Returns:
        "out.2.weight: (6, 64, 3, 3) in the file, (3, 64, 3, 3) here", in the order of the files.
    """
    there = {name: tensor.shape for name, tensor in bare(tensors).items()}
    here = {}
    for path, value in named_leaves(params, {}).items():
        name, leaf = _torch_name(path)
        here[name or path] = _torch_shape(name, leaf, tuple(value.shape))
    wrong = [
        f"{name}: {there.get(name, 'absent')} in the file, {here.get(name, 'absent')} here"
        for name in sorted(there.keys() | here.keys(), key=rank)
        if there.get(name) != here.get(name)
    ]
    more = [f"and {len(wrong) - most} more"] if len(wrong) > most else []
    return [*wrong[:most], *more]


def architecture(state_dict: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """What names and shapes tell of a network, with None for what they leave open.

    Returns:
        network: as `identify` says; channels: the width C; in_channels: of the stem; num_classes:
        it has an embedding of, 0 if none; multipliers: of C, a float for each level; blocks:
        residual blocks per level; attention: the factors 2^level of levels that attend;
        resblock_updown, scale_shift: whether;
        of U-Nets out_channels, and learn_sigma: two for each channel of an image;
        of classifiers pool, outputs (the classes told apart) and, of an attention pool, image_size
        in pixels.

        A network of one level does not show resblock_updown, nor a classifier that has it where its
        levels end if all are alike: then multipliers, blocks and attention are None too.

    Raises:
        UserError: as `to_trees`, or the blocks form no levels.
    """
    tensors = bare(state_dict)
    network = check(tensors)
    channels = tensors["time_embed.0.weight"].shape[1]
    inputs = tensors["input_blocks.0.0.weight"].shape[1]
    embedded = tensors["middle_block.0.emb_layers.1.weight"].shape[0]
    found = {
        "network": network,
        "channels": channels,
        "in_channels": inputs,
        "num_classes": len(tensors.get("label_emb.weight", ())),
        **_levels(tensors, channels),
        "scale_shift": embedded == 2 * _features(tensors, "middle_block.0"),
    }
    if network != CLASSIFIER:
        outputs = tensors["out.2.weight"].shape[0]
        image = inputs // 2 if network == UPSAMPLER else inputs
        return {**found, "out_channels": outputs, "learn_sigma": outputs == 2 * image}
    found["pool"], found["outputs"] = head(tensors)
    if found["pool"] == "attention" and found["multipliers"]:
        side = math.isqrt(tensors["out.2.positional_embedding"].shape[1] - 1)
        found["image_size"] = side * 2 ** (len(found["multipliers"]) - 1)
    return found


def _levels(tensors: Mapping[str, np.ndarray], channels: int) -> dict[str, Any]:
    """The part of `architecture` that takes all blocks together."""
    total = count(tensors, "input_blocks")
    unet = "output_blocks.0.0.in_layers.2.weight" in tensors
    upsamplers = sum(bool(_UPSAMPLER.fullmatch(name)) for name in tensors)
    strided = any(name.endswith(".op.weight") for name in tensors)
    # a level takes as many input blocks as any other: the first has the stem, others what resizes
    fitting = [
        (levels, total // levels)
        for levels in range(1, total + 1)
        if total % levels == 0
        and (not unet or levels == upsamplers + 1)
        and all(_fits(tensors, i, total // levels, strided) for i in range(1, total))
    ]
    if not fitting:
        raise UserError(
            f"no network of guided-diffusion has such levels: {total} input blocks, {upsamplers} "
            "upsamplers, and downsamplers or attention where those do not fit"
        )
    if len(fitting) > 1:
        return dict.fromkeys(("multipliers", "blocks", "attention", "resblock_updown"))
    ((levels, length),) = fitting
    # a decoder has residual blocks in every level, an encoder may have none
    if unet:
        blocks = [f"output_blocks.{(levels - 1 - level) * length}" for level in range(levels)]
    else:
        blocks = [f"input_blocks.{level * length + length - 1}" for level in range(levels)]
    attention = [f"{block}.1.norm.weight" in tensors for block in blocks]
    return {
        "multipliers": tuple(_features(tensors, f"{block}.0") / channels for block in blocks),
        "blocks": length - 1,
        "attention": tuple(2**level for level in range(levels) if attention[level]),
        "resblock_updown": None if levels == 1 else not strided,
    }


def _fits(tensors: Mapping[str, np.ndarray], i: int, length: int, strided: bool) -> bool:
    """Whether input block i may be where it is, if every `length`-th one resizes."""

    def has(index: int, module: str) -> bool:
        return f"input_blocks.{index}.{module}.weight" in tensors

    place = i % length
    if has(i, "0.op") != (strided and place == 0):
        return False
    if place == 0:
        return not has(i, "1.norm") and not has(i, "0.skip_connection")
    alike = has(i, "1.norm") == has(i - 1, "1.norm") and not has(i, "0.skip_connection")
    return place == 1 or alike


def _features(tensors: Mapping[str, np.ndarray], block: str) -> int:
    """Channels that the stem, a residual block or a strided convolution gives."""
    names = (f"{block}.weight", f"{block}.out_layers.3.weight", f"{block}.op.weight")
    return next(tensors[name].shape[0] for name in names if name in tensors)


def _torch_name(path: str) -> tuple[str, str]:
    """(PyTorch's name, the last part) of the path params/a/b/leaf; the name is "" if it has none"""
    collection, *modules, leaf = path.split("/")
    if collection != "params" or not modules or leaf not in _LEAVES:
        return "", leaf
    dotted = re.sub(r"_([0-9]+)(?=_[0-9]|\.|$)", r".\1", ".".join(modules))
    return f"{dotted}.{_LEAVES[leaf]}", leaf


def _torch_shape(name: str, leaf: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """PyTorch's shape of an array of ours."""
    if leaf != "kernel" or len(shape) not in AXES_OUT:
        return shape
    turned = tuple(shape[axis] for axis in AXES_OUT[len(shape)])
    return (*turned, 1) if len(shape) == 2 and name.split(".")[-2] in _SEQUENCE else turned
