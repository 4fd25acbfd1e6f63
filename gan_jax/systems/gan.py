"""Generative adversarial networks on images, labelled or not.

Papers: Goodfellow et al. 2014; Radford et al. 2016 (DCGAN); Gulrajani et al. 2017 (WGAN-GP); Miyato
et al. 2018 (spectral norm, projection). References: PyTorch-GAN (gan.py, dcgan.py, wgan_gp.py) and
PyTorch-StudioGAN.

Order of updates: `generator_first` (PyTorch-GAN) updates the generator, then shows the
discriminator the fakes made before that update; `discriminator_first` (StudioGAN) lets the
discriminator take `disc_steps` steps, each on new images and new fakes, then updates the generator.

Deviations: everything is a logit; real and fake have one declared range, [-1, 1]; with several
discriminator steps every one of them draws its own fakes, in either order; several devices
normalise with the statistics of the whole batch.
"""

from functools import partial

import jax
import jax.numpy as jnp

from gan_jax.core import optim, players, schedules
from gan_jax.core.intervals import single_stage
from gan_jax.core.sampler import classes_of, latents_of, numbers_of
from gan_jax.core.system import Facts, Net, Stage, System, Task, TrainState, new_state
from gan_jax.errors import UserError
from gan_jax.models import gan as networks
from gan_jax.models.layers import BatchNorm
from gan_jax.ops import augment, images, losses, penalties
from gan_jax.ops.groups import by_groups

ORDERS = ("generator_first", "discriminator_first")


def defaults() -> dict:
    """The sections of a config that this system reads."""

    def optimiser() -> dict:
        return {**optim.defaults(), "b1": 0.5, "schedule": schedules.defaults()}

    return dict(
        batch_size=64,  # images per update of either network
        augment=(),  # DiffAugment on real and fake: color, translation, cutout
        model=dict(
            z_dim=100,
            conditioning="none",  # none | concat | projection
            gen=networks.generator_defaults(),
            disc=networks.discriminator_defaults(),
        ),
        loss=dict(
            name="non_saturating",  # | saturating | least_squares | hinge | wasserstein
            order="generator_first",  # | discriminator_first
            disc_steps=1,
            disc_weight=1.0,  # of real + fake; PyTorch-GAN: 0.5
            real_target=1.0,  # below 1: one-sided label smoothing
            flip=0.0,  # probability that an image is shown under the other label
            gradient_penalty=0.0,  # λ, WGAN-GP: 10
            clip_weights=0.0,  # WGAN: 0.01
            r1=0.0,  # γ, the penalty is γ/2 · ‖∇D(real)‖²
            orthogonal=0.0,  # β, both networks
            orthogonal_form="biggan",  # | brock
            mode_seeking=0.0,
            reconstruction=0.0,  # weight of the distance to the real images of the batch
            reconstruction_norm="l1",  # | l2
            noise=0.0,  # standard deviation of instance noise at step 0, range [-1, 1]
            noise_steps=0,  # steps until it is zero
        ),
        optim=dict(gen=optimiser(), disc=optimiser()),
    )


def drawn_labels(key: jax.Array, count: int, facts: Facts) -> jax.Array:
    """Classes of fakes, int32 [count]: each of those that training images are of as likely."""
    drawn = facts.drawn_classes
    places = jax.random.randint(key, (count,), 0, len(drawn))
    return jnp.asarray(drawn, jnp.int32)[places] if facts.empty_classes else places


