"""ProGAN's training step at its last stage in plain PyTorch: WGAN-GP with drift.

FORMS: as the networks are usually written, with resizing inside the convolutions as ours have it,
and without the lower side, which has no weight after the last fade.
"""

import math
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from benchmarks.contenders.gan_networks import double, leaky
from benchmarks.contenders.place import Place
from benchmarks.contenders.training import Trainer, values
from benchmarks.ours import Ours

FORMS: dict[str, dict[str, Any]] = {
    "": {},
    "4x4 kernels": {"fused": True},
    "no lower side": {"lower": False},
}


class Scaled(torch.nn.Module):
    """A convolution or dense layer with our weights, scaled by He's constant at run time."""

    def __init__(self, kernel: np.ndarray, bias: np.ndarray, gain: float = 2**0.5):
        super().__init__()
        order = (3, 2, 0, 1) if kernel.ndim == 4 else (1, 0)
        self.factor = gain / math.sqrt(math.prod(kernel.shape[:-1]))
        self.weight = torch.nn.Parameter(torch.tensor(kernel.transpose(order).copy()))
        self.bias = torch.nn.Parameter(torch.tensor(bias))

    def forward(self, x, resize: str = "", fused: bool = False):
        """Resizes "up" before or "down" after a convolution of 3x3; with `fused` inside it."""
        weight = self.weight * self.factor
        if resize and fused:
            padded = functional.pad(weight, (1, 1, 1, 1))
            weight = sum(padded[..., i : i + 4, j : j + 4] for i in (0, 1) for j in (0, 1))
            if resize == "down":
                return functional.conv2d(x, weight / 4, self.bias, 2, 1)
            weight = weight.flip(2, 3).transpose(0, 1)
            return functional.conv_transpose2d(x, weight, self.bias, 2, 1)
        if len(self.bias) < len(weight):  # a map of 4x4 from a vector, a bias per channel
            return (x @ weight.T).view(len(x), -1, 4, 4) + self.bias.view(-1, 1, 1)
        if weight.ndim == 2:
            return functional.linear(x, weight, self.bias)
        x = double(x) if resize == "up" else x
        x = functional.conv2d(x, weight, self.bias, padding=weight.shape[-1] // 2)
        return functional.avg_pool2d(x, 2) if resize == "down" else x


def layers_of(params: dict) -> torch.nn.ModuleDict:
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


def generator(gen, z, side: int, fade, fused: bool):
    """Images [N, C, side, side]; a `fade` of None leaves the lower side out."""

    def norm(x):
        return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-8)

    def finish(x):
        return norm(leaky(x))

    x = finish(gen["block4_dense"](norm(z)))
    x, at = finish(gen["block4_conv"](x)), 4
    while at < side:
        lower, at = x, 2 * at
        x = finish(gen[f"block{at}_conv0"](x, "up", fused))
        x = finish(gen[f"block{at}_conv1"](x))
    image = gen[f"to_rgb{side}"](x)
    if fade is None:
        return image
    return torch.lerp(image, double(gen[f"to_rgb{side // 2}"](lower)), fade)


