"""Times of ProGAN's training step, compared with PyTorch and with images of the final size.

    make bench-progan          sets up an environment with PyTorch, then runs
    python -m benchmarks.progan --parts=step --width=2048/128 --seconds=60
    python -m benchmarks.progan --parts=native --small

step     The stage after the last fade, with 16 images of 32x32 pixels. The PyTorch code evaluates
         the lower side as ours does, with weight 0. "no lower side" leaves it out, which is
         possible after a fade, and "4x4 kernels" resizes inside the convolutions, as ours does with
         fused_scale.
native   The 4x4 stage of a 256x256 run, with 8 images: on images of 4x4, as gan_jax trains, and on
         images of the final size. "around" enlarges them after the generator and shrinks them
         before the discriminator: the structure "recursive", with which the original trains.
         "linear" evaluates and blends all levels, the original's other structure.

Contenders run in turn in one process, a step each, until `seconds` have passed, with as many
threads as there are cores. Before they are timed, their losses must agree for the same weights and
inputs. A line shows the median step, then the fastest. If other programs are running, restrict all
contenders to one core, as in benchmarks/layers.py: taskset -c 0 python -m benchmarks.progan
"""

import argparse
import dataclasses
import os
import statistics
import time
from collections.abc import Iterator
from unittest import mock

import flax.linen as nn
import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks import layers, torch_progan
from gan_jax import config as configs
from gan_jax.core import train_step
from gan_jax.core.system import Facts
from gan_jax.models import progan as networks
from gan_jax.models.layers import MinibatchStddev, average_pool, leaky_relu, upsample
from gan_jax.run.experiment import Experiment

try:
    import torch
except ImportError:
    torch = None

SIDE, FINAL = 32, 256  # of the step; of the run whose stage of 4 px is timed
SMALLEST = networks.SMALLEST
COLOURS = 3
LOSSES = ("loss/disc", "loss/gradient_penalty", "loss/drift", "loss/gen")


def config(final: int, batch: int, width: str, fused: bool = True) -> ConfigDict:
    """A config without classes, from 4 px to `final`; `width` is "fmap_base/fmap_max"."""
    made = configs.defaults("progan")
    base, most = map(int, width.split("/"))
    made.data.update(source="synthetic", resolution=final, channels="rgb")
    made.batch_size = batch
    made.growth.update(preset="none", training_kimg=30.0, transition_kimg=30.0)
    made.model.update(fmap_base=base, fmap_max=most, conditional=False, minibatch_stddev=4)
    made.model.update(fused_scale=fused)
    made.run.steps = f"{60000 * (final.bit_length() - 2)} images"  # to the end of the last stage
    return made


def setup_of(made: ConfigDict) -> Experiment:
    return Experiment(made, Facts(made.data.resolution, COLOURS, 0, 60000))


def inputs(experiment: Experiment, side: int, batch: int) -> Iterator[dict[str, np.ndarray]]:
    """The inputs of a step: images [B, side, side, C] in [-1, 1], latents, mixing weights."""
    random, z_dim = np.random.default_rng(0), experiment.system.latents
    while True:
        yield {
            "real": random.uniform(-1, 1, (batch, side, side, COLOURS)).astype(np.float32),
            "z_disc": random.normal(size=(batch, z_dim)).astype(np.float32),
            "z_gen": random.normal(size=(batch, z_dim)).astype(np.float32),
            "mixing": random.uniform(size=(batch, 1, 1, 1)).astype(np.float32),
            "label": np.zeros((batch,), np.int32),
            "label_gen": np.zeros((batch,), np.int32),
        }


class Ours:
    """A system's step as the loop runs it, metrics included, from the beginning of a stage."""

    def __init__(self, experiment: Experiment, stage, batch: dict[str, np.ndarray]):
        """`batch`: the batch that calls without arguments train on."""
        self.experiment, self.stage, self.batch = experiment, stage, experiment.mesh.put(batch)
        self.train = train_step.train_function(experiment.system, experiment.mesh)
        carry = train_step.fresh(experiment.system, experiment.mesh, experiment.key, batch)
        begun = experiment.mesh.copy(np.int32(stage.start))
        self.carry = carry._replace(state=carry.state.replace(step=begun))

    def __call__(self, batch: dict[str, np.ndarray] | None = None) -> dict[str, float]:
        batch = self.batch if batch is None else self.experiment.mesh.put(batch)
        self.carry, metrics = self.train(self.carry, batch, self.experiment.key, self.stage)
        jax.block_until_ready((self.carry, metrics))
        return metrics


