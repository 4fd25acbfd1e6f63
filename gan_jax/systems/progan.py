"""ProGAN: networks that grow while they are trained, from 4 px to 1024.

Paper: Karras, Aila, Laine and Lehtinen, Progressive growing of GANs for improved quality,
stability and variation, 2018. Reference: the authors' TensorFlow code, and for CIFAR-10 their
Theano code (order "joint").

Order of an iteration: the discriminator is updated on real images and on fakes with the same
classes; the moving average of the generator is updated; the generator is updated on other fakes,
with classes sampled from those of the batch. Every stage has one resolution and batch size and
either is a fade or has none; moments are reset when a stage begins.

Deviations: images have the resolution that is being trained. In the original they always have the
final size, enlarged by nearest neighbour, which divides the norm of the critic's gradient by
2^⌊lod⌋. The penalty here uses the norm divided in the same way, so losses and gradients are the
same. Real images are shrunk on the device from the final size, with the same rounding.

The losses are in `progan_losses`; how a config becomes a schedule is in `progan_schedule`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gan_jax.core import ema, loss_scale, optim, plateau
from gan_jax.core import grads as gradients
from gan_jax.core.grads import Seen
from gan_jax.core.mesh import split_as
from gan_jax.core.seeds import latents_of, numbers_of
from gan_jax.core.system import (
    UNCHANGED,
    Array,
    Batch,
    Changes,
    Facts,
    Images,
    Metrics,
    Net,
    PyTree,
    Stage,
    System,
    TrainState,
    changed,
    new_state,
)
from gan_jax.errors import ArgumentError
from gan_jax.models import convolution
from gan_jax.models import progan as networks
from gan_jax.ops import images, progressive_growing
from gan_jax.ops.groups import by_groups
from gan_jax.systems import progan_losses as losses
from gan_jax.systems import progan_schedule

TITLE = "A ProGAN"  # as reports call a model
SIZES = ("model.fmap_base",)  # keys that make a step cheaper
BATCH = "config.growth.batch: a step's"  # begins the message about a batch that does not divide
AUTO = {"growth.preset": progressive_growing.preset_for}  # "auto" becomes that of the devices
shortened, tiny = progan_schedule.shortened, progan_schedule.tiny


def defaults() -> dict:
    """The sections of a config that this system reads."""

    def optimizer(**own) -> dict:
        return optim.defaults(lr=1e-3, b1=0.0, b2=0.99, eps=1e-8, eps_hat=True, **own)

    return dict(
        data=dict(resolution=32),
        batch_size=0,  # images per step where growth.batch says nothing; 0: the preset's
        microbatches=1,  # parts of a batch whose gradients are averaged: less memory
        growth=dict(
            # of the original, for 1 to 8 GPUs: v1-1gpu | v2-1gpu | v2-2gpus | v2-4gpus | v2-8gpus;
            # auto: by the devices that the run begins with; none: the config says everything
            preset="auto",
            initial_resolution=4,  # data.resolution: nothing grows
            training_kimg=progan_schedule.OF_PRESET,  # thousand images at a resolution; -1: preset
            transition_kimg=progan_schedule.OF_PRESET,  # thousand images of a fade; -1: preset
            batch="",  # images per step, such as "4:128,8:64"; "": the preset's
            gen_rates="",  # in place of optim.gen.lr, such as "1024:0.0015"; "": the preset's
            disc_rates="",
            ticks="",  # thousand images in a tick, "4:160"; "": the original's
            repeats=4,  # the schedule is looked up once for this many steps
            reset=True,  # Adam's moments, where a fade begins and where it ends
            round_pixels=True,  # whether shrunk real images are rounded to whole grey levels
        ),
        model={**networks.defaults(), "minibatch_stddev": -1},  # -1: the preset's, or 4
        loss=dict(
            order="disc_first",  # | joint: both networks learn from the same fakes
            gradient_penalty=10.0,  # λ of λ / target² · mean (norm - target)²
            target=1.0,
            drift=0.001,  # ε of ε · mean D(real)²
            label_weight=1.0,  # of the classes' cross entropies
            skip_limit=20,  # updates in a row that may be skipped before the run stops
        ),
        optim=dict(gen=optimizer(ema=(0.999,), ema_of="before"), disc=optimizer()),
        quality=dict(metrics=("swd", "ms_ssim"), split="train"),
        best=dict(
            metric="swd",
            start_from_best=False,  # a new resolution begins with the best state of the last one
        ),
    )


@dataclass(frozen=True)
class ProGan:
    """What a config describes: networks, optimizers, schedule and numbers. No arrays."""

    gen: Any  # see models.progan.build
    disc: Any
    optimizers: Mapping[str, optim.Optimizer]  # of "gen" and "disc"
    loss: SimpleNamespace  # the numbers of config.loss
    growth: progressive_growing.Growth
    run: tuple[progressive_growing.Span, ...]
    stages: tuple[Stage, ...]
    channels: int  # of an image
    classes: int  # 0: without labels
    latents: int
    normalized: bool  # whether the generator brings all latents to one length
    group: int  # of the minibatch standard deviation
    half: bool  # float16: the loss is scaled
    microbatches: int  # parts of a batch, one after the other
    reset: bool  # whether moments are reset where a stage begins
    round_pixels: bool


class Level(NamedTuple):
    """The resolution at which the networks work, and how far the next lower one is blended in."""

    side: int  # in pixels
    fade: Array | float  # weight of the next lower side, 0 to 1


def make(config, facts: Facts, changes: Changes = UNCHANGED) -> System:
    """The system that a config describes (sections: see `defaults`, and `run.steps`)."""
    gan = changed(build(config, facts), changes)
    return System(
        stages=gan.stages,
        init=partial(init, gan),
        train_step=partial(train_step, gan),
        eval_step=partial(eval_step, gan),
        sample_step=partial(sample_step, gan),
        enter_stage=partial(enter_stage, gan),
        rates={name: gan.optimizers[name].rate for name in ("gen", "disc")},
        labelled=gan.classes > 0,
        latents=gan.latents,
        parts=gan.microbatches,
        notices=progan_schedule.notices(config, gan.stages),
        compiler_options=convolution.compiler_options(products=True),
    )


def build(config, facts: Facts) -> ProGan:
    """The GAN that a config describes. Raises UserError for values that are not accepted."""
    growth, run = progan_schedule.checked_plan(config, facts)
    model = progan_schedule.model_section(config)
    classes = facts.num_classes if model.conditional else 0
    gen, disc = networks.build(model, facts.resolution, facts.channels, classes)
    stages = progan_schedule.stages(growth, run)
    half = model.dtype == "float16"
    optimizers = progan_schedule.optimizers(config, stages, facts.train_size, half)
    return ProGan(
        gen=gen,
        disc=disc,
        optimizers=optimizers,
        loss=SimpleNamespace(**config.loss.to_dict()),
        growth=growth,
        run=tuple(run),
        stages=stages,
        channels=facts.channels,
        classes=classes,
        normalized=model.normalize_latents,
        latents=networks.latent_size(model),
        group=model.minibatch_stddev,
        half=half,
        microbatches=config.microbatches,
        reset=config.growth.reset,
        round_pixels=config.growth.round_pixels,
    )


def init(gan: ProGan, key: Array, batch: Batch, stage: Stage) -> TrainState:
    """The state at step 0: both networks, with the layers of every resolution."""
    gen_key, disc_key = jax.random.split(key)
    side = gan.growth.resolution
    label = jnp.zeros((2, gan.classes))
    z, x = jnp.zeros((2, gan.latents)), jnp.zeros((2, side, side, gan.channels))
    gen_tx, disc_tx = gan.optimizers["gen"].tx, gan.optimizers["disc"].tx
    nets = {
        "gen": optim.new_net(gen_tx, *gan.gen.init(gen_key, z, label, side, 0.0)),
        "disc": optim.new_net(disc_tx, *gan.disc.init(disc_key, x, label, side, 0.0)),
    }
    none = jnp.zeros((), jnp.int32)
    return new_state(nets, {"skipped": {"gen": none, "disc": none}})


def train_step(
    gan: ProGan, state: TrainState, batch: Batch, key: Array, stage: Stage
) -> tuple[TrainState, Metrics]:
    """One update of the discriminator and one of the generator.

    A batch holds `image` uint8 [B, R, R, C] of the final size R and `label` int32 [B]. It may also
    bring `real`, `z_disc`, `z_gen`, `label_gen`, `mixing` and `fade`, which are otherwise sampled
    or computed here.
    """
    given = "fade" in batch
    level = Level(stage.resolution, batch["fade"]) if given else scheduled_level(gan, state, stage)
    disc_key, gen_key, mix_key, label_key = jax.random.split(key, 4)
    real, label = real_images(gan, batch, level), one_hot(gan, batch["label"])
    mixing = split_as(real, jax.random.uniform(mix_key, (len(real), 1, 1, 1)))
    mixing = batch.get("mixing", mixing)
    inputs = losses.Inputs(real, label, latents(gan, batch, "z_disc", real, disc_key), mixing)

    def fakes_for_gen():
        z = latents(gan, batch, "z_gen", real, gen_key)
        return z, classes_for_gen(gan, batch, real, label_key)

    if gan.loss.order == "joint":
        nets, metrics = update_jointly(gan, state, inputs, level, stage)
    else:
        nets, metrics = update_in_turn(gan, state, inputs, level, fakes_for_gen, stage)
    kimg = progressive_growing.images_at(gan.run, state.step) / 1000
    metrics |= {"growth/fade": level.fade, "progress/kimg": kimg}
    skipped = loss_scale.count_skipped(state.extra["skipped"], metrics)
    metrics = loss_scale.mask_nonfinite(metrics, skipped, gan.loss.skip_limit)
    return state.replace(step=state.step + 1, nets=nets, extra={"skipped": skipped}), metrics


def update_in_turn(
    gan: ProGan, state: TrainState, inputs: losses.Inputs, level: Level, fakes_for_gen, stage: Stage
) -> tuple[dict[str, Net], Metrics]:
    """The discriminator's update, then the generator's against the updated discriminator.

    `fakes_for_gen()` returns the latents and the one-hot classes of the generator's own fakes.
    """
    gen, disc = state.nets["gen"], state.nets["disc"]
    gen_scale, disc_scale = (loss_scale.loss_scale(net.opt) for net in (gen, disc))
    enlarged = gan.growth.resolution // level.side
    fake = generate(gan, gen.params, inputs.z, inputs.label, level)

    def for_disc(params, part, _):
        critic = critic_of(gan, params, level)
        total, terms = losses.disc_loss(gan.loss, critic, *part, disc_scale, enlarged)
        return disc_scale * total, Seen(means=terms)

    parts = gan.microbatches
    grads, disc_terms = gradients.average(for_disc, disc.params, (inputs, fake), (), parts)
    disc, disc_seen = update(gan, "disc", disc, grads, state, stage)

    def for_gen(params, part, _):
        fake, critic = generate(gan, params, *part, level), critic_of(gan, disc.params, level)
        total, terms = losses.gen_loss(gan.loss, critic, fake, part[1])
        return gen_scale * total, Seen(means=terms)

    grads, gen_terms = gradients.average(for_gen, gen.params, fakes_for_gen(), (), parts)
    gen, gen_seen = update(gan, "gen", gen, grads, state, stage)
    metrics = gen_terms.means | disc_terms.means | gen_seen | disc_seen
    return {"gen": gen, "disc": disc}, metrics


def update_jointly(
    gan: ProGan, state: TrainState, inputs: losses.Inputs, level: Level, stage: Stage
) -> tuple[dict[str, Net], Metrics]:
    """Both updates from the same fakes, each with the other network as it was before the step."""
    gen, disc = state.nets["gen"], state.nets["disc"]
    gen_scale, disc_scale = (loss_scale.loss_scale(net.opt) for net in (gen, disc))
    enlarged = gan.growth.resolution // level.side

    def forward(inputs, gen_params, disc_params):
        fake = generate(gan, gen_params, inputs.z, inputs.label, level)
        critic = critic_of(gan, disc_params, level)
        for_gen, gen_terms = losses.gen_loss(gan.loss, critic, fake, inputs.label)
        for_disc, disc_terms = losses.disc_loss(
            gan.loss, critic, inputs, fake, disc_scale, enlarged
        )
        return gen_scale * for_gen, disc_scale * for_disc, gen_terms | disc_terms

    def gradient(part, _):
        *grads, terms = gradients.two_networks(partial(forward, part), gen.params, disc.params)
        return grads, Seen(means=terms)

    grads, terms = gradients.in_parts(gradient, inputs, (), gan.microbatches)
    disc, disc_seen = update(gan, "disc", disc, grads[1], state, stage)
    gen, gen_seen = update(gan, "gen", gen, grads[0], state, stage)
    return {"gen": gen, "disc": disc}, terms.means | gen_seen | disc_seen


def update(
    gan: ProGan, name: str, net: Net, grads: PyTree, state: TrainState, stage: Stage
) -> tuple[Net, Metrics]:
    """One update of the network called `name`; its gradients are multiplied by its loss scale."""
    tx, rate_at = gan.optimizers[name]
    rate, scale = rate_at(state.step), loss_scale.loss_scale(net.opt)
    metrics = {
        f"grad_norm/{name}": optim.global_norm(grads) / scale,
        f"rate/{name}": rate * plateau.rate_scale(net),
    }
    if gan.half:
        metrics[f"loss_scale/{name}"] = scale
    # layers of larger sides have zero gradients and moments so far, so there is nothing to compute
    used = networks.in_use(net.params, stage.resolution)
    part = optim.step(
        optim.select_layers(net, used), tx, {k: grads[k] for k in used}, net.stats,
        rate=rate, **optim.inputs(state, stage),
    )  # fmt: skip
    return optim.merge_layers(part, net), metrics


def eval_step(
    gan: ProGan, state: TrainState, batch: Batch, key: Array, stage: Stage
) -> dict[str, Array]:
    """The critic's scores [B] of held-out images, minus its scores of fakes by the averaged
    generator; with classes also whether it classifies either correctly.

    The latents of a fake are a function of the image's number in the set. The minibatch standard
    deviation is that of consecutive images of the set, in groups as large as in training.
    """
    level = scheduled_level(gan, state, stage)
    real, label = real_images(gan, batch, level), one_hot(gan, batch["label"])
    count = real.shape[0]
    z = latents_of({"seed": numbers_of(batch, count)}, key, gan.latents)
    fake = generate(gan, ema.averaged(state.nets["gen"])[0], z, label, level)
    critic = critic_of(gan, state.nets["disc"].params, level)
    see = partial(by_groups, critic, min(gan.group, count))
    (real_score, real_logits), (fake_score, fake_logits) = see(real), see(fake)
    values = {"wasserstein": real_score - fake_score}
    if gan.classes:
        values["accuracy_real"] = losses.hits(real_logits, label)
        values["accuracy_fake"] = losses.hits(fake_logits, label)
    return values


def sample_step(gan: ProGan, state: TrainState, batch: Batch, key: Array, stage: Stage) -> Images:
    """One image [side, side, C] in [-1, 1] per seed (and class), with the raw weights and, if there
    is one, with their average. Raises ArgumentError for truncated latents that are normalised."""
    if "truncation" in batch and gan.normalized:
        raise ArgumentError("truncation", ": leave it out; model.normalize_latents undoes it")
    level = scheduled_level(gan, state, stage)
    z, net = latents_of(batch, key, gan.latents), state.nets["gen"]
    label = one_hot(gan, batch["label"])
    return {
        name: jnp.clip(generate(gan, params, z, label, level), -1, 1)
        for name, (params, _) in ema.weights(net).items()
    }


def enter_stage(gan: ProGan, state: TrainState, stage: Stage) -> TrainState:
    """The state with fresh moments, if the config asks for them; averages stay as they are."""
    if not gan.reset:
        return state
    nets = {
        name: optim.reset_moments(net, gan.optimizers[name].tx) for name, net in state.nets.items()
    }
    return state.replace(nets=nets)


def scheduled_level(gan: ProGan, state: TrainState, stage: Stage) -> Level:
    """The stage's side, and the fade that the schedule has at this step."""
    side = stage.resolution
    return Level(side, progressive_growing.fade(gan.growth, gan.run, state.step, side))


