"""Generative adversarial networks on images, labelled or not.

Papers: Goodfellow et al. 2014; Radford et al. 2016 (DCGAN); Gulrajani et al. 2017 (WGAN-GP); Miyato
et al. 2018 (spectral norm, projection). References: PyTorch-GAN (gan.py, dcgan.py, wgan_gp.py) and
PyTorch-StudioGAN.

Order of updates: `generator_first` (PyTorch-GAN) updates the generator, then shows the
discriminator the fakes made before that update; `discriminator_first` (StudioGAN) lets the
discriminator take `disc_steps` steps, each on new images and new fakes, then updates the generator.

Deviations: every discriminator returns logits; real images and fakes have the same declared range,
[-1, 1]; with several discriminator steps each step makes its own fakes, in either order; on several
devices batch norm uses the statistics of the whole batch.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp

from gan_jax import backend
from gan_jax.core import ema, loss_scale, optim, plateau
from gan_jax.core import grads as gradients
from gan_jax.core.grads import Seen
from gan_jax.core.intervals import single_stage
from gan_jax.core.mesh import split_as
from gan_jax.core.seeds import classes_of, latents_of, numbers_of
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
    Task,
    TrainState,
    changed,
    new_state,
)
from gan_jax.models import convolution
from gan_jax.models import gan as networks
from gan_jax.models.network import Network
from gan_jax.ops import augment, images, losses, penalties
from gan_jax.ops.groups import by_groups
from gan_jax.systems.gan_config import Loss, check, check_parts, defaults, shortened  # noqa: F401
from gan_jax.systems.gan_losses import disc_penalties, mixing
from gan_jax.systems.gan_standing_statistics import standing

TITLE = "A GAN"  # as reports call a model
SIZES = ("model.gen.width", "model.disc.width")  # keys that make a step cheaper


@dataclass(frozen=True)
class Gan:
    """What a config describes: networks, losses, optimizers and numbers. No arrays."""

    facts: Facts
    stages: tuple[Stage, ...]
    gen: Network
    disc: Network
    z_dim: int
    compared: int  # images that the discriminator compares with each other; 0: it does not
    loss: Loss
    adversarial: losses.Adversarial
    augment: augment.Policy  # images [B, H, W, C] and a key → images
    gen_optim: optim.Optimizer
    disc_optim: optim.Optimizer
    half: bool = False  # float16: losses are scaled
    microbatches: int = 1  # parts of a mini-batch, one after the other


def build(config, facts: Facts) -> Gan:
    """The GAN that a config describes. Raises UserError for values that are not accepted."""
    check(config, facts)
    model, loss = config.model, Loss(**config.loss)
    gen, disc = networks.build(model, facts.resolution, facts.channels, facts.num_classes)
    stages, epoch_steps = single_stage(
        facts.resolution, config.batch_size * loss.disc_steps, config.run.steps, facts.train_size
    )
    lowest, half = config.best.mode == "min", model.dtype == "float16"
    optimizers = optim.optimizers(config.optim, stages, epoch_steps, lowest, half)
    # minibatch discrimination is a sum over all of a mini-batch
    whole = model.disc.minibatch_discrimination > 0
    gan = Gan(
        facts=facts,
        stages=stages,
        gen=gen,
        disc=disc,
        z_dim=model.z_dim,
        compared=config.batch_size if whole else model.disc.minibatch_stddev,
        loss=loss,
        adversarial=losses.adversarial(loss.name, loss.real_target),
        augment=augment.policy(tuple(config.augment)),
        gen_optim=optimizers["gen"],
        disc_optim=optimizers["disc"],
        half=half,
        microbatches=config.microbatches,
    )
    check_parts(config, lambda: init(gan, jax.random.key(0), {}, stages[0]))
    return gan


def make(config, facts: Facts, changes: Changes = UNCHANGED) -> System:
    """The system that a config describes (sections: see `defaults`, and `run.steps`)."""
    gan = changed(build(config, facts), changes)
    return System(
        stages=gan.stages,
        init=partial(init, gan),
        train_step=partial(train_step, gan),
        eval_step=partial(eval_step, gan),
        sample_step=partial(sample_step, gan),
        tasks={
            "standing_statistics": Task(
                partial(standing_statistics, gan),
                "batch statistics measured over many batches of samples, then used to sample",
                transforms=True,
            )
        },
        rates={"gen": gan.gen_optim.rate, "disc": gan.disc_optim.rate},
        labelled=config.model.conditioning != "none",
        latents=gan.z_dim,
        parts=gan.microbatches,
        compiler_options=convolution.compiler_options(products=True),
    )


def init(gan: Gan, key: Array, batch: Batch, stage: Stage) -> TrainState:
    """The state with both networks at step 0."""
    gen_key, disc_key = jax.random.split(key)
    side = gan.facts.resolution
    label = jnp.zeros((2,), jnp.int32)
    z = jnp.zeros((2, gan.z_dim), jnp.float32)
    x = jnp.zeros((2, side, side, gan.facts.channels), jnp.float32)
    nets = {
        "gen": optim.new_net(gan.gen_optim.tx, *gan.gen.init(gen_key, z, label)),
        "disc": optim.new_net(gan.disc_optim.tx, *gan.disc.init(disc_key, x, label)),
    }
    return new_state(nets, loss_scale.uncounted(gan.half, nets))


def drawn_labels(key: Array, count: int, facts: Facts) -> Array:
    """Classes of fakes, int32 [count], sampled uniformly from those that training images have."""
    drawn = facts.drawn_classes
    places = jax.random.randint(key, (count,), 0, len(drawn))
    return jnp.asarray(drawn, jnp.int32)[places] if facts.empty_classes else places


def fake_inputs(gan: Gan, x: Array, z: Array | None, key: Array) -> tuple[Array, Array]:
    """z [B, z_dim], if none is given, and classes [B] for as many fakes as there are images x."""
    z_key, label_key = jax.random.split(key)
    label = split_as(x, drawn_labels(label_key, len(x), gan.facts))
    return split_as(x, jax.random.normal(z_key, (len(x), gan.z_dim))) if z is None else z, label


def discriminate(
    gan: Gan, params: PyTree, stats: PyTree, x: Array, label: Array, step: Array, keys: tuple
) -> tuple[Array, PyTree]:
    """The discriminator's logits [B] on images after instance noise and augmentation, and its new
    statistics.

    `keys` are three: for the noise, the augmentation and dropout.
    """
    noise_key, augment_key, dropout_key = keys
    if gan.loss.noise:
        sigma = augment.noise_sigma(step, gan.loss.noise, gan.loss.noise_steps)
        x = augment.instance_noise(x, noise_key, sigma)
    x = gan.augment(x, augment_key)
    (logit, _), stats = gan.disc.apply(params, stats, x, label, train=True, key=dropout_key)
    return logit, stats


def update_gen(gan: Gan, gen_net: Net, disc_net: Net, batch: Batch, extra: dict, key: Array):
    """One update of the generator.

    Returns (generator, discriminator's statistics, fakes and their classes, metrics).
    """
    z_key, gen_key, other_key, *keys = jax.random.split(key, 6)
    loss, x = gan.loss, images.to_unit(batch["image"])  # [B, H, W, C] in [-1, 1]
    z, label = fake_inputs(gan, x, batch.get("z"), z_key)
    inputs, scale = {"x": x, "z": z, "label": label}, loss_scale.loss_scale(gen_net.opt)
    if loss.mode_seeking:
        inputs["other_z"], _ = fake_inputs(gan, x, None, other_key)

    def gen_loss(params, part, keys):
        gen_key, *keys = keys
        z, label = part["z"], part["label"]
        fake, stats = gan.gen.apply(params, gen_net.stats, z, label, train=True, key=gen_key)
        logit, disc_stats = discriminate(
            gan, disc_net.params, disc_net.stats, fake, label, extra["step"], keys
        )
        terms = {"loss/gen": gan.adversarial.generator(logit)}
        if loss.reconstruction:
            distance = losses.reconstruction(fake, part["x"], loss.reconstruction_norm)
            terms["loss/reconstruction"] = loss.reconstruction * distance
        if loss.mode_seeking:
            other_z = part["other_z"]
            other, _ = gan.gen.apply(params, stats, other_z, label, train=True, key=gen_key)
            diversity = penalties.mode_seeking(fake, other, z, other_z)
            terms["loss/mode_seeking"] = loss.mode_seeking * diversity
        if loss.orthogonal:
            distance = penalties.orthogonal(params, loss.orthogonal_form)
            terms["loss/gen_orthogonal"] = loss.orthogonal * distance
        return scale * sum(terms.values()), Seen(fake, terms, (stats, disc_stats))

    keys = [gen_key, *keys]
    grads, seen = gradients.average(gen_loss, gen_net.params, inputs, keys, gan.microbatches)
    tx, rate = gan.gen_optim
    metrics = seen.means | {"grad_norm/gen": optim.global_norm(grads) / scale}
    stats, disc_stats = seen.same
    disc_stats = loss_scale.unless_skipped(gen_net, grads, disc_stats, disc_net.stats)
    gen_net = optim.step(gen_net, tx, grads, stats, rate=rate(extra["step"]), **extra)
    return gen_net, disc_stats, (seen.rows, label), metrics


def update_disc(
    gan: Gan, disc_net: Net, batch: Batch, fakes: tuple[Array, Array], extra: dict, key: Array
) -> tuple[Net, Metrics]:
    """One update of the discriminator on real images and on `fakes`, (images, classes).

    No gradient flows into the fakes.
    """
    flip_key, alpha_key, real_noise, fake_noise, augment_key, *dropout = jax.random.split(key, 7)
    loss, x = gan.loss, images.to_unit(batch["image"])
    fake, fake_label = fakes
    inputs = {"x": x, "label": batch["label"], "fake": jax.lax.stop_gradient(fake)}
    inputs |= {"fake_label": fake_label} | mixing(loss, x, batch.get("alpha"), alpha_key)
    # one augmentation key: the same transformation on real and fake
    keys = [(real_noise, augment_key, dropout[0]), (fake_noise, augment_key, dropout[1])]
    if loss.flip:
        for name, key in zip(("flip", "fake_flip"), jax.random.split(flip_key), strict=True):
            inputs[name] = losses.flip_labels(key, x.shape[0], loss.flip)
    scale = loss_scale.loss_scale(disc_net.opt)

    def disc_loss(params, part, keys):
        see = partial(discriminate, gan, params, step=extra["step"])
        x, label = part["x"], part["label"]
        real_logit, stats = see(disc_net.stats, x, label, keys=keys[0])
        fake_logit, stats = see(stats, part["fake"], part["fake_label"], keys=keys[1])
        real_loss = gan.adversarial.real(real_logit, part.get("flip", False))
        fake_loss = gan.adversarial.fake(fake_logit, part.get("fake_flip", False))
        terms = {"loss/disc": loss.disc_weight * (real_loss + fake_loss)}

        def critic(at):
            return see(disc_net.stats, at, label, keys=keys[0])[0]

        terms |= disc_penalties(loss, critic, params, x, part["fake"], part.get("alpha"), scale)
        seen = gan.adversarial.discriminator_metrics(real_logit, fake_logit, real_loss, fake_loss)
        return scale * sum(terms.values()), Seen(means=terms | seen, same=stats)

    grads, seen = gradients.average(disc_loss, disc_net.params, inputs, keys, gan.microbatches)
    tx, rate = gan.disc_optim
    disc_net = optim.step(disc_net, tx, grads, seen.same, rate=rate(extra["step"]), **extra)
    if loss.clip_weights:
        clipped = penalties.clip_weights(disc_net.params, loss.clip_weights)
        disc_net = disc_net.replace(params=clipped)
    return disc_net, seen.means | {"grad_norm/disc": optim.global_norm(grads) / scale}


def train_disc(
    gan: Gan, gen_net: Net, disc_net: Net, batch: Batch, extra: dict, key: Array
) -> tuple[Net, Net, Metrics]:
    """`disc_steps` updates, each on its own slice of the batch and its own fakes.

    Returns (generator with statistics updated by making the fakes, discriminator, mean metrics).
    """

    def one(carry, slice_):
        gen_stats, disc_net = carry
        index, part = slice_
        z_key, gen_key, disc_key = jax.random.split(jax.random.fold_in(key, index), 3)
        z, label = fake_inputs(gan, part["image"], part.get("z"), z_key)
        fake, gen_stats = gan.gen.apply(
            gen_net.params, gen_stats, z, label, train=True, key=gen_key
        )
        disc_net, metrics = update_disc(gan, disc_net, part, (fake, label), extra, disc_key)
        return (gen_stats, disc_net), metrics

    n = gan.loss.disc_steps
    # (B, n) and then swapped: every device contributes to every slice
    parts = jax.tree.map(
        lambda a: jnp.swapaxes(a.reshape(a.shape[0] // n, n, *a.shape[1:]), 0, 1), dict(batch)
    )
    carry = (gen_net.stats, disc_net)
    if n == 1 or backend.kind() == "cpu":
        # unrolled, because inside a loop XLA on a CPU runs convolutions ten or more times slower
        rows = []
        for index in range(n):
            part = jax.tree.map(lambda a, index=index: a[index], parts)
            carry, row = one(carry, (index, part))
            rows.append(row)
        metrics = jax.tree.map(lambda *a: jnp.stack(a), *rows)
    else:
        carry, metrics = jax.lax.scan(one, carry, (jnp.arange(n), parts))
    stats, disc_net = carry
    return gen_net.replace(stats=stats), disc_net, jax.tree.map(jnp.mean, metrics)


def train_step(
    gan: Gan, state: TrainState, batch: Batch, key: Array, stage: Stage
) -> tuple[TrainState, Metrics]:
    """One update of the generator and `disc_steps` of the discriminator."""
    gen_net, disc_net = state.nets["gen"], state.nets["disc"]
    gen_key, disc_key = jax.random.split(key)
    extra = optim.inputs(state, stage)
    n = gan.loss.disc_steps
    # every n-th image: those that the batch begins with lie on the first devices alone
    first = jax.tree.map(lambda a: a.reshape(-1, n, *a.shape[1:])[:, 0], dict(batch))

    if gan.loss.order == "discriminator_first":
        gen_net, disc_net, disc_metrics = train_disc(gan, gen_net, disc_net, batch, extra, disc_key)
    gen_net, stats, fakes, gen_metrics = update_gen(gan, gen_net, disc_net, first, extra, gen_key)
    disc_net = disc_net.replace(stats=stats)
    if gan.loss.order == "generator_first" and n == 1:
        disc_net, disc_metrics = update_disc(gan, disc_net, batch, fakes, extra, disc_key)
    elif gan.loss.order == "generator_first":
        gen_net, disc_net, disc_metrics = train_disc(gan, gen_net, disc_net, batch, extra, disc_key)

    learning_rates = {
        "rate/gen": gan.gen_optim.rate(state.step) * plateau.rate_scale(gen_net),
        "rate/disc": gan.disc_optim.rate(state.step) * plateau.rate_scale(disc_net),
    }
    nets = {"gen": gen_net, "disc": disc_net}
    metrics = gen_metrics | disc_metrics | learning_rates
    counts, metrics = loss_scale.counted(state.extra, state.nets, metrics)
    return state.replace(step=state.step + 1, nets=nets, extra=counts), metrics


def eval_step(gan: Gan, state: TrainState, batch: Batch, key: Array, stage: Stage) -> Metrics:
    """Losses of both networks on held-out images [B], with running statistics.

    The latent and the class of a fake are functions of the image's number in the set. A
    discriminator that compares images with each other sees consecutive images of the set, as many
    as in training.
    """
    adversarial, x = gan.adversarial, images.to_unit(batch["image"])
    z_key, label_key = jax.random.split(key)
    numbers = numbers_of(batch, x.shape[0])
    z = latents_of({**batch, "seed": numbers}, z_key, gan.z_dim)
    label = classes_of(numbers, label_key, gan.facts.drawn_classes)
    fake, _ = gan.gen.apply(*ema.averaged(state.nets["gen"]), z, label)
    disc_net = state.nets["disc"]

    def see(x, label):
        return gan.disc.apply(disc_net.params, disc_net.stats, x, label)[0][0]

    real_logit = by_groups(see, gan.compared, x, batch["label"])
    fake_logit = by_groups(see, gan.compared, fake, label)
    total = adversarial.discriminate(real_logit, 1.0) + adversarial.discriminate(fake_logit, 0.0)
    return {
        "gen": adversarial.fool(fake_logit),
        "disc": gan.loss.disc_weight * total,
        "accuracy_real": (real_logit > adversarial.boundary).astype(jnp.float32),
        "accuracy_fake": (fake_logit < adversarial.boundary).astype(jnp.float32),
    }


def sample_step(gan: Gan, state: TrainState, batch: Batch, key: Array, stage: Stage) -> Images:
    """One image per seed (and class), with the raw weights and, if there is one, their average."""
    z, net = latents_of(batch, key, gan.z_dim), state.nets["gen"]
    return {
        name: gan.gen.apply(*weights, z, batch["label"])[0]
        for name, weights in ema.weights(net).items()
    }


def standing_statistics(
    gan: Gan, state: TrainState, batch: Batch, key: Array, stage: Stage
) -> TrainState:
    """The state with the generator's batch statistics measured over `seed` and `label` [n, B].

    Raises ArgumentError for a generator without batch statistics.
    """

    def forward(params, stats, part):
        z = latents_of(part, key, gan.z_dim)
        return gan.gen.apply(params, stats, z, part["label"], train=True, key=key)[1]

    net = standing(state.nets["gen"], forward, batch)
    return state.replace(nets={**state.nets, "gen": net})


def tiny(config) -> None:
    """Shrinks the networks, and limits the discriminator to 2 steps per update. In place."""
    widths = {"dense": 8, "pytorch_gan_dense": 8, "resnet": 2}
    config.model.z_dim = 8
    for section in (config.model.gen, config.model.disc):
        section.width = widths.get(section.name, 4)
    config.loss.disc_steps = min(config.loss.disc_steps, 2)
