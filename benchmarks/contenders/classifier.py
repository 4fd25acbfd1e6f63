"""The training step of the small classifier of images in plain PyTorch."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.contenders import layers
from benchmarks.contenders.place import Place, quiet
from benchmarks.contenders.training import Trainer, values
from benchmarks.ours import Ours


def classify(net: nn.ModuleDict, x: torch.Tensor) -> torch.Tensor:
    """Logits [B, K] of images [B, C, H, W]."""
    for level in range(3):
        h = net[f"conv_{level}"](x, 2 if level == 2 else 1, 1)
        x = functional.relu(net[f"conv_{level}_norm"](h))
        x = functional.max_pool2d(x, 2) if level < 2 else x
    h = net["drop"](net["order"](x))
    h = functional.relu(net["hidden_norm"](net["hidden"](h)))
    return net["linear"](net["drop"](h))


class Flat(nn.Module):
    """Maps [B, C, H, W] as rows in our order, channels last."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] → [B, H * W * C]."""
        return x.permute(0, 2, 3, 1).flatten(1)


class Classifying:
    """What steps of classifiers share; `net` is the network, on the device of `place`."""

    def __init__(self, ours: Ours, place: Place, net: nn.Module):
        self.place, self.net = place, net
        optimizer = ours.experiment.config.optim.classifier
        self.trainers = {"classifier": Trainer(optimizer, net, ours.stage)}
        self.pixels = place.array(ours.pixels["image"])
        self.label = place.array(ours.pixels["label"]).long()

    def quieten(self) -> None:
        """Switches dropout off."""
        quiet(self.net)

    def learn(self, logits: torch.Tensor) -> dict[str, torch.Tensor]:
        """One update by the cross entropy of logits [B, K]; the loss."""
        loss = functional.cross_entropy(logits, self.label)
        self.trainers["classifier"].step(loss)
        return values({"loss/classifier": loss})


class Step(Classifying):
    """One update."""

    def __init__(self, ours: Ours, place: Place):
        net = layers.network(ours.weights("classifier"), ours.statistics("classifier"))
        net["drop"], net["order"] = nn.Dropout(0.25), Flat()
        super().__init__(ours, place, place.net(net))
        self.classify = place.applied(lambda x: classify(self.net, x))

    def __call__(self, batch: dict[str, np.ndarray] | None = None) -> dict[str, torch.Tensor]:
        """One step on the same images, whatever the batch brings."""
        return self.learn(self.classify(self.place.unit(self.pixels)))


def make(ours: Ours, place: Place) -> Step:
    """The step of a config with the small network."""
    return Step(ours, place)