def generate(gan: ProGan, params: PyTree, z: Array, label: Array, level: Level) -> Array:
    """Images [N, side, side, C] from latents [N, latents] and one-hot classes."""
    return gan.gen.apply(params, {}, z, label, *level)[0]


def critic_of(gan: ProGan, params: PyTree, level: Level) -> losses.Critic:
    """Images [N, side, side, C] → (score [N], logits of the class [N, classes])."""
    return lambda x: gan.disc.apply(params, {}, x, None, *level)[0]


def real_images(gan: ProGan, batch: Batch, level: Level) -> Array:
    """The real images that the discriminator sees: [B, side, side, C] in [-1, 1]."""
    if "real" in batch:
        return batch["real"]
    x = progressive_growing.shrink(batch["image"], level.side, gan.round_pixels)
    return progressive_growing.blend(images.to_unit(x), level.fade)


def latents(gan: ProGan, batch: Batch, name: str, x: Array, key: Array) -> Array:
    """Standard normal latents, one for each image of x, or those that the batch has as `name`."""
    return batch.get(name, split_as(x, jax.random.normal(key, (len(x), gan.latents))))


def classes_for_gen(gan: ProGan, batch: Batch, x: Array, key: Array) -> Array:
    """Classes for the generator's fakes, sampled from those of the batch: one-hot [B, classes]."""
    if "label_gen" in batch:
        return one_hot(gan, batch["label_gen"])
    label = batch["label"]
    places = jax.random.randint(key, (len(x),), 0, len(x))
    return one_hot(gan, split_as(x, label[places]))


def one_hot(gan: ProGan, label: Array) -> Array:
    """Classes [N] as rows [N, classes]; labels that are rows already stay as they are."""
    return label if label.ndim == 2 else jax.nn.one_hot(label, gan.classes)