def agree(contenders: dict, steps: int, *batches: Iterator[dict]) -> None:
    """Raises AssertionError unless all have equal losses for some steps. Trains each of them.

    `batches`: for each contender its own form of the same inputs.
    """
    for number in range(steps):
        expected = None
        for (name, call), batch in zip(contenders.items(), batches, strict=True):
            metrics = call(next(batch))
            values = np.array([float(metrics[n]) for n in LOSSES])
            expected = values if expected is None else expected
            message = f"losses of {name} in step {number}"
            np.testing.assert_allclose(values, expected, rtol=1e-3, atol=1e-3, err_msg=message)


def race(contenders: dict, seconds: float, rounds: int = 3) -> dict[str, list[float]]:
    """Milliseconds of every step. All run in turn for `seconds`, and at least `rounds` times."""
    for call in contenders.values():
        call()  # compiles, allocates
    times = {name: [] for name in contenders}
    end = time.perf_counter() + seconds
    while len(times[next(iter(times))]) < rounds or time.perf_counter() < end:
        for name, call in contenders.items():
            began = time.perf_counter()
            call()
            times[name].append(1e3 * (time.perf_counter() - began))
    return times


def report(times: dict[str, list[float]], against: str, slower: bool = False) -> None:
    """Prints a line for each: the median and the fastest step, and for both how many times as fast
    as `against` it is, or with `slower` how many times as long it takes."""
    base = times.get(against)
    for name, own in times.items():
        middle, least = statistics.median(own), min(own)
        line = f"  {name:30s}{middle:11.1f} {least:11.1f}"
        if base and name != against:
            ratios = [statistics.median(base) / middle, min(base) / least]
            ratios = [1 / ratio for ratio in ratios] if slower else ratios
            line += f"   {ratios[0]:8.2f} {ratios[1]:8.2f}"
        print(f"{line}   ({len(own)} steps)", flush=True)


def torch_step(ours: Ours, pixels: np.ndarray, lower: bool = True, fused: bool = False):
    """The same step from the same weights: WGAN-GP with drift, Adam, average, discriminator first.

    It leaves out what ours computes in addition: gradient norms, and the check for gradients that
    are not finite.
    """
    made, nets = ours.experiment.config, ours.carry.state.nets
    gen, disc = (torch_progan.layers_of(nets[n].params) for n in ("gen", "disc"))
    adam = {
        name: torch.optim.Adam(net.parameters(), lr=o.lr, betas=(o.b1, o.b2), eps=o.eps, fused=True)
        for name, net, o in (("gen", gen, made.optim.gen), ("disc", disc, made.optim.disc))
    }
    weights = {name: list(net.parameters()) for name, net in (("gen", gen), ("disc", disc))}
    average = [p.detach().clone() for p in weights["gen"]]
    fade, late = torch.tensor(0.0) if lower else None, made.model.fused_scale

    def draw(z):
        return torch_progan.generator(gen, z, fade, fused)

    def judge(x):
        return torch_progan.discriminator(disc, x, fade, fused, late)

    def halved(x):
        return torch.nn.functional.avg_pool2d(x, 2)

    count, z_dim = len(pixels), ours.experiment.system.latents
    pixels = torch.tensor(pixels.transpose(0, 3, 1, 2).copy())  # uint8

    def call(batch=None):
        if batch is None:
            real = pixels.float() / 127.5 - 1
            if lower:
                real = torch.lerp(
                    real, torch.nn.functional.interpolate(halved(real), scale_factor=2), fade
                )
            z_disc, z_gen = torch.randn(2, count, z_dim)
            mixing = torch.rand(count, 1, 1, 1)
        else:
            real = torch.tensor(batch["real"].transpose(0, 3, 1, 2).copy())
            z_disc, z_gen, mixing = (torch.tensor(batch[n]) for n in ("z_disc", "z_gen", "mixing"))
        with torch.no_grad():
            fake = draw(z_disc)
        real_score, fake_score = judge(real), judge(fake)
        mixed = torch.lerp(real, fake, mixing).requires_grad_()
        (slope,) = torch.autograd.grad(judge(mixed).sum(), mixed, create_graph=True)
        penalty = made.loss.gradient_penalty * (slope.flatten(1).norm(dim=1) - 1).square().mean()
        drift = made.loss.drift * real_score.square().mean()
        critic = fake_score.mean() - real_score.mean()
        adam["disc"].zero_grad()
        (critic + penalty + drift).backward(inputs=weights["disc"])
        adam["disc"].step()
        with torch.no_grad():
            torch._foreach_lerp_(average, weights["gen"], 1 - made.optim.gen.ema[0])
        adam["gen"].zero_grad()
        loss = -judge(draw(z_gen)).mean()
        loss.backward(inputs=weights["gen"])
        adam["gen"].step()
        return {n: v.item() for n, v in zip(LOSSES, (critic, penalty, drift, loss), strict=True)}

    return call


