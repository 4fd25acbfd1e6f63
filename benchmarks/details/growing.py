"""The 4 px stage of a 256 px ProGAN: on images of 4 px, as gan_jax trains, and of the final size.

"around" enlarges images after the generator and shrinks them before the discriminator: the
structure "recursive", with which the original trains. "linear" evaluates and blends all levels, the
original's other structure.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any
from unittest import mock

import flax.linen as nn
import jax
import numpy as np

from benchmarks.details import Detail, timed
from benchmarks.timing import Contender
from gan_jax import config as configs
from gan_jax.core import train_step
from gan_jax.core.system import Facts, Stage
from gan_jax.models import progan as networks
from gan_jax.models.layers import MinibatchStddev, average_pool, leaky_relu, upsample
from gan_jax.run.experiment import Experiment

FINAL, BATCH, COLOURS = 256, 8, 3
SMALLEST = networks.SMALLEST
LOSSES = ("loss/disc", "loss/gradient_penalty", "loss/drift", "loss/gen")


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
    times = arguments[1] // SMALLEST

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


FULL: dict[str, dict[str, Any]] = {
    "final size, around": dict(build=around),
    "final size, linear": dict(Generator=LinearGenerator, Discriminator=LinearDiscriminator),
}


def experiment_of(final: int) -> Experiment:
    """A run without classes and with at most 64 channels, from 4 px to `final`."""
    made = configs.defaults("progan")
    made.data.update(source="synthetic", resolution=final, channels="rgb")
    made.batch_size = BATCH
    made.growth.update(preset="none", training_kimg=30.0, transition_kimg=30.0)
    made.model.update(fmap_base=1024, fmap_max=64, conditional=False, minibatch_stddev=4)
    made.run.update(steps=f"{60000 * (final.bit_length() - 2)} images", devices=1)
    return Experiment(made, Facts(final, COLOURS, 0, 60000))


class Step:
    """The system's step at a stage, with the batch that it is timed on."""

    def __init__(self, experiment: Experiment, stage: Stage, batch: dict[str, np.ndarray]):
        self.experiment, self.stage = experiment, stage
        self.batch = experiment.mesh.put(batch)
        self.train = train_step.train_function(experiment.system, experiment.mesh)
        self.carry = train_step.fresh(experiment.system, experiment.mesh, experiment.key, batch)

    def __call__(self, batch: dict[str, np.ndarray] | None = None) -> dict[str, jax.Array]:
        """A step on the batch given or on its own: its metrics."""
        batch = self.batch if batch is None else self.experiment.mesh.put(batch)
        self.carry, metrics = self.train(self.carry, batch, self.experiment.key, self.stage)
        return metrics


def inputs(experiment: Experiment) -> Iterator[dict[str, np.ndarray]]:
    """All that a step draws: images [B, 4, 4, C] in [-1, 1], latents, mixing weights."""
    random, z_dim = np.random.default_rng(0), experiment.system.latents
    shape = (BATCH, SMALLEST, SMALLEST, COLOURS)
    while True:
        yield {
            "real": random.uniform(-1, 1, shape).astype(np.float32),
            "z_disc": random.normal(size=(BATCH, z_dim)).astype(np.float32),
            "z_gen": random.normal(size=(BATCH, z_dim)).astype(np.float32),
            "mixing": random.uniform(size=(BATCH, 1, 1, 1)).astype(np.float32),
            "label": np.zeros((BATCH,), np.int32),
            "label_gen": np.zeros((BATCH,), np.int32),
        }


def at_final_size(form: str, final: int, batch: dict[str, np.ndarray]) -> Step:
    """The same system with images of the final size; `batch` holds them as "real".

    At the run's first step the weight of the lower side of a stage of that size is 1.
    """
    with mock.patch.multiple(networks, **FULL[form]):
        experiment = experiment_of(final)
        stage = dataclasses.replace(experiment.system.stages[0], resolution=final)
        return Step(experiment, stage, batch)


def make(small: bool) -> dict[str, Contender]:
    """The stage in native resolution and in both structures of the original; their losses agree."""
    final = 16 if small else FINAL
    experiment = experiment_of(final)
    given = next(inputs(experiment))
    times = final // SMALLEST
    full = {**given, "real": np.asarray(enlarge(given["real"], times))}
    stage = experiment.system.stages[0]
    found = {"gan_jax": Step(experiment, stage, given)}
    found |= {form: at_final_size(form, final, full) for form in FULL}
    expected = None
    for name, step in found.items():
        metrics = step(given if name == "gan_jax" else full)
        values = [float(metrics[loss]) for loss in LOSSES]
        expected = expected or values
        np.testing.assert_allclose(values, expected, rtol=1e-3, atol=1e-3, err_msg=name)
    return {name: timed(step) for name, step in found.items()}


DETAILS = (
    Detail("growing", "growing", f"ProGAN's 4 px stage of {FINAL} px, {BATCH} images", make, BATCH),
)
