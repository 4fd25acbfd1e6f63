"""The training step of the system `gan` in plain PyTorch."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from benchmarks.contenders import gan_networks, layers
from benchmarks.contenders.place import Place, quiet
from benchmarks.contenders.training import Trainer, values
from benchmarks.ours import Ours

Losses = dict[str, torch.Tensor]


class Step:
    """One update of the generator and the config's number of updates of the discriminator."""

    def __init__(self, ours: Ours, place: Place):
        self.config, self.place = ours.experiment.config, place
        model = self.config.model
        self.gen, self.disc = nets(ours, place)
        draw = gan_networks.GENERATORS[model.gen.name]
        judge = gan_networks.DISCRIMINATORS[model.disc.name]
        squash = model.gen.output
        self.draw = place.applied(partial(draw, self.gen, output=squash))
        self.judge = place.applied(partial(judge, self.disc))
        self.trainers = {
            name: Trainer(self.config.optim[name], net, ours.stage)
            for name, net in (("gen", self.gen), ("disc", self.disc))
        }
        self.pixels = place.array(ours.pixels["image"])
        self.label = place.array(ours.pixels["label"]).long()
        self.fool, self.real, self.fake = LOSSES[self.config.loss.name]

    def quieten(self) -> None:
        """Switches dropout off."""
        quiet(self.gen)
        quiet(self.disc)

    def __call__(self, batch: dict[str, np.ndarray] | None = None) -> Losses:
        """One step; `batch` brings `z` for the fakes."""
        given, config = batch or {}, self.config
        z = self.place.array(given["z"]) if "z" in given else self.noise(len(self.pixels))
        count = config.loss.disc_steps
        if config.loss.order == "discriminator_first":
            found = self.train_disc(z, count)
            gen, _ = self.train_gen(z[::count])
            return values(found | gen)
        gen, fake = self.train_gen(z)
        return values(gen | self.update_disc(self.pixels, self.label, fake))

    def noise(self, count: int) -> torch.Tensor:
        """Latents [count, z_dim]."""
        return torch.randn(count, self.config.model.z_dim, device=self.place.device)

    def classes(self, like: torch.Tensor) -> torch.Tensor:
        """The classes of fakes: one class is drawn, as the facts of the case say."""
        return torch.zeros(len(like), dtype=torch.long, device=self.place.device)

    def train_gen(self, z: torch.Tensor) -> tuple[Losses, torch.Tensor]:
        """One update of the generator; (its loss, the fakes)."""
        label = self.classes(z)
        fake = self.draw(z, label)
        loss = self.fool(self.judge(fake, label)).mean()
        self.trainers["gen"].step(loss)
        return {"loss/gen": loss}, fake.detach()

    def train_disc(self, z: torch.Tensor, count: int) -> Losses:
        """`count` updates of the discriminator, each on images and fakes of its own."""
        rows = []
        for part in range(count):
            own = z[part::count]
            with torch.no_grad():
                fake = self.draw(own, self.classes(own))
            rows.append(self.update_disc(self.pixels[part::count], self.label[part::count], fake))
        return {name: torch.stack([row[name] for row in rows]).mean() for name in rows[0]}

    def update_disc(self, pixels: torch.Tensor, label: torch.Tensor, fake: torch.Tensor) -> Losses:
        """One update of the discriminator on real images and fakes."""
        loss, x = self.config.loss, self.place.unit(pixels)
        x.requires_grad_(loss.r1 > 0)
        logit = self.judge(x, label)
        judged = self.judge(fake, self.classes(fake))
        total = self.real(logit).mean() + self.fake(judged).mean()
        terms = {"loss/disc": loss.disc_weight * total}
        if loss.r1:
            (slope,) = torch.autograd.grad(logit.sum(), x, create_graph=True)
            terms["loss/r1"] = 0.5 * loss.r1 * slope.square().flatten(1).sum(1).mean()
        self.trainers["disc"].step(sum(terms.values()))
        return {name: term.detach() for name, term in terms.items()}

    def sample(self, count: int) -> torch.Tensor:
        """`count` images of the generator as pixels, uint8."""
        self.gen.eval()
        with torch.no_grad():
            z = self.noise(count)
            made = self.draw(z, self.classes(z))
        self.gen.train()
        return ((made + 1) * 127.5).clamp(0, 255).to(torch.uint8)


LOSSES: dict[str, tuple[Callable[..., Any], ...]] = {
    # of the generator on fakes, and of the discriminator on real images and on fakes
    "non_saturating": (
        lambda logit: functional.softplus(-logit),
        lambda logit: functional.softplus(-logit),
        functional.softplus,
    ),
    "hinge": (
        torch.neg,
        lambda logit: functional.relu(1 - logit),
        lambda logit: functional.relu(1 + logit),
    ),
}


def nets(ours: Ours, place: Place) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Generator and discriminator with our weights."""
    dense = ours.weights("gen").get("dense", {}).get("kernel")
    size = 0
    if dense is not None:
        names = ours.weights("gen")
        doublings = sum(name.startswith("deconv_") and not name.endswith("norm") for name in names)
        doublings = doublings or sum(name.endswith("conv_0") for name in names)
        size = ours.experiment.facts.resolution // 2**doublings
    eps = gan_networks.EPS.get(ours.experiment.config.model.gen.name, 1e-5)
    reading = layers.Reading(("deconv",), {"dense": size} if size else {}, eps=eps)
    return tuple(
        place.net(layers.network(ours.weights(name), ours.statistics(name), reading))
        for name in ("gen", "disc")
    )


def make(ours: Ours, place: Place) -> Step:
    """The step of a config with dense, plain convolutional or residual networks."""
    return Step(ours, place)
