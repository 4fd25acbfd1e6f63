"""Paired image translation: a U-Net and a patch discriminator that sees input and output together.

Paper: Isola et al. 2017 (pix2pix). References: PyTorch-GAN's pix2pix.py, a student's variant of it
(halving learning rate, validation loss), and junyanz' pytorch-CycleGAN-and-pix2pix.

Order of updates: `generator_first` (PyTorch-GAN) or `discriminator_first` (junyanz, the paper's own
code). Either way there is one forward pass of the generator, before both updates: the discriminator
sees its fakes without a gradient, and the generator's gradient goes through the discriminator of
before, or after, its update.

Deviations: logits everywhere; the discriminator reads fakes before real images in both orders,
which only running batch statistics can tell; the paper's own code lets the generator learn from the
discriminator's answers of before its update even when that comes first.
"""

import math

import jax
import jax.numpy as jnp

from gan_jax.core import optim, players, schedules
from gan_jax.core.intervals import single_stage
from gan_jax.core.sampler import numbers_of
from gan_jax.core.system import Facts, Net, Stage, System, Task, TrainState, new_state
from gan_jax.errors import UserError
from gan_jax.models import pix2pix as networks
from gan_jax.ops import colour, images, losses, penalties, pool

ORDERS = ("generator_first", "discriminator_first")
MARGIN = 1 / 100  # a halving rate that ends above this share of its start is worth a word


def defaults() -> dict:
    """The sections of a config that this system reads."""

    def optimiser() -> dict:
        return {**optim.defaults(), "b1": 0.5, "schedule": schedules.defaults()}

    return dict(
        batch_size=1,
        model=networks.defaults(),
        loss=dict(
            name="least_squares",  # | non_saturating | wasserstein | hinge | saturating
            order="generator_first",  # | discriminator_first
            gan_weight=1.0,  # 0: the distance alone, no discriminator is trained
            l1_weight=100.0,  # λ of the distance; 0: none
            distance="l1",  # | l2, the mean squared difference
            disc_weight=0.5,  # of real + fake
            gradient_penalty=0.0,  # λ, with wasserstein: 10
            real_target=1.0,  # below 1: one-sided label smoothing
            pool_size=0,  # fakes that the discriminator may be shown again; CycleGAN: 50
        ),
        test=dict(
            dropout=False,  # drop features when sampling too, from each image's own seed
            norm="running",  # | batch: batch norm by the image's own statistics
            train_mode_loss=False,  # validate with dropout and the image's own statistics as well
        ),
        optim=dict(gen=optimiser(), disc=optimiser()),
        quality=dict(metrics=("fid", "kid")),  # there are no classes to judge by
    )