# images of the final size


BUILD = networks.build


def enlarge(x, times: int):
    """Nearest neighbour: [B, H, W, C] → [B, times * H, times * W, C]."""
    b, h, w, c = x.shape
    x = jax.numpy.broadcast_to(x[:, :, None, :, None], (b, h, times, w, times, c))
    return x.reshape(b, h * times, w * times, c)


def shrink(x, times: int):
    """Means: [B, H, W, C] → [B, H / times, W / times, C]."""
    b, h, w, c = x.shape
    return x.reshape(b, h // times, times, w // times, times, c).mean((2, 4))


def around(*arguments):
    """networks.build for layers of the smallest side, with images of the final size around them."""
    gen, disc = BUILD(*arguments)
    times = FINAL // SMALLEST

    def draw(params, stats, z, label, side, fade):
        image, stats = gen.apply(params, stats, z, label, SMALLEST, fade)
        return enlarge(image, times), stats

    def judge(params, stats, image, label, side, fade):
        return disc.apply(params, stats, shrink(image, times), label, SMALLEST, fade)

    return gen._replace(apply=draw), disc._replace(apply=judge)


class LinearGenerator(networks.Generator):
    """All levels are evaluated; `fade` is the weight of the lower side at each."""

    @nn.compact
    def __call__(self, z, label, side, fade, train=False):
        def finish(h):
            return networks.pixel_norm(leaky_relu(h))

        def see(x, at):
            return self.layer(f"to_rgb{at}", self.channels, kernel_size=1, gain=1.0)(x)

        x = networks.pixel_norm(jax.numpy.concatenate([z, label], axis=-1))
        x = finish(networks.Spread(self.width(SMALLEST), name="block4_dense")(x))
        x = finish(self.layer("block4_conv", self.width(SMALLEST))(x))
        image, at = see(x, SMALLEST), SMALLEST
        while at < self.resolution:
            at *= 2
            x = finish(self.layer(f"block{at}_conv0", self.width(at), resize="up")(x))
            x = finish(self.layer(f"block{at}_conv1", self.width(at))(x))
            rgb = see(x, at)
            image = rgb + (upsample(image) - rgb) * fade
        return image


class LinearDiscriminator(networks.Discriminator):
    """All levels are evaluated; `fade` is the weight of the lower side at each."""

    @nn.compact
    def __call__(self, image, label, side, fade, train=False):
        def see(image, at):
            return leaky_relu(self.layer(f"from_rgb{at}", self.width(at), kernel_size=1)(image))

        at = self.resolution
        x = see(image, at)
        while at > SMALLEST:
            x = leaky_relu(self.layer(f"block{at}_conv0", self.width(at))(x))
            at //= 2
            conv = self.layer(f"block{2 * at}_conv1", self.width(at), resize="down")
            x = leaky_relu(conv(x))
            image = average_pool(image)
            x = x + (see(image, at) - x) * fade
        x = MinibatchStddev(self.group)(x)
        x = leaky_relu(self.layer("block4_conv", self.width(SMALLEST))(x))
        x = x.reshape(x.shape[0], -1)
        x = leaky_relu(self.layer("block4_dense0", self.width(2), kernel_size=0)(x))
        x = self.layer("block4_dense1", 1, kernel_size=0, gain=1.0)(x)
        return x[:, 0], x[:, 1:]


FULL = {
    "around": dict(build=around),
    "linear": dict(Generator=LinearGenerator, Discriminator=LinearDiscriminator),
}


def final_size(made: ConfigDict, form: str, batch: dict[str, np.ndarray]) -> Ours:
    """The same system with images of the final size; `batch` holds them as "real".

    At the run's first step the weight of the lower side of a stage of 256 px is 1.
    """
    with mock.patch.multiple(networks, **FULL[form]):
        experiment = setup_of(made)
        stage = dataclasses.replace(experiment.system.stages[0], resolution=FINAL)
        return Ours(experiment, stage, batch)


def step_part(width: str, batch: int, seconds: float) -> None:
    print(f"\nstep: {SIDE}x{SIDE}, {batch} images, channels {width}")
    pixels = np.random.default_rng(1).integers(0, 256, (batch, SIDE, SIDE, COLOURS), np.uint8)
    given = {"image": pixels, "label": np.zeros((batch,), np.int32)}
    contenders = {}
    for name, fused in (("gan_jax", True), ("gan_jax, not fused_scale", False)):
        experiment = setup_of(config(SIDE, batch, width, fused))
        ours = Ours(experiment, experiment.system.stages[-1], given)
        twins = {name: ours}
        if layers.beside():
            torch.set_num_threads(len(os.sched_getaffinity(0)))
            # a discriminator without fused_scale differs: its leaky ReLU comes before shrinking
            twins["torch" if fused else "torch, rectifying before"] = torch_step(ours, pixels)
            if fused:
                twins["torch, 4x4 kernels"] = torch_step(ours, pixels, fused=True)
                twins["torch, no lower side"] = torch_step(ours, pixels, lower=False)
        agree(twins, 2, *(inputs(experiment, SIDE, batch) for _ in twins))
        contenders |= twins
    report(race(contenders, seconds), "torch")


def native_part(width: str, batch: int, seconds: float, forms: list[str]) -> None:
    print(f"\nnative: {SMALLEST}x{SMALLEST} of {FINAL}x{FINAL}, {batch} images, channels {width}")
    made = config(FINAL, batch, width)
    experiment = setup_of(made)
    random = np.random.default_rng(1)
    pixels = random.integers(0, 256, (batch, FINAL, FINAL, COLOURS), np.uint8)
    label = np.zeros((batch,), np.int32)
    small = random.uniform(-1, 1, (batch, SMALLEST, SMALLEST, COLOURS)).astype(np.float32)
    full = np.asarray(enlarge(small, FINAL // SMALLEST))
    stage = experiment.system.stages[0]
    contenders = {
        "native": Ours(experiment, stage, {"image": pixels, "label": label}),
        "native, images shrunk before": Ours(experiment, stage, {"real": small, "label": label}),
    }
    for form in forms:
        contenders[form] = final_size(made, form, {"real": full, "label": label})

    def enlarged():
        for batch_ in inputs(experiment, SMALLEST, batch):
            yield {**batch_, "real": np.asarray(enlarge(batch_["real"], FINAL // SMALLEST))}

    views = [inputs(experiment, SMALLEST, batch) for _ in range(2)] + [enlarged() for _ in forms]
    agree(contenders, 1, *views)
    report(race(contenders, seconds), "native", slower=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", default="step,native")
    parser.add_argument("--width", default="1024/64", help="of the step: fmap_base/fmap_max")
    parser.add_argument("--small", action="store_true", help="native: 1024/64, not 8192/512")
    parser.add_argument("--forms", default=",".join(FULL), help="of images of the final size")
    parser.add_argument("--batch", type=int, default=0, help="default: 16 (step), 8 (native)")
    parser.add_argument("--seconds", type=float, default=60.0, help="per part")
    options = parser.parse_args()
    versions = f"jax {jax.__version__}" + (f", torch {torch.__version__}" if torch else "")
    print(f"{versions} on {jax.devices()[0].device_kind}, {jax.default_backend()}")
    print("milliseconds of a step, median and fastest; by either: times as fast as torch, or times")
    print("as long as native")
    parts = options.parts.split(",")
    if "step" in parts:
        step_part(options.width, options.batch or 16, options.seconds)
    if "native" in parts:
        width = "1024/64" if options.small else "8192/512"
        native_part(width, options.batch or 8, options.seconds, options.forms.split(","))


if __name__ == "__main__":
    main()
