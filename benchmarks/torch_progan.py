"""ProGAN's networks at 32 px in plain PyTorch, with our weights, for benchmarks/progan.py."""

import math

import numpy as np

try:
    import torch
except ImportError:
    torch = None


class Scaled(torch.nn.Module if torch else object):
    """A convolution or dense layer with our weights, scaled by He's constant at run time."""

    def __init__(self, kernel: np.ndarray, bias: np.ndarray, gain: float = 2**0.5):
        super().__init__()
        order = (3, 2, 0, 1) if kernel.ndim == 4 else (1, 0)
        self.factor = gain / math.sqrt(math.prod(kernel.shape[:-1]))
        self.weight = torch.nn.Parameter(torch.tensor(kernel.transpose(order).copy()))
        self.bias = torch.nn.Parameter(torch.tensor(bias))

    def forward(self, x, resize: str = "", fused: bool = False):
        """Resizes "up" before or "down" after a convolution of 3x3; with `fused` inside it."""
        function, weight = torch.nn.functional, self.weight * self.factor
        if resize and fused:
            padded = function.pad(weight, (1, 1, 1, 1))
            weight = sum(padded[..., i : i + 4, j : j + 4] for i in (0, 1) for j in (0, 1))
            if resize == "down":
                return function.conv2d(x, weight / 4, self.bias, 2, 1)
            weight = weight.flip(2, 3).transpose(0, 1)
            return function.conv_transpose2d(x, weight, self.bias, 2, 1)
        if len(self.bias) < len(weight):  # a map of 4x4 from a vector, a bias per channel
            return (x @ weight.T).view(len(x), -1, 4, 4) + self.bias.view(-1, 1, 1)
        if weight.ndim == 2:
            return function.linear(x, weight, self.bias)
        x = function.interpolate(x, scale_factor=2) if resize == "up" else x
        x = function.conv2d(x, weight, self.bias, padding=weight.shape[-1] // 2)
        return function.avg_pool2d(x, 2) if resize == "down" else x


def layers_of(params: dict):
    """A network's layers by our names, with copies of our weights."""
    found = {}
    for name, layer in params.items():
        kernel, bias = (np.asarray(layer[n]) for n in ("kernel", "bias"))
        gain = 1.0 if name.startswith("to_rgb") or name == "block4_dense1" else 2**0.5
        if name == "block4_dense":  # as 16 pixels of a map: channels come first in PyTorch
            kernel = kernel.reshape(len(kernel), 16, -1).swapaxes(1, 2).reshape(len(kernel), -1)
            gain /= 4
        elif name == "block4_dense0":
            kernel = kernel.reshape(16, -1, kernel.shape[1]).swapaxes(0, 1).reshape(kernel.shape)
        found[name] = Scaled(kernel, bias, gain)
    return torch.nn.ModuleDict(found)


def generator(gen, z, fade, fused: bool):
    """Images [N, C, 32, 32]; a `fade` of None leaves the lower side out."""
    function = torch.nn.functional

    def norm(x):
        return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-8)

    def finish(x):
        return norm(function.leaky_relu(x, 0.2))

    def double(x):
        return function.interpolate(x, scale_factor=2)

    x = finish(gen["block4_dense"](norm(z)))
    x = finish(gen["block4_conv"](x))
    for at in (8, 16, 32):
        lower = x
        x = finish(gen[f"block{at}_conv0"](x, "up", fused))
        x = finish(gen[f"block{at}_conv1"](x))
    image = gen["to_rgb32"](x)
    return image if fade is None else torch.lerp(image, double(gen["to_rgb16"](lower)), fade)


def discriminator(disc, image, fade, fused: bool, late: bool, group: int = 4):
    """Scores [N]; `late`: the leaky ReLU comes after shrinking."""
    function = torch.nn.functional

    def act(x):
        return function.leaky_relu(x, 0.2)

    x = act(disc["from_rgb32"](image))
    for at in (32, 16, 8):
        x = act(disc[f"block{at}_conv0"](x))
        last = disc[f"block{at}_conv1"]
        x = act(last(x, "down", fused)) if late else function.avg_pool2d(act(last(x)), 2)
        if at == 32 and fade is not None:
            x = torch.lerp(x, act(disc["from_rgb16"](function.avg_pool2d(image, 2))), fade)
    groups = x.view(group, len(x) // group, *x.shape[1:])
    deviation = torch.sqrt(groups.var(0, unbiased=False) + 1e-8).mean((1, 2, 3))
    figure = deviation.repeat(group).view(-1, 1, 1, 1).expand(-1, 1, 4, 4)
    x = act(disc["block4_conv"](torch.cat((x, figure), 1)))
    return disc["block4_dense1"](act(disc["block4_dense0"](x.flatten(1))))[:, 0]
