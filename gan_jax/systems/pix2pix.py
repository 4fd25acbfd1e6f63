"""Paired image translation: a U-Net and a patch discriminator that sees input and output together.

Paper: Isola et al. 2017 (pix2pix). References: PyTorch-GAN's pix2pix.py, a student's variant of it
(halving learning rate, validation loss), and junyanz' pytorch-CycleGAN-and-pix2pix.

Order of updates: `generator_first` (PyTorch-GAN) or `discriminator_first` (junyanz, the paper's own
code). Either way there is one forward pass of the generator, before both updates: the discriminator
sees its fakes without a gradient, and the generator's gradient goes through the discriminator as it
is before its update, or after it.

Deviations: discriminators always return logits. In both orders the discriminator sees fakes before
real images, which makes a difference only to running batch statistics. In the paper's own code the
generator's loss uses the discriminator's outputs from before its update, even if that comes first.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp

from gan_jax.core import ema, loss_scale, optim, plateau
from gan_jax.core import grads as gradients
from gan_jax.core.grads import Seen
from gan_jax.core.intervals import single_stage
from gan_jax.core.mesh import split_as
from gan_jax.core.seeds import numbers_of
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
from gan_jax.models import pix2pix as networks
from gan_jax.models.network import Network
from gan_jax.ops import colour, images, losses, penalties, pool
from gan_jax.systems.pix2pix_config import Loss, Test, check, halving_notices, patch_notices
from gan_jax.systems.pix2pix_config import defaults as defaults
from gan_jax.systems.pix2pix_config import unused as unused

TITLE = "A pix2pix translator"  # as reports call a model
SIZES = ("model.gen.width", "model.disc.width")  # keys that make a step cheaper


@dataclass(frozen=True)
class Pix2pix:
    """What a config describes: networks, losses, optimizers and numbers. No arrays."""

    facts: Facts
    stages: tuple[Stage, ...]
    gen: Network
    disc: Network
    lab: bool  # the target is a* and b*, from the lightness L* of CIE L*a*b*
    outputs: int  # channels that the generator makes
    loss: Loss
    test: Test
    adversarial: losses.Adversarial
    gen_optim: optim.Optimizer
    disc_optim: optim.Optimizer
    notices: tuple[str, ...]
    half: bool = False  # float16: losses are scaled
    microbatches: int = 1  # parts of a batch, one after the other


def build(config, facts: Facts) -> Pix2pix:
    """The model that a config describes. Raises UserError for values that are not accepted."""
    check(config, facts)
    lab, loss = config.data.pairs == "colorize", Loss(**config.loss)
    outputs = 2 if lab else facts.channels
    gen, disc = networks.build(config.model, facts.resolution, outputs)
    stages, epoch_steps = single_stage(
        facts.resolution, config.batch_size, config.run.steps, facts.train_size
    )
    lowest, half = config.best.mode == "min", config.model.dtype == "float16"
    optimizers = optim.optimizers(config.optim, stages, epoch_steps, lowest, half)
    model = Pix2pix(
        facts=facts,
        stages=stages,
        gen=gen,
        disc=disc,
        lab=lab,
        outputs=outputs,
        loss=loss,
        test=Test(**config.test),
        adversarial=losses.adversarial(loss.name, loss.real_target),
        gen_optim=optimizers["gen"],
        disc_optim=optimizers["disc"],
        notices=(
            *patch_notices(config, facts),
            *halving_notices(config, stages, epoch_steps),
        ),
        half=half,
        microbatches=config.microbatches,
    )
    gradients.check_unmixed(
        model.microbatches, lambda: init(model, jax.random.key(0), {}, stages[0])
    )
    return model


def make(config, facts: Facts, changes: Changes = UNCHANGED) -> System:
    """The system that a config describes (sections: see `defaults`; and `run.steps`, `data.pairs`,
    since colouring works in L*a*b*)."""
    model = changed(build(config, facts), changes)
    rates = {"gen": model.gen_optim.rate}
    if model.loss.gan_weight:
        rates["disc"] = model.disc_optim.rate
    draw = partial(sample_step, model)
    words = "translates a folder of images: the output for each"
    return System(
        stages=model.stages,
        init=partial(init, model),
        train_step=partial(train_step, model),
        eval_step=partial(eval_step, model),
        sample_step=draw,
        tasks={"translate": Task(draw, words, reads="input", uses=("gen",))},
        rates=rates,
        parts=model.microbatches,
        notices=model.notices,
    )


def init(model: Pix2pix, key: Array, batch: Batch, stage: Stage) -> TrainState:
    """The state with both networks at step 0 and, if config.loss.pool_size is set, an empty pool
    of fakes."""
    gen_key, disc_key = jax.random.split(key)
    side, inputs, outputs = model.facts.resolution, model.facts.input_channels, model.outputs
    x, y = (jnp.zeros((2, side, side, c)) for c in (inputs, outputs))
    extra = {}
    if model.loss.pool_size:
        extra["pool"] = pool.empty(model.loss.pool_size, (side, side, inputs + outputs))._asdict()
    nets = {
        "gen": optim.new_net(model.gen_optim.tx, *model.gen.init(gen_key, x)),
        "disc": optim.new_net(model.disc_optim.tx, *model.disc.init(disc_key, x, y)),
    }
    trained = nets if model.loss.gan_weight else ("gen",)
    return new_state(nets, extra | loss_scale.uncounted(model.half, trained))


def unit_target(model: Pix2pix, batch: Batch) -> Array:
    """The images that the generator should make, [B, H, W, outputs] in [-1, 1]."""
    y = images.to_unit(batch["target"])
    return colour.chroma(y) if model.lab else y


def distance(model: Pix2pix, fake: Array, y: Array) -> Array:
    """How far the generator's images are from their targets, element by element [B, H, W, C]: the
    absolute or the squared difference."""
    return jnp.abs(fake - y) if model.loss.distance == "l1" else jnp.square(fake - y)


def train_step(
    model: Pix2pix, state: TrainState, batch: Batch, key: Array, stage: Stage
) -> tuple[TrainState, Metrics]:
    """One update of the generator and one of the discriminator, around one forward pass."""
    loss, gen_net, disc_net = model.loss, state.nets["gen"], state.nets["disc"]
    drop_key, pool_key, alpha_key = jax.random.split(key, 3)
    x, y = images.to_unit(batch["input"]), unit_target(model, batch)  # [B, H, W, C] in [-1, 1]
    extra = optim.inputs(state, stage)

    fake, stats, pull = generated(model, gen_net, x, drop_key)
    shown, history = jnp.concatenate([x, fake], -1), state.extra
    if loss.pool_size:
        drawn, shown = pool.query(pool.Pool(**state.extra["pool"]), shown, pool_key)
        history = {**history, "pool": drawn._asdict()}

    pairs, disc_metrics = (x, y, fake, shown), {}
    if loss.gan_weight and loss.order == "discriminator_first":
        disc_net, disc_metrics = update_disc(model, disc_net, pairs, extra, alpha_key)
    gen_net, disc_stats, metrics = update_gen(
        model, gen_net, disc_net, x, y, (fake, stats, pull), extra
    )
    disc_net = disc_net.replace(stats=disc_stats)
    if loss.gan_weight and loss.order == "generator_first":
        disc_net, disc_metrics = update_disc(model, disc_net, pairs, extra, alpha_key)

    scale = plateau.rate_scale(gen_net)
    metrics |= disc_metrics | {"rate/gen": model.gen_optim.rate(state.step) * scale}
    if loss.gan_weight:
        metrics["rate/disc"] = model.disc_optim.rate(state.step) * plateau.rate_scale(disc_net)
    nets = {"gen": gen_net, "disc": disc_net}
    history, metrics = loss_scale.counted(history, state.nets, metrics)
    return state.replace(step=state.step + 1, nets=nets, extra=history), metrics


def generated(
    model: Pix2pix, net: Net, x: Array, key: Array
) -> tuple[Array, PyTree, Callable[[Array], PyTree]]:
    """(fakes [B, H, W, C] of the inputs x, the generator's statistics, the function that pulls a
    gradient by the fakes back to the generator's weights).

    With microbatches the fakes are made a second time when a gradient is pulled back, part by part,
    since to keep what the first pass computed would take the memory that microbatches save.
    """
    parts = model.microbatches

    def forward(params, x, key):
        return model.gen.apply(params, net.stats, x, train=True, key=key)

    if parts == 1:
        fake, back, stats = jax.vjp(lambda p: forward(p, x, key), net.params, has_aux=True)
        return fake, stats, lambda grad: back(grad)[0]

    def made(x, key):
        fake, stats = forward(net.params, x, key)
        return (), Seen(rows=fake, same=stats)

    def pulled(part, key):
        x, grad = part
        _, back, _ = jax.vjp(lambda p: forward(p, x, key), net.params, has_aux=True)
        return back(parts * grad)[0], Seen()  # the sum over the parts, as a mean

    _, seen = gradients.in_parts(made, x, key, parts)
    return seen.rows, seen.same, lambda g: gradients.in_parts(pulled, (x, g), key, parts)[0]


def update_gen(
    model: Pix2pix,
    gen_net: Net,
    disc_net: Net,
    x: Array,
    y: Array,
    made: tuple[Array, PyTree, Callable],
    extra: dict,
) -> tuple[Net, PyTree, Metrics]:
    """One update of the generator: (generator, discriminator's statistics, metrics).

    `made`: the fakes, the generator's statistics, and the function that pulls a gradient by the
    fakes back to its weights.
    """
    loss, (fake, stats, pull), parts = model.loss, made, model.microbatches
    scale = loss_scale.loss_scale(gen_net.opt)

    def total(fake, x, y):
        away = jnp.mean(distance(model, fake, y))
        terms = {f"loss/{loss.distance}_weighted": loss.l1_weight * away}
        disc_stats = disc_net.stats
        if loss.gan_weight:
            logits, disc_stats = model.disc.apply(
                disc_net.params, disc_net.stats, x, fake, train=True
            )
            terms["loss/gan"] = loss.gan_weight * model.adversarial.generator(logits)
        gen_loss = sum(terms.values())
        seen = {"loss/gen": gen_loss, f"loss/{loss.distance}": away, **terms}
        return scale * gen_loss, (disc_stats, seen)

    def by_fakes(part, _):
        grad, (disc_stats, seen) = jax.grad(total, has_aux=True)(*part)  # [B, H, W, C]
        return (), Seen(rows=grad, means=seen, same=disc_stats)

    _, seen = gradients.in_parts(by_fakes, (fake, x, y), (), parts)
    grads = pull(seen.rows / parts)
    disc_stats = loss_scale.unless_skipped(gen_net, grads, seen.same, disc_net.stats)
    tx, rate = model.gen_optim
    gen_net = optim.step(gen_net, tx, grads, stats, rate=rate(extra["step"]), **extra)
    return gen_net, disc_stats, seen.means | {"grad_norm/gen": optim.global_norm(grads) / scale}


def update_disc(
    model: Pix2pix, disc_net: Net, pairs: tuple[Array, ...], extra: dict, key: Array
) -> tuple[Net, Metrics]:
    """One update of the discriminator.

    `pairs`: inputs, targets, the fakes of this step, and the stacked inputs and fakes that the
    discriminator is shown as fake, which may come from earlier steps.
    """
    loss, apply, adversarial = model.loss, model.disc.apply, model.adversarial
    x, scale = pairs[0], loss_scale.loss_scale(disc_net.opt)
    drawn = ()
    if loss.gradient_penalty:
        drawn = (split_as(x, jax.random.uniform(key, (x.shape[0], 1, 1, 1))),)

    def disc_loss(params, part, _):
        x, y, fake, shown, *alpha = part
        shown_x, shown_fake = shown[..., : x.shape[-1]], shown[..., x.shape[-1] :]
        fake_logits, stats = apply(params, disc_net.stats, shown_x, shown_fake, train=True)
        real_logits, stats = apply(params, stats, x, y, train=True)
        real_loss, fake_loss = adversarial.real(real_logits), adversarial.fake(fake_logits)
        terms = {"loss/disc": loss.disc_weight * (real_loss + fake_loss)}

        def critic(at):
            return apply(params, disc_net.stats, x, at, train=True)[0]

        if alpha:  # between the real and the fake output of one input
            penalty = penalties.gradient_penalty(critic, y, fake, *alpha, scale=scale)
            terms["loss/gradient_penalty"] = loss.gradient_penalty * penalty
        seen = adversarial.discriminator_metrics(real_logits, fake_logits, real_loss, fake_loss)
        return scale * sum(terms.values()), Seen(means=terms | seen, same=stats)

    inputs = (*pairs, *drawn)
    grads, seen = gradients.average(disc_loss, disc_net.params, inputs, (), model.microbatches)
    tx, rate = model.disc_optim
    disc_net = optim.step(disc_net, tx, grads, seen.same, rate=rate(extra["step"]), **extra)
    return disc_net, seen.means | {"grad_norm/disc": optim.global_norm(grads) / scale}


def picture(model: Pix2pix, x: Array, made: Array) -> Array:
    """An output as a picture, [B, H, W, C] in [-1, 1]: if only colours were made, the input with
    these colours."""
    return colour.coloured(x, made) if model.lab else made


def translated(
    model: Pix2pix,
    params: PyTree,
    stats: PyTree,
    x: Array,
    seeds: Array,
    key: Array,
    mode: tuple[bool, bool],
) -> Array:
    """Outputs for inputs [B, H, W, C], each a function of its input and its seed alone.

    `mode`: whether to apply dropout, and whether batch norm uses the image's own statistics.
    """
    drop, own_statistics = mode
    if not drop and not own_statistics:
        return model.gen.apply(params, stats, x)[0]

    def one(x, key):
        made, _ = model.gen.apply(params, stats, x[None], drop, train=own_statistics, key=key)
        return made[0]

    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, seeds)
    return jax.vmap(one)(x, keys)


def eval_step(model: Pix2pix, state: TrainState, batch: Batch, key: Array, stage: Stage) -> Metrics:
    """Distances of every output from its target [B], with running statistics and no dropout."""
    loss, x, y = model.loss, images.to_unit(batch["input"]), unit_target(model, batch)
    params, stats = ema.averaged(state.nets["gen"])
    fake, _ = model.gen.apply(params, stats, x)
    l1 = images.per_image(jnp.abs(fake - y))
    values = {"l1": l1, "total": loss.l1_weight * images.per_image(distance(model, fake, y))}
    if loss.gan_weight:
        disc_net = state.nets["disc"]
        logits, _ = model.disc.apply(disc_net.params, disc_net.stats, x, fake)
        values["gan"] = images.per_image(model.adversarial.fool(logits))
        values["total"] += loss.gan_weight * values["gan"]
    seen, wanted = picture(model, x, fake), images.to_unit(batch["target"])
    # the mean over images of a value that may be infinite: a perfect copy counts as 100 dB
    values["psnr"] = jnp.minimum(images.psnr(seen, wanted, 2.0), 100.0)
    if model.facts.resolution >= images.SSIM_WINDOW:
        # SSIM changes when both images are shifted, and is defined for luminances from 0 up
        values["ssim"] = images.ssim(seen + 1, wanted + 1, 2.0)
    if model.test.train_mode_loss:
        numbers = numbers_of(batch, x.shape[0])
        again = translated(model, params, stats, x, numbers, key, (True, True))
        values["l1_train_mode"] = images.per_image(jnp.abs(again - y))
    return values


def sample_step(
    model: Pix2pix, state: TrainState, batch: Batch, key: Array, stage: Stage
) -> Images:
    """One image per input, with the raw weights and, if there is one, with their average."""
    x, net = images.to_unit(batch["input"]), state.nets["gen"]
    mode = (model.test.dropout, model.test.norm == "batch")

    def draw(params, stats):
        made = translated(model, params, stats, x, batch["seed"], key, mode)
        return picture(model, x, made)

    return {name: draw(*weights) for name, weights in ema.weights(net).items()}


def tiny(config) -> None:
    """Shrinks the networks, so that they fit images of 16 px. In place."""
    config.model.gen.width = config.model.disc.width = 4
    if config.model.disc.name == "original":
        config.model.disc.layers = min(config.model.disc.layers, 2)