def make(config, facts: Facts) -> System:
    """The system that a config describes (sections: see `defaults`; and `run.steps`, `data.pairs`,
    since colouring works in L*a*b*)."""
    loss = config.loss
    _check(config, facts)
    lab = config.data.pairs == "colorize"
    outputs = 2 if lab else facts.channels
    gen, disc = networks.build(config.model, facts.resolution, outputs)
    adversarial = losses.adversarial(loss.name, loss.real_target)
    distance = {"l1": lambda x, y: jnp.abs(x - y), "l2": lambda x, y: jnp.square(x - y)}[
        loss.distance
    ]
    stages, epoch_steps = single_stage(
        facts.resolution, config.batch_size, config.run.steps, facts.train_size
    )
    learn = players.make(config.optim, stages, epoch_steps, config.best.mode == "min")
    (gen_tx, gen_rate), (disc_tx, disc_rate) = learn["gen"], learn["disc"]

    def init(key, batch, stage) -> TrainState:
        gen_key, disc_key = jax.random.split(key)
        side = facts.resolution
        x, y = (jnp.zeros((2, side, side, c)) for c in (facts.input_channels, outputs))
        extra = {}
        if loss.pool_size:
            shape = (side, side, facts.input_channels + outputs)
            extra["pool"] = pool.empty(loss.pool_size, shape)._asdict()
        nets = {
            "gen": optim.new_net(gen_tx, *gen.init(gen_key, x)),
            "disc": optim.new_net(disc_tx, *disc.init(disc_key, x, y)),
        }
        return new_state(nets, extra)

    def unit_target(batch):
        """What the generator should make, [B, H, W, outputs] in [-1, 1]."""
        y = images.to_unit(batch["target"])
        return colour.chroma(y) if lab else y

    def update_gen(gen_net: Net, disc_net: Net, x, y, made, extra):
        """(generator, discriminator's statistics, metrics) from fakes and the way back to them."""
        fake, stats, pull = made

        def total(fake):
            away = jnp.mean(distance(fake, y))
            terms = {f"loss/{loss.distance}_weighted": loss.l1_weight * away}
            disc_stats = disc_net.stats
            if loss.gan_weight:
                logits, disc_stats = disc.apply(
                    disc_net.params, disc_net.stats, x, fake, train=True
                )
                terms["loss/gan"] = loss.gan_weight * adversarial.generator(logits)
            gen_loss = sum(terms.values())
            seen = {"loss/gen": gen_loss, f"loss/{loss.distance}": away, **terms}
            return gen_loss, (disc_stats, seen)

        grad, (disc_stats, metrics) = jax.grad(total, has_aux=True)(fake)  # [B, H, W, C]
        (grads,) = pull(grad)
        gen_net = optim.step(gen_net, gen_tx, grads, stats, rate=gen_rate(extra["step"]), **extra)
        return gen_net, disc_stats, metrics | {"grad_norm/gen": optim.global_norm(grads)}

    def update_disc(disc_net: Net, x, y, fake, shown, extra, key):
        """(discriminator, metrics); `shown`: inputs and fakes stacked, perhaps of earlier steps."""
        shown_x, shown_fake = shown[..., : x.shape[-1]], shown[..., x.shape[-1] :]

        def disc_loss(params):
            fake_logits, stats = disc.apply(params, disc_net.stats, shown_x, shown_fake, train=True)
            real_logits, stats = disc.apply(params, stats, x, y, train=True)
            real_loss, fake_loss = adversarial.real(real_logits), adversarial.fake(fake_logits)
            terms = {"loss/disc": loss.disc_weight * (real_loss + fake_loss)}
            if loss.gradient_penalty:
                # between the real and the fake output of one input
                critic = lambda at: disc.apply(params, disc_net.stats, x, at, train=True)[0]  # noqa: E731
                alpha = jax.random.uniform(key, (x.shape[0], 1, 1, 1))
                penalty = penalties.gradient_penalty(critic, y, fake, alpha)
                terms["loss/gradient_penalty"] = loss.gradient_penalty * penalty
            seen = adversarial.judged(real_logits, fake_logits, real_loss, fake_loss)
            return sum(terms.values()), (stats, terms | seen)

        grads, (stats, metrics) = jax.grad(disc_loss, has_aux=True)(disc_net.params)
        disc_net = optim.step(
            disc_net, disc_tx, grads, stats, rate=disc_rate(extra["step"]), **extra
        )
        return disc_net, metrics | {"grad_norm/disc": optim.global_norm(grads)}

    def train_step(state: TrainState, batch, key, stage: Stage):
        """One generator and one discriminator update around one forward pass."""
        gen_net, disc_net = state.nets["gen"], state.nets["disc"]
        drop_key, pool_key, alpha_key = jax.random.split(key, 3)
        x, y = images.to_unit(batch["input"]), unit_target(batch)  # [B, H, W, C] in [-1, 1]
        extra = dict(
            step=state.step, validation=state.validation, batch_images=float(stage.batch_size)
        )
        forward = lambda params: gen.apply(params, gen_net.stats, x, train=True, key=drop_key)  # noqa: E731
        fake, pull, stats = jax.vjp(forward, gen_net.params, has_aux=True)
        made = (fake, stats, pull)
        shown, history = jnp.concatenate([x, fake], -1), state.extra
        if loss.pool_size:
            drawn, shown = pool.query(pool.Pool(**state.extra["pool"]), shown, pool_key)
            history = {"pool": drawn._asdict()}

        disc_metrics = {}
        if loss.gan_weight and loss.order == "discriminator_first":
            disc_net, disc_metrics = update_disc(disc_net, x, y, fake, shown, extra, alpha_key)
        gen_net, disc_stats, metrics = update_gen(gen_net, disc_net, x, y, made, extra)
        disc_net = disc_net.replace(stats=disc_stats)
        if loss.gan_weight and loss.order == "generator_first":
            disc_net, disc_metrics = update_disc(disc_net, x, y, fake, shown, extra, alpha_key)

        metrics |= disc_metrics | {"rate/gen": gen_rate(state.step) * optim.rate_scale(gen_net)}
        if loss.gan_weight:
            metrics["rate/disc"] = disc_rate(state.step) * optim.rate_scale(disc_net)
        nets = {"gen": gen_net, "disc": disc_net}
        return state.replace(step=state.step + 1, nets=nets, extra=history), metrics

    def picture(x, made):
        """What a person sees of an output: [B, H, W, C] in [-1, 1]."""
        return colour.coloured(x, made) if lab else made

    def translate_one(params, stats, x, key, drop: bool, own_statistics: bool):
        """The output for one input [H, W, C]; its own random features, its own statistics."""
        made, _ = gen.apply(params, stats, x[None], drop, train=own_statistics, key=key)
        return made[0]

    def translated(params, stats, x, seeds, key, drop: bool, own_statistics: bool):
        """Outputs for inputs [B, H, W, C], each a function of its input and its seed alone."""
        if not drop and not own_statistics:
            return gen.apply(params, stats, x)[0]
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, seeds)
        one = lambda x, key: translate_one(params, stats, x, key, drop, own_statistics)  # noqa: E731
        return jax.vmap(one)(x, keys)

    def eval_step(state: TrainState, batch, key, stage: Stage):
        """Distances of every output to its target, with running statistics and without dropout."""
        x, y = images.to_unit(batch["input"]), unit_target(batch)
        params, stats = optim.averaged(state.nets["gen"])
        fake, _ = gen.apply(params, stats, x)
        mean = lambda values: jnp.mean(values, axis=(1, 2, 3))  # noqa: E731
        l1 = mean(jnp.abs(fake - y))
        values = {"l1": l1, "total": loss.l1_weight * mean(distance(fake, y))}
        if loss.gan_weight:
            disc_net = state.nets["disc"]
            logits, _ = disc.apply(disc_net.params, disc_net.stats, x, fake)
            values["gan"] = mean(adversarial.fool(logits))
            values["total"] += loss.gan_weight * values["gan"]
        seen, wanted = picture(x, fake), images.to_unit(batch["target"])
        # the mean over images of a value that may be infinite: a perfect copy counts as 100 dB
        values["psnr"] = jnp.minimum(images.psnr(seen, wanted, 2.0), 100.0)
        if facts.resolution >= images.SSIM_WINDOW:
            # luminance is compared as light, from 0 up: SSIM changes when both images are shifted
            values["ssim"] = images.ssim(seen + 1, wanted + 1, 2.0)
        if config.test.train_mode_loss:
            numbers = numbers_of(batch, x.shape[0])
            again = translated(params, stats, x, numbers, key, True, True)
            values["l1_train_mode"] = mean(jnp.abs(again - y))
        return values

    def sample_step(state: TrainState, batch, key, stage: Stage):
        """One image per input, by the averaged weights, where there are, and the raw."""
        x, net = images.to_unit(batch["input"]), state.nets["gen"]
        mode = (config.test.dropout, config.test.norm == "batch")
        draw = lambda params, stats: picture(  # noqa: E731
            x, translated(params, stats, x, batch["seed"], key, *mode)
        )
        made = {"raw": draw(net.params, net.stats)}
        if optim.has_average(net):
            made["ema"] = draw(*optim.averaged(net))
        return made

    return System(
        stages=stages,
        init=init,
        train_step=train_step,
        eval_step=eval_step,
        sample_step=sample_step,
        tasks={
            "translate": Task(
                sample_step,
                "translates a folder of images: the output for each",
                reads="input",
                uses=("gen",),
            )
        },
        rates={"gen": gen_rate, "disc": disc_rate} if loss.gan_weight else {"gen": gen_rate},
        notices=(*_patches(config, facts), *_halvings(config, stages, epoch_steps)),
    )


