"""The networks of the system `gan` in plain PyTorch, as functions of their layers.

Generators take z [B, z_dim] and classes [B] to images [B, C, H, W] in [-1, 1], discriminators
images and classes to logits [B]. Layers have our names.
"""

import torch
from torch import nn
from torch.nn import functional

EPS = {"deep_conv": 1e-4, "resnet": 1e-4}  # of batch norm, by generator; 1e-5 otherwise
Net = nn.ModuleDict
Tensor = torch.Tensor


def leaky(x: Tensor) -> Tensor:
    """x where positive, 0.2 x elsewhere."""
    return functional.leaky_relu(x, 0.2)


def image(x: Tensor, output: str) -> Tensor:
    """The output activation, range [-1, 1]."""
    return torch.tanh(x) if output == "tanh" else 2 * torch.sigmoid(x) - 1


def double(x: Tensor) -> Tensor:
    """Nearest neighbour, twice as large."""
    return functional.interpolate(x, scale_factor=2)


def normed(net: Net, name: str, x: Tensor, label: Tensor | None = None) -> Tensor:
    """The batch norm of that name, if there is one, with a scale per class if it has them."""
    if name not in net:
        return x
    return net[name](x, label) if hasattr(net[name], "scale") else net[name](x)


def logits(net: Net, h: Tensor, label: Tensor, pool: bool) -> Tensor:
    """The last layer, with the projection of the class if the network has one."""
    h = h.sum((2, 3)) if pool else h.flatten(1)
    logit = net["linear"](h)[:, 0]
    return logit + (net["embed"](label) * h).sum(1) if "embed" in net else logit


def dense_generator(net: Net, z: Tensor, label: Tensor, output: str) -> Tensor:
    """One hidden layer, for grey images."""
    h = net["output"](functional.relu(net["hidden"](z)))
    side = round(h.shape[1] ** 0.5)
    return image(h.view(-1, 1, side, side), output)


def dense_discriminator(net: Net, x: Tensor, label: Tensor) -> Tensor:
    """One hidden layer."""
    return logits(net, leaky(net["hidden"](x.flatten(1))), label, pool=False)


def maps(net: Net, z: Tensor, first: nn.Module) -> Tensor:
    """The dense layer to the smallest maps [B, C, size, size], of which `first` takes C channels"""
    h = net["dense"](z)
    channels = getattr(first, "num_features", 0) or first.weight.shape[0]
    size = round((h.shape[1] / channels) ** 0.5)
    return h.view(-1, channels, size, size)


def deconv_generator(net: Net, z: Tensor, label: Tensor, output: str) -> Tensor:
    """DCGAN: transposed convolutions."""
    h = functional.relu(normed(net, "dense_norm", maps(net, z, net["dense_norm"]), label))
    last = sum(name.startswith("deconv_") and not name.endswith("norm") for name in net) - 1
    for level in range(last):
        h = functional.relu(normed(net, f"deconv_{level}_norm", net[f"deconv_{level}"](h), label))
    return image(net[f"deconv_{last}"](h), output)


def conv_discriminator(net: Net, x: Tensor, label: Tensor) -> Tensor:
    """DCGAN: convolutions of stride 2."""
    h, level = x, 0
    while f"conv_{level}" in net:
        h = leaky(normed(net, f"conv_{level}_norm", net[f"conv_{level}"](h, 2, 1)))
        level += 1
    return logits(net, h, label, pool=False)


def deep_generator(net: Net, z: Tensor, label: Tensor, output: str) -> Tensor:
    """StudioGAN's DCGAN: doublings by transposed convolution, then 3x3."""
    h, level = maps(net, z, net["deconv_0"]), 0
    while f"deconv_{level}" in net:
        h = functional.relu(normed(net, f"deconv_{level}_norm", net[f"deconv_{level}"](h), label))
        level += 1
    return image(net["conv"](h, 1, 1), output)


def deep_discriminator(net: Net, x: Tensor, label: Tensor) -> Tensor:
    """StudioGAN's DCGAN: pairs of a 3x3 and a 4x4 convolution of stride 2, then 3x3."""

    def block(h: Tensor, name: str, *geometry: int) -> Tensor:
        return functional.relu(normed(net, f"{name}_norm", net[name](h, *geometry)))

    h, level = x, 0
    while f"block_{level}_conv_0" in net:
        h = block(h, f"block_{level}_conv_0", 1, 1)
        h = block(h, f"block_{level}_conv_1", 2, 1)
        level += 1
    return logits(net, block(h, "conv", 1, 1), label, pool=True)


def residual_generator(net: Net, z: Tensor, label: Tensor, output: str) -> Tensor:
    """SNGAN's generator: residual blocks that double the size."""
    channels = net["block_0_shortcut"].weight.shape[1]
    h = net["dense"](z)
    size = round((h.shape[1] / channels) ** 0.5)
    x, level = h.view(-1, channels, size, size), 0
    while (name := f"block_{level}") + "_conv_0" in net:
        h = functional.relu(normed(net, f"{name}_norm_0", x, label))
        h = net[f"{name}_conv_0"](double(h), 1, 1)
        h = functional.relu(normed(net, f"{name}_norm_1", h, label))
        h = net[f"{name}_conv_1"](h, 1, 1)
        x = h + double(net[f"{name}_shortcut"](x))
        level += 1
    return image(net["conv"](functional.relu(net["norm"](x)), 1, 1), output)


def residual_discriminator(net: Net, x: Tensor, label: Tensor) -> Tensor:
    """SNGAN's discriminator at 32 px: four residual blocks, of which the first two halve the
    image."""
    level = 0
    while (name := f"block_{level}") + "_conv_0" in net:
        first, halve = level == 0, level < 2
        h = net[f"{name}_conv_0"](x if first else functional.relu(x), 1, 1)
        h = net[f"{name}_conv_1"](functional.relu(h), 1, 1)
        h = functional.avg_pool2d(h, 2) if halve else h
        if f"{name}_shortcut" in net:  # pooling first is the cheaper of two equal orders
            x = functional.avg_pool2d(x, 2) if halve else x
            x = net[f"{name}_shortcut"](x)
        x = h + x
        level += 1
    return logits(net, functional.relu(x), label, pool=True)


GENERATORS = {
    "dense": dense_generator,
    "deconv": deconv_generator,
    "deep_conv": deep_generator,
    "resnet": residual_generator,
}
DISCRIMINATORS = {
    "dense": dense_discriminator,
    "conv": conv_discriminator,
    "deep_conv": deep_discriminator,
    "resnet": residual_discriminator,
}
