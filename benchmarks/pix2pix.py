"""Times of a pix2pix training step and of its layers, compared with plain PyTorch code.

    make bench-pix2pix         sets up an environment with PyTorch, then runs
    python -m benchmarks.pix2pix --batches=1,4 --seconds=30 --layers

The step has 256x256 pixels, PyTorch-GAN's networks and order (generator first), dropout, least
squares, L1 and Adam. Both contenders run in turn in one process, a few steps each, until `seconds`
have passed; a cell is the fastest step of each. `--layers` also measures every convolution of the
generator alone, forward and backward.
"""

import argparse

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks import layers
from gan_jax import config as configs
from gan_jax.core.system import Facts
from gan_jax.run.experiment import Experiment

try:
    import torch
except ImportError:
    torch = None

SIZE = 256
CHANNELS = (3, 64, 128, 256, 512, 512, 512, 512, 512)
# (transposed, side of what goes in, channels in and out): down1 … down8, up1 … up7
DOWN = tuple((False, SIZE >> i, CHANNELS[i], CHANNELS[i + 1]) for i in range(8))
UP = tuple((True, 2**i, CHANNELS[8 - i] * (1 if i == 0 else 2), CHANNELS[7 - i]) for i in range(7))


def config(batch: int) -> ConfigDict:
    """PyTorch-GAN's pix2pix, on synthetic pairs of 256 px."""
    made = configs.defaults("pix2pix")
    made.data.update(source="synthetic", pairs="side_by_side", resolution=SIZE, channels="rgb")
    made.batch_size = batch
    return made


def batch_of(experiment: Experiment) -> dict[str, np.ndarray]:
    """Pairs of noise, uint8 [B, H, W, C]."""
    random = np.random.default_rng(0)
    return {
        name: random.integers(0, 256, zeros.shape).astype(np.uint8)
        for name, zeros in experiment.batch().items()
    }


def torch_generator():
    """The U-Net as a function of its layers, in plain PyTorch."""
    nn = torch.nn
    down = nn.ModuleList(
        nn.Sequential(
            nn.Conv2d(i, o, 4, 2, 1, bias=False),
            *([nn.InstanceNorm2d(o)] if 0 < n < 7 else []),
            nn.LeakyReLU(0.2),
            *([nn.Dropout(0.5)] if n >= 3 else []),
        )
        for n, (_, _, i, o) in enumerate(DOWN)
    )
    up = nn.ModuleList(
        nn.Sequential(
            nn.ConvTranspose2d(i, o, 4, 2, 1, bias=False),
            nn.InstanceNorm2d(o),
            nn.ReLU(inplace=True),
            *([nn.Dropout(0.5)] if n < 4 else []),
        )
        for n, (_, _, i, o) in enumerate(UP)
    )
    last = nn.Sequential(
        nn.Upsample(scale_factor=2), nn.ZeroPad2d((1, 0, 1, 0)), nn.Conv2d(128, 3, 4, padding=1)
    )

    class UNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.down, self.up, self.last = down, up, last

        def forward(self, x):
            skips = []
            for block in self.down:
                x = block(x)
                skips.append(x)
            for block, skip in zip(self.up, skips[-2::-1], strict=True):
                x = torch.cat((block(x), skip), 1)
            return torch.tanh(self.last(x))

    return UNet()


def torch_discriminator():
    """Four convolutions of stride 2 and a last one, in plain PyTorch."""
    nn, widths = torch.nn, (6, 64, 128, 256, 512)
    blocks = []
    for n in range(4):
        blocks += [nn.Conv2d(widths[n], widths[n + 1], 4, 2, 1)]
        blocks += [nn.InstanceNorm2d(widths[n + 1])] if n else []
        blocks += [nn.LeakyReLU(0.2, inplace=True)]
    return nn.Sequential(
        *blocks, nn.ZeroPad2d((1, 0, 1, 0)), nn.Conv2d(512, 1, 4, padding=1, bias=False)
    )


def torch_step(experiment: Experiment) -> layers.Call:
    """The same step: generator first, its fakes shown to the discriminator again.

    It leaves out what ours measures in addition: gradient norms and accuracies.
    """
    gen, disc = torch_generator(), torch_discriminator()
    layers.check_size(experiment, {"gen": gen, "disc": disc})
    pixels = {
        name: torch.tensor(a.transpose(0, 3, 1, 2).copy())
        for name, a in batch_of(experiment).items()
    }
    adam = {
        net: torch.optim.Adam(module.parameters(), lr=o.lr, betas=(o.b1, o.b2), eps=o.eps)
        for net, module, o in (
            ("gen", gen, experiment.config.optim.gen),
            ("disc", disc, experiment.config.optim.disc),
        )
    }

    def square(logits, target):
        return torch.mean((logits - target) ** 2)

    def call():
        x, y = (pixels[name].float() / 127.5 - 1 for name in ("input", "target"))
        fake = gen(x)
        adam["gen"].zero_grad()
        total = square(disc(torch.cat((fake, x), 1)), 1.0) + 100 * torch.mean((fake - y).abs())
        total.backward()
        adam["gen"].step()
        adam["disc"].zero_grad()
        real = square(disc(torch.cat((y, x), 1)), 1.0)
        (0.5 * (real + square(disc(torch.cat((fake.detach(), x), 1)), 0.0))).backward()
        adam["disc"].step()

    return call


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", default="1,4", help="batch sizes")
    parser.add_argument("--seconds", type=float, default=30.0, help="per row")
    parser.add_argument("--layers", action="store_true", help="also every convolution alone")
    options = parser.parse_args()
    beside = layers.beside()
    versions = f"jax {jax.__version__}" + (f", torch {torch.__version__}" if beside else "")
    print(f"{versions} on {jax.devices()[0].device_kind}, {jax.default_backend()}")
    print("fastest call in milliseconds (as a multiple of torch)")
    for batch in map(int, options.batches.split(",")):
        # only the sizes of the data are needed
        experiment = Experiment(config(batch), Facts(SIZE, 3, 0, batch, input_channels=3))
        steps = {"gan_jax": layers.jax_step(experiment, batch=batch_of(experiment))}
        if beside:
            steps["torch"] = torch_step(experiment)
        print(layers.row(f"pix2pix: a step of {batch}", layers.race(steps, options.seconds)))
        if not options.layers:
            continue
        for transposed, size, channels, features in (*DOWN, *UP):
            contenders = layers.layer(transposed, batch, size, channels, features)
            del contenders["native"]
            title = f"  {'up' if transposed else 'down'} {size} px, {channels} to {features}"
            print(layers.row(title, layers.race(contenders, options.seconds / 15)), flush=True)


if __name__ == "__main__":
    main()