def _patches(config, facts: Facts) -> list[str]:
    """What the discriminator judges, in words."""
    module = networks.discriminator(config.model.disc, facts.resolution)
    field = networks.receptive_field(module.strides())
    count = module.map_size(facts.resolution)
    return [f"disc judges {count}x{count} patches of {field}x{field} pixels"]


def _halvings(config, stages, epoch_steps) -> list[str]:
    """A word on halving rates that end high: what period would bring them down, if one does."""
    epochs, notes = math.ceil(stages[-1].end / epoch_steps[0]), []
    for name, section in config.optim.items():
        schedule = section.schedule
        if schedule.name != "halving" or schedule.unit != "epochs" or not section.lr:
            continue
        floor, factor = schedule.floor / section.lr, schedule.factor
        ratio = max(factor ** (epochs // schedule.every), floor)
        if ratio <= MARGIN or factor >= 1:
            continue
        note = f"the learning rate of {name} ends at {ratio:.3g} of its start"
        period = schedules.halving_period(epochs, MARGIN, factor)
        if max(factor ** (epochs // period), floor) <= MARGIN:
            note += f"; with config.optim.{name}.schedule.every={period} it would at {MARGIN:g}"
        notes.append(note)
    return notes


def _check(config, facts: Facts) -> None:
    """Raises UserError for values that are not accepted together."""
    loss = config.loss
    if not facts.input_channels:
        raise UserError(
            "config.data.pairs='none': pix2pix needs pairs; set side_by_side or folders, or make "
            "them from photos with colorize or inpaint"
        )
    if config.data.pairs == "upscale":
        raise UserError(
            "config.data.pairs='upscale': pix2pix wants inputs as large as outputs; "
            "config.system=diffusion enlarges"
        )
    accepted = {
        "config.loss.order": (loss.order, ORDERS),
        "config.loss.distance": (loss.distance, ("l1", "l2")),
        "config.test.norm": (config.test.norm, ("running", "batch")),
    }
    for key, (found, values) in accepted.items():
        if found not in values:
            raise UserError(f"{key}={found!r}: accepted are {', '.join(values)}")
    if config.batch_size < 1:
        raise UserError(f"config.batch_size={config.batch_size}: must be at least 1")
    weights = ("gan_weight", "l1_weight", "disc_weight", "gradient_penalty", "pool_size")
    for name in weights:
        if not loss[name] >= 0:
            raise UserError(f"config.loss.{name}={loss[name]}: must be at least 0")
    if not loss.gan_weight and not loss.l1_weight:
        raise UserError(
            "config.loss.gan_weight and config.loss.l1_weight are both 0: nothing would be learnt"
        )
    disc_norm = networks.discriminator(config.model.disc, facts.resolution).norm
    if loss.gradient_penalty and disc_norm == "batch":
        raise UserError(
            "config.loss.gradient_penalty wants a discriminator whose images do not mix: set "
            "config.model.disc.norm to instance or none"
        )


def tiny(config) -> None:
    """Shrinks the networks to what images of 16 px allow. In place."""
    config.data.load_resolution = config.data.resolution + 2
    config.model.gen.width = config.model.disc.width = 4
    config.model.disc.layers = min(config.model.disc.layers, 2)