def make(config, facts: Facts) -> System:
    """The system that a config describes (sections: see `defaults`, and `run.steps`)."""
    loss, model = config.loss, config.model
    _check(config, facts)
    conditional = model.conditioning != "none"
    gen, disc = networks.build(model, facts.resolution, facts.channels, facts.num_classes)
    adversarial = losses.adversarial(loss.name, loss.real_target)
    transform = augment.policy(tuple(config.augment))
    stages, epoch_steps = single_stage(
        facts.resolution,
        config.batch_size * loss.disc_steps,
        config.run.steps,
        facts.train_size,
    )
    learn = players.make(config.optim, stages, epoch_steps, config.best.mode == "min")
    (gen_tx, gen_rate), (disc_tx, disc_rate) = learn["gen"], learn["disc"]

    def init(key, batch, stage) -> TrainState:
        gen_key, disc_key = jax.random.split(key)
        label = jnp.zeros((2,), jnp.int32)
        z = jnp.zeros((2, model.z_dim), jnp.float32)
        x = jnp.zeros((2, facts.resolution, facts.resolution, facts.channels), jnp.float32)
        return new_state(
            {
                "gen": optim.new_net(gen_tx, *gen.init(gen_key, z, label)),
                "disc": optim.new_net(disc_tx, *disc.init(disc_key, x, label)),
            }
        )

    def latents(batch, count: int, key):
        """z [count, z_dim] and classes [count] for fakes; a batch may bring its own `z`."""
        z_key, label_key = jax.random.split(key)
        z = batch["z"] if "z" in batch else jax.random.normal(z_key, (count, model.z_dim))
        return z, drawn_labels(label_key, count, facts)

    def judge(params, stats, x, label, step, keys):
        """The discriminator's logits [B] on images as it sees them: noisy, augmented."""
        noise_key, augment_key, dropout_key = keys
        if loss.noise:
            sigma = augment.noise_sigma(step, loss.noise, loss.noise_steps)
            x = augment.instance_noise(x, noise_key, sigma)
        x = transform(x, augment_key)
        (logit, _), stats = disc.apply(params, stats, x, label, train=True, key=dropout_key)
        return logit, stats

    def update_gen(gen_net: Net, disc_net: Net, batch, extra, key):
        """(generator, discriminator's statistics, fakes and their classes, metrics)."""
        z_key, gen_key, other_key, *keys = jax.random.split(key, 6)
        x = images.to_unit(batch["image"])  # [B, H, W, C] in [-1, 1]
        z, label = latents(batch, x.shape[0], z_key)

        def gen_loss(params):
            fake, stats = gen.apply(params, gen_net.stats, z, label, train=True, key=gen_key)
            logit, disc_stats = judge(
                disc_net.params, disc_net.stats, fake, label, extra["step"], keys
            )
            terms = {"loss/gen": adversarial.generator(logit)}
            if loss.reconstruction:
                distance = losses.reconstruction(fake, x, loss.reconstruction_norm)
                terms["loss/reconstruction"] = loss.reconstruction * distance
            if loss.mode_seeking:
                other_z, _ = latents({}, x.shape[0], other_key)
                other, _ = gen.apply(params, stats, other_z, label, train=True, key=gen_key)
                diversity = penalties.mode_seeking(fake, other, z, other_z)
                terms["loss/mode_seeking"] = loss.mode_seeking * diversity
            if loss.orthogonal:
                distance = penalties.orthogonal(params, loss.orthogonal_form)
                terms["loss/gen_orthogonal"] = loss.orthogonal * distance
            return sum(terms.values()), (fake, stats, disc_stats, terms)

        grads, (fake, stats, disc_stats, metrics) = jax.grad(gen_loss, has_aux=True)(gen_net.params)
        gen_net = optim.step(gen_net, gen_tx, grads, stats, rate=gen_rate(extra["step"]), **extra)
        metrics["grad_norm/gen"] = optim.global_norm(grads)
        return gen_net, disc_stats, (fake, label), metrics

    def update_disc(disc_net: Net, batch, fakes, extra, key):
        """(discriminator, metrics) from real images and fakes that no gradient flows into."""
        flip_key, alpha_key, real_noise, fake_noise, augment_key, *dropout = jax.random.split(
            key, 7
        )
        x = images.to_unit(batch["image"])
        fake, fake_label = fakes
        fake = jax.lax.stop_gradient(fake)
        # one augmentation key: the same transformation on real and fake
        real_keys = (real_noise, augment_key, dropout[0])
        fake_keys = (fake_noise, augment_key, dropout[1])
        flips = [
            losses.flip_labels(k, x.shape[0], loss.flip) if loss.flip else False
            for k in jax.random.split(flip_key)
        ]

        def disc_loss(params):
            see = partial(judge, params, step=extra["step"])
            real_logit, stats = see(disc_net.stats, x, batch["label"], keys=real_keys)
            fake_logit, stats = see(stats, fake, fake_label, keys=fake_keys)
            real_loss = adversarial.real(real_logit, flips[0])
            fake_loss = adversarial.fake(fake_logit, flips[1])
            terms = {"loss/disc": loss.disc_weight * (real_loss + fake_loss)}
            critic = lambda at: see(disc_net.stats, at, batch["label"], keys=real_keys)[0]  # noqa: E731
            if loss.gradient_penalty:
                alpha = batch.get("alpha")
                if alpha is None:
                    alpha = jax.random.uniform(alpha_key, (x.shape[0], 1, 1, 1))
                penalty = penalties.gradient_penalty(critic, x, fake, alpha)
                terms["loss/gradient_penalty"] = loss.gradient_penalty * penalty
            if loss.r1:
                terms["loss/r1"] = 0.5 * loss.r1 * penalties.r1(critic, x)
            if loss.orthogonal:
                distance = penalties.orthogonal(params, loss.orthogonal_form)
                terms["loss/disc_orthogonal"] = loss.orthogonal * distance
            seen = adversarial.judged(real_logit, fake_logit, real_loss, fake_loss)
            return sum(terms.values()), (stats, terms | seen)

        grads, (stats, metrics) = jax.grad(disc_loss, has_aux=True)(disc_net.params)
        disc_net = optim.step(
            disc_net, disc_tx, grads, stats, rate=disc_rate(extra["step"]), **extra
        )
        if loss.clip_weights:
            clipped = penalties.clip_weights(disc_net.params, loss.clip_weights)
            disc_net = disc_net.replace(params=clipped)
        metrics["grad_norm/disc"] = optim.global_norm(grads)
        return disc_net, metrics

    def train_disc(gen_net: Net, disc_net: Net, batch, extra, key):
        """`disc_steps` updates, each on its own slice of the batch and its own fakes."""

        def one(carry, slice_):
            gen_stats, disc_net = carry
            index, part = slice_
            z_key, gen_key, disc_key = jax.random.split(jax.random.fold_in(key, index), 3)
            z, label = latents(part, part["image"].shape[0], z_key)
            fake, gen_stats = gen.apply(
                gen_net.params, gen_stats, z, label, train=True, key=gen_key
            )
            disc_net, metrics = update_disc(disc_net, part, (fake, label), extra, disc_key)
            return (gen_stats, disc_net), metrics

        n = loss.disc_steps
        # (B, n) and then swapped: every device contributes to every slice
        parts = jax.tree.map(
            lambda a: jnp.swapaxes(a.reshape(a.shape[0] // n, n, *a.shape[1:]), 0, 1), dict(batch)
        )
        carry = (gen_net.stats, disc_net)
        if n == 1 or jax.default_backend() == "cpu":
            # straight code: XLA's loops on a CPU run convolutions ten times slower and more
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

    def train_step(state: TrainState, batch, key, stage: Stage):
        """One update of the generator and `disc_steps` of the discriminator."""
        gen_net, disc_net = state.nets["gen"], state.nets["disc"]
        gen_key, disc_key = jax.random.split(key)
        extra = dict(
            step=state.step, validation=state.validation, batch_images=float(stage.batch_size)
        )
        n = loss.disc_steps
        first = jax.tree.map(lambda a: a[: a.shape[0] // n], dict(batch)) if n > 1 else batch

        if loss.order == "generator_first":
            gen_net, stats, fakes, gen_metrics = update_gen(
                gen_net, disc_net, first, extra, gen_key
            )
            disc_net = disc_net.replace(stats=stats)
            if n == 1:
                disc_net, disc_metrics = update_disc(disc_net, batch, fakes, extra, disc_key)
            else:
                gen_net, disc_net, disc_metrics = train_disc(
                    gen_net, disc_net, batch, extra, disc_key
                )
        else:
            gen_net, disc_net, disc_metrics = train_disc(gen_net, disc_net, batch, extra, disc_key)
            gen_net, stats, _, gen_metrics = update_gen(gen_net, disc_net, first, extra, gen_key)
            disc_net = disc_net.replace(stats=stats)

        learning_rates = {
            "rate/gen": gen_rate(state.step) * optim.rate_scale(gen_net),
            "rate/disc": disc_rate(state.step) * optim.rate_scale(disc_net),
        }
        nets = {"gen": gen_net, "disc": disc_net}
        metrics = gen_metrics | disc_metrics | learning_rates
        return state.replace(step=state.step + 1, nets=nets), metrics

    def eval_step(state: TrainState, batch, key, stage: Stage):
        """Per-example losses of both players on held-out images, with running statistics; the
        latent and the class of a fake are functions of the image's number in the set.

        A discriminator that compares images with each other sees consecutive images of the set, as
        many as in training.
        """
        x = images.to_unit(batch["image"])
        z_key, label_key = jax.random.split(key)
        numbers = numbers_of(batch, x.shape[0])
        z = latents_of({**batch, "seed": numbers}, z_key, model.z_dim)
        label = classes_of(numbers, label_key, facts.drawn_classes)
        params, stats = optim.averaged(state.nets["gen"])
        fake, _ = gen.apply(params, stats, z, label)
        disc_net = state.nets["disc"]
        see = lambda x, label: disc.apply(disc_net.params, disc_net.stats, x, label)[0][0]  # noqa: E731
        # minibatch discrimination is a sum over all of a mini-batch
        whole = model.disc.minibatch_discrimination > 0
        together = config.batch_size if whole else model.disc.minibatch_stddev
        real_logit = by_groups(see, together, x, batch["label"])
        fake_logit = by_groups(see, together, fake, label)
        total = adversarial.judge(real_logit, 1.0) + adversarial.judge(fake_logit, 0.0)
        return {
            "gen": adversarial.fool(fake_logit),
            "disc": loss.disc_weight * total,
            "accuracy_real": (real_logit > adversarial.boundary).astype(jnp.float32),
            "accuracy_fake": (fake_logit < adversarial.boundary).astype(jnp.float32),
        }

    sample_latents = lambda batch, key: latents_of(batch, key, model.z_dim)  # noqa: E731

    def sample_step(state: TrainState, batch, key, stage: Stage):
        """One image per seed (and class): by the averaged weights, where there are, and the raw."""
        z, net = sample_latents(batch, key), state.nets["gen"]
        made = {"raw": gen.apply(net.params, net.stats, z, batch["label"])[0]}
        if optim.has_average(net):
            params, stats = optim.averaged(net)
            made["ema"] = gen.apply(params, stats, z, batch["label"])[0]
        return made

    def standing_statistics(state: TrainState, batch, key, stage: Stage) -> TrainState:
        """The generator with batch statistics measured over `seed` [n, B] in place of the running
        ones: the mean over n batches drawn with the same weights (Brock et al. 2019)."""
        net = state.nets["gen"]
        paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(net.stats)]
        if not any(getattr(path[-1], "key", None) == "mean" for path in paths):
            raise UserError("--standing_stats: this model's generator has no batch statistics")

        def measured(params, stats):
            def one(_, part):
                z = sample_latents(part, key)
                new = gen.apply(params, stats, z, part["label"], train=True, key=key)[1]
                # a running value moves by the momentum towards the batch's own: that follows
                return None, jax.tree.map(lambda a, b: a + (b - a) / BatchNorm.momentum, stats, new)

            def mean(path, old, batches):
                # other statistics (spectral norm's vectors) stay as they are
                name = getattr(path[-1], "key", None)
                return jnp.mean(batches, axis=0) if name in ("mean", "var") else old

            _, batches = jax.lax.scan(one, None, batch)
            return jax.tree_util.tree_map_with_path(mean, stats, batches)

        opt = net.opt
        if "ema" in opt:
            averaged = measured(*optim.averaged(net))
            opt = {**opt, "ema": opt["ema"]._replace(stats=(averaged, *opt["ema"].stats[1:]))}
        net = net.replace(stats=measured(net.params, net.stats), opt=opt)
        return state.replace(nets={**state.nets, "gen": net})

    return System(
        stages=stages,
        init=init,
        train_step=train_step,
        eval_step=eval_step,
        sample_step=sample_step,
        tasks={
            "standing_statistics": Task(
                standing_statistics,
                "batch statistics measured over many batches of samples, then used to sample",
                transforms=True,
            )
        },
        rates={"gen": gen_rate, "disc": disc_rate},
        labelled=conditional,
        latents=model.z_dim,
    )


def _check(config, facts: Facts) -> None:
    """Raises UserError for values that are not accepted together."""
    loss, model = config.loss, config.model
    accepted = {
        "config.loss.order": (loss.order, ORDERS),
        "config.loss.orthogonal_form": (loss.orthogonal_form, ("biggan", "brock")),
        "config.loss.reconstruction_norm": (loss.reconstruction_norm, ("l1", "l2")),
        "config.model.conditioning": (model.conditioning, ("none", "concat", "projection")),
    }
    for key, (found, values) in accepted.items():
        if found not in values:
            raise UserError(f"{key}={found!r}: accepted are {', '.join(values)}")
    for key in ("batch_size", "loss.disc_steps", "model.z_dim"):
        value = config
        for part in key.split("."):
            value = getattr(value, part)
        if value < 1:
            raise UserError(f"config.{key}={value}: must be at least 1")
    if model.conditioning != "none" and not facts.num_classes:
        raise UserError(
            f"config.model.conditioning={model.conditioning!r} needs labelled data and this "
            "source has no labels; set it to none, or choose config.data.labels"
        )
    weights = ("disc_weight", "gradient_penalty", "clip_weights", "r1", "orthogonal")
    for name in (*weights, "mode_seeking", "reconstruction", "noise"):
        if not loss[name] >= 0:
            raise UserError(f"config.loss.{name}={loss[name]}: must be at least 0")
    group = model.disc.minibatch_stddev
    if group < 0 or (group and config.batch_size % min(group, config.batch_size)):
        raise UserError(
            f"config.model.disc.minibatch_stddev={group}: groups must divide config.batch_size "
            f"{config.batch_size}; 0 for none"
        )
    if model.disc.minibatch_discrimination < 0 or model.disc.minibatch_discrimination_dims < 1:
        raise UserError(
            "config.model.disc.minibatch_discrimination: needs 0 (none) or more kernels of "
            "minibatch_discrimination_dims 1 or more"
        )
    if loss.noise and loss.noise_steps < 1:
        raise UserError("config.loss.noise needs config.loss.noise_steps: steps until it is zero")
    if not 0 <= loss.flip < 0.5:
        raise UserError(f"config.loss.flip={loss.flip}: a probability in [0, 0.5)")


def tiny(config) -> None:
    """Shrinks the networks, and how often the discriminator takes several steps. In place."""
    widths = {"dense": 8, "pytorch_gan_dense": 8, "resnet": 2}
    config.model.z_dim = 8
    for section in (config.model.gen, config.model.disc):
        section.width = widths.get(section.name, 4)
    config.loss.disc_steps = min(config.loss.disc_steps, 2)
