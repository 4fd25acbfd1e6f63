"""Images of a diffusion model: samples, and the tasks that walk its chain."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp

from gan_jax.core import ema
from gan_jax.core.console import ProgressBar
from gan_jax.core.seeds import latents_of, noise_of
from gan_jax.core.system import Array, Batch, Images, Net, PyTree, Stage, Task, TrainState
from gan_jax.errors import ArgumentError
from gan_jax.models.unet import NO_CLASS
from gan_jax.ops import groups, images
from gan_jax.ops.diffusion import bound, chain_samplers, guidance, sampling
from gan_jax.ops.diffusion.noise_schedules import Chain
from gan_jax.ops.diffusion.processes import Process
from gan_jax.systems import diffusion_networks as networks


@dataclass(frozen=True)
class Sampling:
    """How images are sampled from a trained model."""

    networks: networks.Networks
    settings: sampling.Settings
    process: Process
    walked: Chain | None  # the steps of the chain that sampling takes; None if it walks no chain
    guide_scale: float  # of the classifier's gradient
    decays: tuple[float, ...]  # of the averages of the weights
    progress: str  # the weights whose sampling is reported on stderr; "" for none
    draw: sampling.Draw
    draw_and_report: sampling.Draw


def build(
    config, nets: networks.Networks, settings: sampling.Settings, process: Process,
    walked: Chain | None,
) -> Sampling:  # fmt: skip
    """How images are sampled from the model of a config, whose parts have been built already."""
    report = None
    if config.sampling.progress:
        report = ProgressBar(walked.steps if walked else settings.count())
    return Sampling(
        networks=nets,
        settings=settings,
        process=process,
        walked=walked,
        guide_scale=config.classifier.scale,
        decays=tuple(config.optim.unet.ema),
        progress=config.sampling.progress,
        draw=sampling.make(settings, process, walked),
        draw_and_report=sampling.make(settings, process, walked, report),
    )


def latents(model: Sampling) -> int:
    """The length of `z` if an image is a function of z alone; 0 if it is not."""
    if model.networks.upsampler or model.settings.random:
        return 0
    return math.prod(model.networks.shape)


def tasks(model: Sampling) -> dict[str, Task]:
    """What a trained model can do beside drawing samples."""
    found = {}
    if model.networks.upsampler:
        doing = "enlarges a folder or .npz of images"
        found["upsample"] = Task(partial(sample_step, model), doing, reads="input", uses=("unet",))
    elif model.walked:
        doing = "encodes images as noise by DDIM and decodes them again"
        found["invert"] = Task(partial(invert, model), doing, reads="image", uses=("unet",))
        found["encode"] = Task(partial(encode, model), "the noise that DDIM decodes to images")
    if model.walked:
        doing = "bits per dimension of images"
        found["likelihood"] = Task(partial(likelihood, model), doing, uses=("unet",))
    return found


def sample_step(
    model: Sampling, state: TrainState, batch: Batch, key: Array, stage: Stage
) -> Images:
    """One image [H, W, C] per seed, with the raw weights and with each of their averages."""
    # progress is reported for one set of weights only: a line cannot show two
    return {
        name: drawn(model, params, state.nets, batch, key, report=name == model.progress)
        for name, (params, _) in ema.weights(state.nets["unet"], model.decays).items()
    }


def drawn(
    model: Sampling, params: PyTree, nets: Mapping[str, Net], batch: Batch, key: Array, report: bool
) -> Array:
    """Images [N, H, W, C] in [-1, 1] for seeds [N], with one set of the U-Net's weights."""
    if "truncation" in batch:
        raise ArgumentError("truncation", ": a diffusion model cannot truncate; leave it out")
    shape, guide_by = model.networks.shape, model.settings.guidance
    label = batch["label"] if model.networks.by_class else None
    low = images.to_unit(batch["input"]) if model.networks.upsampler else None
    z = latents_of(batch, key, math.prod(shape)).reshape(-1, *shape)
    noise_at = noise_of(batch["seed"], jax.random.fold_in(key, 1), shape)
    score = None
    if guide_by == 1:
        network = networks.conditioned(model.networks, params, label, low)
    else:
        labels = groups.interleaved(label, jnp.full_like(label, NO_CLASS))
        twice = low if low is None else groups.interleaved(low, low)
        both = networks.conditioned(model.networks, params, labels, twice)
        network = guidance.classifier_free(both, guide_by, shape[-1])
    if model.networks.guide:
        classify = networks.classifier(model.networks, nets)
        score = guidance.classifier_score(classify, batch["label"], model.guide_scale)
    draw = model.draw_and_report if report else model.draw
    return draw(network, z, noise_at, score)


def likelihood(
    model: Sampling, state: TrainState, batch: Batch, key: Array, stage: Stage
) -> dict[str, Array]:
    """Bits per dimension of images with the averaged weights, along the steps that are kept; see
    `bound.walk`. Noise is a function of `seed` [B] and of the place in the chain."""
    params, _ = ema.averaged(state.nets["unet"])
    shown = networks.examples(model.networks, batch)
    network = networks.conditioned(model.networks, params, shown.get("label"), shown.get("low"))
    predict = sampling.predictor(model.walked, network, model.process.objective)
    noise_at = noise_of(batch["seed"], key, model.networks.shape)
    return bound.walk(model.walked, predict, shown["image"], noise_at)


def invert(model: Sampling, state: TrainState, batch: Batch, key: Array, stage: Stage) -> Images:
    """Encodes every image as noise by DDIM and decodes it again, with each set of weights."""
    found = {}
    for name, (predict, noise) in _encoded(model, state, batch).items():
        found[name] = jnp.clip(chain_samplers.ddim(model.walked, predict, noise), -1, 1)
    return found


def encode(
    model: Sampling, state: TrainState, batch: Batch, key: Array, stage: Stage
) -> dict[str, Array]:
    """The noise [N, H · W · C] that DDIM makes of every image, with each set of weights."""
    found = _encoded(model, state, batch)
    return {name: noise.reshape(len(noise), -1) for name, (_, noise) in found.items()}


def _encoded(
    model: Sampling, state: TrainState, batch: Batch
) -> dict[str, tuple[chain_samplers.PredictAt, Array]]:
    """With each set of weights the network as a predictor, and the images as noise."""
    label = batch["label"] if model.networks.by_class else None
    image, found = images.to_unit(batch["image"]), {}
    for name, (params, _) in ema.weights(state.nets["unet"], model.decays).items():
        network = networks.conditioned(model.networks, params, label, None)
        predict = sampling.predictor(model.walked, network, model.process.objective)
        noise = chain_samplers.ddim_reverse(model.walked, predict, image, skip_last=True)
        found[name] = predict, noise
    return found
