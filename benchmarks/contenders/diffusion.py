"""The training step of a diffusion model with a learned variance in plain PyTorch.

Noise is added; squared error and the term of the bound; AdamW; one average. It leaves out what ours
computes in addition: norms of gradients and weights, losses by quarters of the chain, and the check
for gradients that are not finite.
"""

import math

import numpy as np
import torch

from benchmarks.contenders import unet
from benchmarks.contenders.place import Place, quiet
from benchmarks.contenders.training import Trainer, values
from benchmarks.ours import Ours
from gan_jax.ops.diffusion import noise_schedules


class Step:
    """One update of the U-Net."""

    def __init__(self, ours: Ours, place: Place):
        config, self.place = ours.experiment.config, place
        section = config.discrete
        self.chain = noise_schedules.chain(
            section.schedule, section.steps, rescale=section.rescale_timesteps
        )
        rescaled = section.loss == "rescaled_mse"
        self.share = self.chain.steps / 1000 if rescaled else 1.0  # of the bound's term in the loss
        net = place.net(unet.Network(ours.weights("unet"), config.model))
        self.net, self.denoise = net, place.applied(net.denoise)
        self.trainers = {"unet": Trainer(config.optim.unet, net, ours.stage)}
        self.pixels = place.array(ours.pixels["image"])
        self.tables = {k: v.to(place.device) for k, v in tables_of(self.chain).items()}
        self.sampled_steps = int(config.sampling.steps)

    def quieten(self) -> None:
        """Switches dropout off."""
        quiet(self.net)

    def at(self, t: torch.Tensor) -> dict[str, torch.Tensor]:
        """All tables at the indices t [B], as [B, 1, 1, 1]."""
        return {name: table[t].view(-1, 1, 1, 1) for name, table in self.tables.items()}

    def __call__(self, batch: dict[str, np.ndarray] | None = None) -> dict[str, torch.Tensor]:
        """One step; `batch` brings `level` and `noise`."""
        image = self.place.unit(self.pixels)
        if batch is None:
            t = torch.randint(0, self.chain.steps, (len(image),), device=image.device)
            noise = torch.randn_like(image)
        else:
            t = self.place.array(batch["level"]).long()
            noise = self.place.array(batch["noise"])
        at = self.at(t)
        x = at["signal"] * image + at["sigma"] * noise
        output = self.denoise(x, self.tables["time"][t])
        mse, vb = loss_terms(at, output, image, x, noise, t)
        vb = self.share * vb
        loss = (mse + vb).mean()
        self.trainers["unet"].step(loss)
        return values({"loss/mse": mse.mean(), "loss/vb": vb.mean(), "loss/unet": loss})

    def sample(self, count: int) -> torch.Tensor:
        """`count` images by ancestral sampling along an evenly spaced chain, as pixels, uint8."""
        section = self.chain
        kept = np.linspace(0, section.steps - 1, self.sampled_steps).round().astype(int)
        signals = section.alphas_cumprod[kept]
        x = torch.randn(count, *self.pixels.shape[1:], device=self.place.device)
        x = x.contiguous(memory_format=self.place.order)
        self.net.eval()
        with torch.no_grad():
            for place in reversed(range(len(kept))):
                before = signals[place - 1] if place else 1.0
                x = self._back(x, int(kept[place]), float(signals[place]), float(before))
        self.net.train()
        return ((x + 1) * 127.5).clamp(0, 255).to(torch.uint8)

    def _back(self, x: torch.Tensor, t: int, signal: float, before: float) -> torch.Tensor:
        """One step from the noise level of `signal` to that of `before`."""
        t = torch.full((len(x),), t, device=x.device)
        eps, share = self.denoise(x, self.tables["time"][t]).chunk(2, 1)
        start = ((x - math.sqrt(1 - signal) * eps) / math.sqrt(signal)).clamp(-1, 1)
        beta = 1 - signal / before
        least = max(beta * (1 - before) / (1 - signal), 1e-20)
        mean = math.sqrt(before) * beta / (1 - signal) * start
        mean = mean + math.sqrt(signal / before) * (1 - before) / (1 - signal) * x
        share = (share + 1) / 2
        spread = torch.exp(0.5 * (share * math.log(beta) + (1 - share) * math.log(least)))
        return mean + spread * torch.randn_like(x) if before < 1 else mean


def tables_of(chain: noise_schedules.Chain) -> dict[str, torch.Tensor]:
    """What the step looks up at each index of the chain, float32 [T] by name."""
    recip = 1 / chain.alphas_cumprod
    return unet.tables(
        signal=np.sqrt(chain.alphas_cumprod),
        sigma=np.sqrt(1 - chain.alphas_cumprod),
        a=np.sqrt(recip),
        b=np.sqrt(recip - 1),
        most=np.log(chain.betas),
        least=chain.posterior_log_variance,
        of_start=chain.posterior_mean_coef1,
        of_x=chain.posterior_mean_coef2,
        time=chain.model_times,
    )


def loss_terms(at, output, image, x, noise, t) -> tuple[torch.Tensor, torch.Tensor]:
    """Squared error and the bound's term in bits, [B] each; `at` holds the tables at t."""

    def mean_of(x):
        return x.flatten(1).mean(1)

    def below(z):
        return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))

    eps, share = output.chunk(2, 1)
    share = (share + 1) / 2
    log_var = share * at["most"] + (1 - share) * at["least"]
    start = at["a"] * x - at["b"] * eps.detach()
    mean = at["of_start"] * start + at["of_x"] * x
    gap = at["of_start"] * image + at["of_x"] * x - mean
    ratio = at["least"] - log_var
    kl = 0.5 * (ratio.exp() - 1 - ratio + gap.square() * torch.exp(-log_var))
    per_scale, centred = torch.exp(-0.5 * log_var), image - mean
    above, under = (below(per_scale * (centred + edge)) for edge in (1 / 255, -1 / 255))
    chance = torch.where(image > 0.999, 1 - under, above - under)
    chance = torch.where(image < -0.999, above, chance).clamp(min=1e-12)
    vb = torch.where(t == 0, mean_of(-chance.log()), mean_of(kl)) / math.log(2)
    return mean_of((noise - eps).square()), vb


def make(ours: Ours, place: Place) -> Step:
    """The step of a config with a chain, noise as the target and a learned variance."""
    return Step(ours, place)
