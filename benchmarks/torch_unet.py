"""guided-diffusion's U-Net and its loss in plain PyTorch, for benchmarks/diffusion.py."""

import math
from collections import OrderedDict
from typing import NamedTuple

import numpy as np

from gan_jax.models import unet
from gan_jax.ops.diffusion import noise_schedules

try:
    import torch
except ImportError:
    torch = None

Module = torch.nn.Module if torch else object
COLOURS = 3


class Shape(NamedTuple):
    """A U-Net and its batch."""

    side: int
    batch: int
    width: int
    multipliers: tuple[int, ...]
    blocks: int
    attention: tuple[int, ...]  # sides of the maps with attention

    def __str__(self) -> str:
        return f"{self.side}x{self.side}, {self.batch} images, {self.width} x {self.multipliers}"


class Residual(Module):
    """Two convolutions; between them the embedding of the time scales and shifts the maps."""

    def __init__(self, inputs: int, outputs: int, width: int):
        super().__init__()
        nn = torch.nn
        self.in_layers_0 = nn.GroupNorm(32, inputs)
        self.in_layers_2 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.emb_layers_1 = nn.Linear(4 * width, 2 * outputs)
        self.out_layers_0 = nn.GroupNorm(32, outputs)
        self.out_layers_3 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip_connection = nn.Identity()
        if inputs != outputs:
            self.skip_connection = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x, embedding):
        silu = torch.nn.functional.silu
        h = self.in_layers_2(silu(self.in_layers_0(x)))
        scale, shift = self.emb_layers_1(silu(embedding))[:, :, None, None].chunk(2, 1)
        h = self.out_layers_0(h) * (1 + scale) + shift
        return self.skip_connection(x) + self.out_layers_3(silu(h))


