"""WarpGAN's training step in plain PyTorch, with the pooled warp head and the flat discriminator.

Both networks take one step from one forward pass at the old weights. A is a caricature, B a photo
and BA the caricature that is generated from B.
"""

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.contenders import layers
from benchmarks.contenders.gan_networks import double, leaky
from benchmarks.contenders.place import Place, quiet
from benchmarks.contenders.training import Trainer, values
from benchmarks.contenders.warp import warp
from benchmarks.ours import Ours
from gan_jax.models.warpgan import GRID, UNIT

CARICATURE, PHOTO, GENERATED = range(3)
Tensor = torch.Tensor
Net = nn.ModuleDict


def reflected(layer: nn.Module, x: Tensor, padding: int, stride: int = 1) -> Tensor:
    """A convolution of an image that is continued by reflection."""
    return layer(functional.pad(x, (padding,) * 4, mode="reflect"), stride)


def instance(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Instance norm with scale and bias [C] or [B, C]."""
    shape = (-1, x.shape[1], 1, 1)
    return functional.instance_norm(x, eps=1e-6) * scale.view(shape) + bias.view(shape)


def layer_norm(norm: nn.Module, x: Tensor) -> Tensor:
    """The norm of all axes but the first together, then scale and bias by channel."""
    h = functional.layer_norm(x, x.shape[1:], eps=1e-12)
    shape = (-1, *(1,) * (x.ndim - 2))
    return h * norm.scale.view(shape) + norm.bias.view(shape)


def residual(net: Net, x: Tensor, scale: Tensor | None = None, bias: Tensor | None = None):
    """Two convolutions of 3x3, added to their input."""

    def norm(h: Tensor, name: str) -> Tensor:
        if scale is None:
            return instance(h, net[name].scale, net[name].bias)
        return instance(h, scale, bias)

    h = functional.relu(norm(reflected(net["conv0"], x, 1), "norm0"))
    return x + norm(reflected(net["conv1"], h, 1), "norm1")


def shrunk(net: Net, x: Tensor, number: int) -> Tensor:
    """Convolution `number` of an encoder; the second and the third halve the image."""
    padding, stride = ((3, 1), (1, 2), (1, 2))[number]
    return reflected(net[f"conv{number}"], x, padding, stride)


def blocks(net: Net) -> list[str]:
    """The residual blocks of a network."""
    return [name for name in net if name.startswith("res")]


def content(net: Net, x: Tensor) -> Tensor:
    """Images → content codes [B, C, H / 4, W / 4]."""
    for number in range(3):
        norm = net[f"norm{number}"]
        x = functional.relu(instance(shrunk(net, x, number), norm.scale, norm.bias))
    for name in blocks(net):
        x = residual(net[name], x)
    return x


def style(net: Net, x: Tensor) -> Tensor:
    """Images → style codes [B, S]."""
    for number in range(3):
        x = functional.relu(shrunk(net, x, number))
    return net["code"](x.mean((2, 3)))


def hidden(net: Net, x: Tensor, number: str = "") -> Tensor:
    """A linear layer, layer norm, ReLU."""
    return functional.relu(layer_norm(net[f"norm{number}"], net[f"fc{number}"](x)))


def texture(controller: Net, decoder: Net, code: Tensor, styles: Tensor) -> Tensor:
    """Content and style codes → images."""
    h = hidden(controller, hidden(controller, styles, "0"), "1")
    scale, bias = controller["scale"](h), controller["shift"](h)
    for name in blocks(decoder):
        code = residual(decoder[name], code, scale, bias)
    for number in range(2):
        h = reflected(decoder[f"conv{number}"], double(code), 2)
        code = functional.relu(layer_norm(decoder[f"norm{number}"], h))
    return torch.tanh(reflected(decoder["image"], code, 3))


def controls(net: Net, code: Tensor, drop: nn.Module, points: int) -> tuple[Tensor, Tensor]:
    """Content codes → control points and displacements [B, N, 2], in pixels."""
    side, x = 4 * code.shape[-1], code
    for number in range(2):
        h = reflected(net[f"conv{number}"], x, 1, 2)
        x = functional.relu(layer_norm(net[f"conv{number}_norm"], h))
    x = functional.adaptive_avg_pool2d(x, GRID)
    h = drop(hidden(net, x.permute(0, 2, 3, 1).flatten(1)))
    mean = net.point_mean + UNIT * net["points"](h)
    moves = UNIT * net["displacements"](h)
    return (side * mean).view(-1, points, 2), (side * moves).view(-1, points, 2)


def judge(net: Net, x: Tensor, drop: nn.Module) -> tuple[Tensor, Tensor]:
    """Patch logits [B, 3, h, w], and the logits of identities before their scale."""
    for number in range(1, 6):
        x = leaky(reflected(net[f"conv{number}"], x, 1, 2))
    flat = net["bottleneck"](drop(x.permute(0, 2, 3, 1).flatten(1)))
    return net["patch"](x), net["identity"](functional.normalize(flat, eps=1e-6))


class Step:
    """One update of both networks."""

    def __init__(self, ours: Ours, place: Place):
        config, self.place = ours.experiment.config, place
        self.model, self.loss = config.model, config.loss
        self.classes, self.count = ours.experiment.facts.num_classes, ours.images
        self.gen, self.disc = (
            place.net(layers.network(ours.weights(name), {})) for name in ("gen", "disc")
        )
        self.drop = nn.Dropout(1 - config.model.keep_prob)
        parts = {"content": ("content_encoder", content), "style": ("style_encoder", style)}
        self.read = {
            name: place.applied(lambda x, net=net, part=part: part(self.gen[net], x))
            for name, (net, part) in parts.items()
        }
        self.texture = place.applied(
            lambda *codes: texture(self.gen["style_controller"], self.gen["decoder"], *codes)
        )
        self.judge = place.applied(lambda x: judge(self.disc, x, self.drop))
        self.trainers = {
            name: Trainer(config.optim[name], net, ours.stage)
            for name, net in (("gen", self.gen), ("disc", self.disc))
        }
        self.pixels = {name: place.array(ours.pixels[name]) for name in ("input", "target")}
        self.label = place.array(ours.pixels["label"]).long()

    def quieten(self) -> None:
        """Switches dropout off."""
        quiet(self.drop)

    def standardised(self, name: str) -> Tensor:
        """Images as the networks take them."""
        return (self.place.unit(self.pixels[name]) + 1) * (127.5 / 128) - 127.5 / 128

    def __call__(self, batch: dict[str, np.ndarray] | None = None) -> dict[str, Tensor]:
        """One step; `batch` brings the styles `z`."""
        a, b = self.standardised("target"), self.standardised("input")
        shape = (len(b), self.model.style_size)
        given = batch is not None
        z = self.place.array(batch["z"]) if given else torch.randn(shape, device=b.device)
        codes, styles = (self.read[n](torch.cat((a, b))) for n in ("content", "style"))
        code_b = codes[len(a) :]
        made = self.texture(torch.cat((codes, code_b)), torch.cat((styles, z)))
        again_a, again_b, ba = made.split(len(b))
        points, moves = controls(self.gen["warp_controller"], code_b, self.drop, self.model.points)
        warped = warp(ba, points, self.loss.scale * moves, self.loss.regularization)
        patches, identities = self.judge(torch.cat((a, b, warped)))
        patches, identities = patches.split(len(b)), identities.split(len(b))
        identities = [self.model.logit_scale * found for found in identities]
        disc = self.disc_losses(patches, identities)
        gen = self.gen_losses(patches[GENERATED], identities[GENERATED])
        weight = self.loss.reconstruction_weight
        gen["loss/reconstruction_caricature"] = weight * functional.l1_loss(again_a, a)
        gen["loss/reconstruction_photo"] = weight * functional.l1_loss(again_b, b)
        if self.loss.style_reconstruction:
            away = functional.l1_loss(self.read["style"](ba), z)
            gen["loss/style_reconstruction"] = self.loss.style_reconstruction * away
        # both gradients are those at the old weights
        self.trainers["gen"].collect(sum(gen.values()), keep=True)
        self.trainers["disc"].collect(sum(disc.values()))
        for trainer in self.trainers.values():
            trainer.update()
        return values(gen | disc)

    def disc_losses(self, patches: Any, identities: Any) -> dict[str, Tensor]:
        """What A, B and BA are, and who."""
        kinds = (CARICATURE, PHOTO, GENERATED)
        identity = sum(self.entropy(identities[k], self.label + k * self.classes) for k in kinds)
        patch = sum(self.patch(patches[k], k) for k in kinds)
        return {
            "loss/identity_disc": self.loss.identity_weight * identity,
            "loss/patch_disc": self.loss.patch_weight * patch,
        }

    def gen_losses(self, patches: Tensor, identities: Tensor) -> dict[str, Tensor]:
        """BA is to be seen as a caricature of the photo's identity."""
        wanted = self.label + CARICATURE * self.classes
        return {
            "loss/identity_gen": self.loss.identity_weight * self.entropy(identities, wanted),
            "loss/patch_gen": self.loss.patch_weight * self.patch(patches, CARICATURE),
        }

    @staticmethod
    def entropy(logits: Tensor, label: Tensor) -> Tensor:
        """Mean cross entropy."""
        return functional.cross_entropy(logits, label)

    def patch(self, logits: Tensor, kind: int) -> Tensor:
        """Mean cross entropy of all patches with one class."""
        wanted = torch.full((len(logits), *logits.shape[2:]), kind, device=logits.device)
        return functional.cross_entropy(logits, wanted)

    def sample(self, count: int) -> Tensor:
        """`count` caricatures as pixels, uint8."""
        with torch.no_grad():
            x = self.standardised("input")
            x = x.repeat(-(-count // len(x)), 1, 1, 1)[:count]
            code = self.read["content"](x)
            z = torch.randn(count, self.model.style_size, device=x.device)
            made = self.texture(code, z)
            still = nn.Identity()
            points, moves = controls(self.gen["warp_controller"], code, still, self.model.points)
            made = warp(made, points, moves, self.loss.regularization)
        return (made * 128 + 127.5).clamp(0, 255).to(torch.uint8)


def make(ours: Ours, place: Place) -> Step:
    """The step of a config with a pooled warp head and a flat discriminator."""
    return Step(ours, place)