def discriminator(disc, image, side: int, fade, fused: bool, late: bool, group: int = 4):
    """Scores [N]; `late`: the leaky ReLU comes after shrinking."""
    x, at = leaky(disc[f"from_rgb{side}"](image)), side
    while at > 4:
        x = leaky(disc[f"block{at}_conv0"](x))
        last = disc[f"block{at}_conv1"]
        x = leaky(last(x, "down", fused)) if late else functional.avg_pool2d(leaky(last(x)), 2)
        if at == side and fade is not None:
            lower = disc[f"from_rgb{side // 2}"](functional.avg_pool2d(image, 2))
            x = torch.lerp(x, leaky(lower), fade)
        at //= 2
    groups = x.view(group, len(x) // group, *x.shape[1:])
    deviation = torch.sqrt(groups.var(0, unbiased=False) + 1e-8).mean((1, 2, 3))
    figure = deviation.repeat(group).view(-1, 1, 1, 1).expand(-1, 1, 4, 4)
    x = leaky(disc["block4_conv"](torch.cat((x, figure), 1)))
    return disc["block4_dense1"](leaky(disc["block4_dense0"](x.flatten(1))))[:, 0]


class Step:
    """Discriminator first, then the generator; Adam, and an average of the generator."""

    def __init__(self, ours: Ours, place: Place, lower: bool = True, fused: bool = False):
        config, facts = ours.experiment.config, ours.experiment.facts
        self.config, self.place, self.lower = config, place, lower
        self.z_dim, self.count = ours.experiment.system.latents, ours.images
        gen, disc = (place.net(layers_of(ours.weights(name))) for name in ("gen", "disc"))
        self.trainers = {
            name: Trainer(config.optim[name], net, ours.stage)
            for name, net in (("gen", gen), ("disc", disc))
        }
        fade = torch.tensor(0.0, device=place.device) if lower else None
        side, late, group = facts.resolution, config.model.fused_scale, 4
        self.fade, group = fade, min(group, ours.images)
        self.draw = place.applied(lambda z: generator(gen, z, side, fade, fused))
        self.judge = place.applied(lambda x: discriminator(disc, x, side, fade, fused, late, group))
        self.pixels = place.array(ours.pixels["image"])

    def quieten(self) -> None:
        """There is no dropout."""

    def inputs(self, batch: dict[str, np.ndarray] | None) -> tuple[torch.Tensor, ...]:
        """Real images, the latents of both updates and the weights that mix images."""
        if batch is not None:
            names = ("real", "z_disc", "z_gen", "mixing")
            real, *drawn, mixing = (self.place.array(batch[name]) for name in names)
            return real, *drawn, mixing.view(-1, 1, 1, 1)
        real, device = self.place.unit(self.pixels), self.place.device
        if self.lower:
            real = torch.lerp(real, double(functional.avg_pool2d(real, 2)), self.fade)
        latents = torch.randn(2, self.count, self.z_dim, device=device)
        return real, *latents, torch.rand(self.count, 1, 1, 1, device=device)

    def __call__(self, batch: dict[str, np.ndarray] | None = None) -> dict[str, torch.Tensor]:
        """One step; `batch` brings `real`, `z_disc`, `z_gen` and `mixing`."""
        real, z_disc, z_gen, mixing = self.inputs(batch)
        loss = self.config.loss
        with torch.no_grad():
            fake = self.draw(z_disc)
        real_score, fake_score = self.judge(real), self.judge(fake)
        mixed = torch.lerp(real, fake, mixing).requires_grad_()
        (slope,) = torch.autograd.grad(self.judge(mixed).sum(), mixed, create_graph=True)
        penalty = loss.gradient_penalty * (slope.flatten(1).norm(dim=1) - 1).square().mean()
        drift = loss.drift * real_score.square().mean()
        critic = fake_score.mean() - real_score.mean()
        self.trainers["disc"].step(critic + penalty + drift)
        gen = -self.judge(self.draw(z_gen)).mean()
        self.trainers["gen"].step(gen)
        found = (critic, penalty, drift, gen)
        names = ("loss/disc", "loss/gradient_penalty", "loss/drift", "loss/gen")
        return values(dict(zip(names, found, strict=True)))

    def sample(self, count: int) -> torch.Tensor:
        """`count` images as pixels, uint8."""
        with torch.no_grad():
            made = self.draw(torch.randn(count, self.z_dim, device=self.place.device))
        return ((made + 1) * 127.5).clamp(0, 255).to(torch.uint8)


def make(ours: Ours, place: Place, **form: bool) -> Step:
    """The step at the last stage of a config without classes; `form` is one of FORMS."""
    return Step(ours, place, **form)