class Attention(Module):
    """Softmax attention over all pixels, queries, keys and values head by head."""

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm = torch.nn.GroupNorm(32, channels)
        self.qkv = torch.nn.Conv2d(channels, 3 * channels, 1)
        self.proj_out = torch.nn.Conv2d(channels, channels, 1)

    def forward(self, x, _):
        batch, channels = x.shape[:2]
        parts = self.qkv(self.norm(x)).reshape(batch, self.heads, 3, channels // self.heads, -1)
        q, k, v = parts.unbind(2)  # [B, heads, channels of a head, H·W]
        weights = torch.softmax(q.mT @ k / math.sqrt(q.shape[2]), dim=-1)
        return x + self.proj_out((v @ weights.mT).reshape(x.shape))


class Resized(Module):
    """A convolution that halves the map, or one after enlarging it twice by nearest neighbour."""

    def __init__(self, channels: int, up: bool):
        super().__init__()
        conv = torch.nn.Conv2d(channels, channels, 3, 1 if up else 2, 1)
        enlarge = [("enlarge", torch.nn.Upsample(scale_factor=2))] if up else []
        self.layers = torch.nn.Sequential(OrderedDict([*enlarge, ("conv" if up else "op", conv)]))

    def forward(self, x, _):
        return self.layers(x)


class Plain(Module):
    """A layer that does not read the embedding."""

    def __init__(self, layer):
        super().__init__()
        self.layers = layer

    def forward(self, x, _):
        return self.layers(x)


class UNet(Module):
    """guided-diffusion's U-Net in plain PyTorch, with our names for its layers."""

    def __init__(self, shape: Shape, heads: int):
        super().__init__()
        nn, self.width = torch.nn, shape.width
        wide = 4 * shape.width
        self.parts = nn.ModuleDict()
        self.encoder, self.decoder = [], []  # names of the parts of each block
        self.time = nn.ModuleDict(
            dict(time_embed_0=nn.Linear(shape.width, wide), time_embed_2=nn.Linear(wide, wide))
        )

        def add(name: str, *blocks) -> list[str]:
            names = [f"{name}_{i}" for i in range(len(blocks))]
            self.parts.update(zip(names, blocks, strict=True))
            return names

        def encode(*blocks) -> None:
            self.encoder.append(add(f"input_blocks_{len(self.encoder)}", *blocks))
            kept.append(channels)

        last, kept, channels = len(shape.multipliers) - 1, [], shape.multipliers[0] * shape.width
        encode(Plain(nn.Conv2d(COLOURS, channels, 3, padding=1)))
        for level, times in enumerate(shape.multipliers):
            attends = shape.side >> level in shape.attention
            for _ in range(shape.blocks):
                block = Residual(channels, times * shape.width, shape.width)
                channels = times * shape.width
                encode(block, *([Attention(channels, heads)] if attends else []))
            if level < last:
                encode(Resized(channels, up=False))

        def block():
            return Residual(channels, channels, shape.width)

        self.middle = add("middle_block", block(), Attention(channels, heads), block())
        for level, times in reversed(list(enumerate(shape.multipliers))):
            attends = shape.side >> level in shape.attention
            for i in range(shape.blocks + 1):
                blocks = [Residual(channels + kept.pop(), times * shape.width, shape.width)]
                channels = times * shape.width
                blocks += [Attention(channels, heads)] if attends else []
                blocks += [Resized(channels, up=True)] if level and i == shape.blocks else []
                self.decoder.append(add(f"output_blocks_{len(self.decoder)}", *blocks))
        self.out = nn.ModuleDict(
            dict(
                out_0=nn.GroupNorm(32, channels),
                out_2=nn.Conv2d(channels, 2 * COLOURS, 3, padding=1),
            )
        )

    def forward(self, x, time):
        silu = torch.nn.functional.silu
        rates = torch.exp(torch.arange(self.width // 2) * (-math.log(10000) / (self.width // 2)))
        angles = time[:, None].float() * rates
        embedding = self.time["time_embed_0"](torch.cat((angles.cos(), angles.sin()), 1))
        embedding = self.time["time_embed_2"](silu(embedding))

        def run(names, x):
            for name in names:
                x = self.parts[name](x, embedding)
            return x

        maps = []
        for names in self.encoder:
            x = run(names, x)
            maps.append(x)
        x = run(self.middle, x)
        for names in self.decoder:
            x = run(names, torch.cat((x, maps.pop()), 1))
        return self.out["out_2"](silu(self.out["out_0"](x)))

    def load(self, params: dict) -> None:
        """Copies our weights. Raises ValueError unless the number of weights is the same here."""
        count = sum(p.numel() for p in self.parameters())
        if count != unet.count(params):
            raise ValueError(f"ours has {unet.count(params)} parameters, the rendition {count}")
        for name, parameter in self.named_parameters():
            *path, leaf = [part for part in name.split(".")[1:] if part != "layers"]
            found = params
            for part in path:
                found = found[part]
            if leaf == "weight":
                leaf = "kernel" if "kernel" in found else "scale"
            value = np.asarray(found[leaf])
            value = value.transpose((3, 2, 0, 1) if value.ndim == 4 else None)
            parameter.data.copy_(torch.tensor(value.copy()).reshape(parameter.shape))


def loss_terms(chain: noise_schedules.Chain):
    """(output, image, x, noise, t) → squared error and the bound's term in bits, [B] each."""
    recip = 1 / chain.alphas_cumprod
    tables = dict(
        a=np.sqrt(recip), b=np.sqrt(recip - 1), most=np.log(chain.betas),
        least=chain.posterior_log_variance, of_start=chain.posterior_mean_coef1,
        of_x=chain.posterior_mean_coef2,
    )  # fmt: skip
    tables = {k: torch.tensor(v, dtype=torch.float32) for k, v in tables.items()}

    def mean_of(x):
        return x.flatten(1).mean(1)

    def below(z):
        return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))

    def terms(output, image, x, noise, t):
        at = {k: v[t].view(-1, 1, 1, 1) for k, v in tables.items()}
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

    return terms
