"""The training step of a classifier of noisy images in plain PyTorch."""

import numpy as np
import torch

from benchmarks.contenders import unet
from benchmarks.contenders.classifier import Classifying
from benchmarks.contenders.place import Place
from benchmarks.ours import Ours
from gan_jax.ops.diffusion import noise_schedules


class Step(Classifying):
    """One update of the encoder with an attention pool."""

    def __init__(self, ours: Ours, place: Place):
        config = ours.experiment.config
        net = place.net(unet.Network(ours.weights("classifier"), config.model))
        super().__init__(ours, place, net)
        self.classify = place.applied(net.classify)
        section = config.discrete
        chain = noise_schedules.chain(
            section.schedule, section.steps, rescale=section.rescale_timesteps
        )
        self.steps = chain.steps
        found = unet.tables(
            signal=np.sqrt(chain.alphas_cumprod),
            sigma=np.sqrt(1 - chain.alphas_cumprod),
            time=chain.model_times,
        )
        self.tables = {name: table.to(place.device) for name, table in found.items()}

    def __call__(self, batch: dict[str, np.ndarray] | None = None) -> dict[str, torch.Tensor]:
        """One step; `batch` brings `t` and `noise`."""
        image = self.place.unit(self.pixels)
        if batch is None:
            t = torch.randint(0, self.steps, (len(image),), device=image.device)
            noise = torch.randn_like(image)
        else:
            t, noise = self.place.array(batch["t"]).long(), self.place.array(batch["noise"])
        signal, sigma = (self.tables[n][t].view(-1, 1, 1, 1) for n in ("signal", "sigma"))
        logits = self.classify(signal * image + sigma * noise, self.tables["time"][t])
        return self.learn(logits)


def make(ours: Ours, place: Place) -> Step:
    """The step of a config with an attention pool."""
    return Step(ours, place)
