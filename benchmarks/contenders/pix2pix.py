"""The training step of pix2pix with PyTorch-GAN's networks in plain PyTorch."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.contenders import layers
from benchmarks.contenders.gan_networks import double, leaky
from benchmarks.contenders.place import Place, quiet
from benchmarks.contenders.training import Trainer, values
from benchmarks.ours import Ours

DROPOUT_FROM = 4  # level, on the way down and up


def normed(x: torch.Tensor) -> torch.Tensor:
    """Instance norm, except for single pixels."""
    return functional.instance_norm(x) if x.shape[-1] > 1 else x


def translate(net: nn.ModuleDict, x: torch.Tensor) -> torch.Tensor:
    """The U-Net."""
    depth, skips = sum(name.startswith("down") for name in net), []
    for level in range(1, depth + 1):
        x = net[f"down{level}"](x, 2, 1)
        x = leaky(normed(x) if 1 < level < depth else x)
        x = net["drop"](x) if level >= DROPOUT_FROM else x
        skips.append(x)
    for number in range(1, depth):
        level = depth - number
        x = functional.relu(normed(net[f"up{number}"](x)))
        x = net["drop"](x) if level >= DROPOUT_FROM else x
        x = torch.cat((x, skips[level - 1]), 1)
    return torch.tanh(net["final"](functional.pad(double(x), (1, 0, 1, 0)), 1, 1))


def judge(net: nn.ModuleDict, image: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
    """Four convolutions of stride 2 and a last one."""
    x = torch.cat((image, condition), 1)
    for k in range(4):
        x = net[f"conv_{k}"](x, 2, 1)
        x = leaky(normed(x) if k else x)
    return net["conv_4"](functional.pad(x, (1, 0, 1, 0)), 1, 1)


class Step:
    """Generator first; its fakes are shown to the discriminator again."""

    def __init__(self, ours: Ours, place: Place):
        config = ours.experiment.config
        self.config, self.place = config, place
        reading = layers.Reading(("up",))
        nets = {name: layers.network(ours.weights(name), {}, reading) for name in ("gen", "disc")}
        nets["gen"]["drop"] = nn.Dropout(config.model.gen.dropout)
        self.nets = {name: place.net(net) for name, net in nets.items()}
        self.translate = place.applied(lambda x: translate(self.nets["gen"], x))
        self.judge = place.applied(lambda image, x: judge(self.nets["disc"], image, x))
        self.trainers = {
            name: Trainer(config.optim[name], net, ours.stage) for name, net in self.nets.items()
        }
        self.pixels = {name: place.array(ours.pixels[name]) for name in ("input", "target")}

    def quieten(self) -> None:
        """Switches dropout off."""
        quiet(self.nets["gen"])

    def __call__(self, batch: dict[str, np.ndarray] | None = None) -> dict[str, torch.Tensor]:
        """One step on the same pairs, whatever the batch brings."""
        x, y = (self.place.unit(self.pixels[name]) for name in ("input", "target"))
        fake = self.translate(x)
        gan = functional.mse_loss(*_against(self.judge(fake, x), 1.0))
        l1 = self.config.loss.l1_weight * functional.l1_loss(fake, y)
        self.trainers["gen"].step(gan + l1)
        real = functional.mse_loss(*_against(self.judge(y, x), 1.0))
        made = functional.mse_loss(*_against(self.judge(fake.detach(), x), 0.0))
        disc = self.config.loss.disc_weight * (real + made)
        self.trainers["disc"].step(disc)
        return values({"loss/gan": gan, "loss/l1_weighted": l1, "loss/disc": disc})

    def sample(self, count: int) -> torch.Tensor:
        """`count` outputs as pixels, uint8; without dropout."""
        net = self.nets["gen"].eval()
        with torch.no_grad():
            x = self.place.unit(self.pixels["input"])
            made = self.translate(x.repeat(-(-count // len(x)), 1, 1, 1)[:count])
        net.train()
        return ((made + 1) * 127.5).clamp(0, 255).to(torch.uint8)


def _against(logits: torch.Tensor, target: float) -> tuple[torch.Tensor, torch.Tensor]:
    return logits, torch.full_like(logits, target)


def make(ours: Ours, place: Place) -> Step:
    """The step of a config with PyTorch-GAN's networks."""
    return Step(ours, place)
