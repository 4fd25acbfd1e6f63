"""The networks of a diffusion model, and their inputs."""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from gan_jax.core.system import Array, Batch, Facts, Net, PyTree
from gan_jax.models import unet
from gan_jax.models.network import Network
from gan_jax.ops import images, resize
from gan_jax.ops.diffusion.processes import NetworkOf
from gan_jax.systems.diffusion_choices import GUIDE

Examples = dict[str, Array]
"""What the U-Net is trained on: "image" in [-1, 1], "label" if it is conditioned on classes, "low"
if it enlarges, and once noise has been chosen also "level", "noise" and "weight"."""


@dataclass(frozen=True)
class Networks:
    """The U-Net, what its inputs are, and the classifier that may guide it."""

    unet: Network
    guide: Network | None
    shape: tuple[int, int, int]  # of an image: H, W, C
    by_class: bool  # whether the U-Net is given the class of the image
    upsampler: bool  # whether the U-Net is given the image at a lower resolution


def build(config, facts: Facts, outputs: int) -> Networks:
    """The networks of a config; the U-Net gives `outputs` numbers for each channel.

    Raises UserError for values that are not accepted.
    """
    side, channels, classes = facts.resolution, facts.channels, facts.num_classes
    upsampler, guide = facts.input_channels > 0, None
    net = unet.unet(config.model, side, channels, channels * outputs, classes, upsampler)
    if config.classifier.scale:
        guide = unet.noisy_classifier(config.classifier, side, classes, "classifier")
    return Networks(net, guide, (side, side, channels), config.model.class_cond, upsampler)


def init(networks: Networks, key: Array, batch: Batch) -> dict[str, tuple[PyTree, PyTree]]:
    """Parameters and statistics of each network, by name."""
    x, time, label = jnp.zeros((1, *networks.shape)), jnp.zeros(1), jnp.zeros(1, jnp.int32)
    low = jnp.zeros((1, *batch["input"].shape[1:])) if networks.upsampler else None
    found = {"unet": networks.unet.init(key, x, time, label, low)}
    if networks.guide:
        found[GUIDE] = networks.guide.init(jax.random.fold_in(key, 1), x, time)
    return found


def examples(networks: Networks, batch: Batch) -> Examples:
    """The examples of a training batch, before any noise: image, class, image at low resolution."""
    found = {"image": images.to_unit(batch["target" if networks.upsampler else "image"])}
    if networks.by_class:
        found["label"] = batch["label"]
    if networks.upsampler:  # batch["input"] is this mean too, but rounded to grey levels
        found["low"] = resize.area(found["image"], *batch["input"].shape[1:3])
    return found


def conditioned(
    networks: Networks, params: PyTree, label: Array | None, low: Array | None
) -> NetworkOf:
    """The U-Net as a function of (x, time) alone, for given classes [B] and images at low
    resolution [B, h, w, C]."""
    return lambda x, time: networks.unet.apply(params, {}, x, time, label, low)[0]


def classifier(networks: Networks, nets: Mapping[str, Net]) -> NetworkOf:
    """The classifier that guides, (x, time) → logits [B, K]."""
    return lambda x, time: networks.guide.apply(nets[GUIDE].params, {}, x, time)[0]
