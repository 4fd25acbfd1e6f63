"""ProGAN: networks that grow while they learn, from 4 px to 1024.

Paper: Karras, Aila, Laine and Lehtinen, Progressive growing of GANs for improved quality,
stability and variation, 2018. Reference: the authors' TensorFlow code, and for CIFAR-10 their
Theano code (order "joint").

Order of an iteration: the discriminator learns from real images and from fakes with the classes of
the real ones; the average of the generator takes in its weights; the generator learns from other
fakes, with classes drawn from those of the batch. Every stage has one resolution and batch size and
is either a fade or not; moments are reset when one begins.

Deviations: images stay at the side that is being learnt. In the original they are always of the
final size, enlarged by nearest neighbour, where the norm of the critic's gradient is that at the
small side divided by 2^⌊lod⌋: the penalty is computed from this norm, so losses and gradients are
the same. Reals are shrunk on the device from the final size, with the same rounding.
"""

from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.core import grads as gradients
from gan_jax.core import loss_scale, optim, players, schedules
from gan_jax.core.intervals import Every
from gan_jax.core.sampler import latents_of, numbers_of
from gan_jax.core.system import Facts, Net, Stage, System, TrainState, new_state
from gan_jax.errors import UserError
from gan_jax.models import convolution
from gan_jax.models import progan as networks
from gan_jax.ops import images, penalties, progressive_growing
from gan_jax.ops.groups import by_groups

ORDERS = ("disc_first", "joint")
BATCH = "config.growth.batch: a step's"  # what to change where a batch does not divide
AUTO = {
    "growth.preset": progressive_growing.preset_for
}  # what "auto" becomes, given the number of devices
OF_PRESET = -1.0  # a length that the preset decides


def defaults() -> dict:
    """The sections of a config that this system reads."""

    def optimiser(**own) -> dict:
        adam = dict(lr=1e-3, b1=0.0, b2=0.99, eps=1e-8, eps_hat=True)
        return {**optim.defaults(), **adam, "schedule": schedules.defaults(), **own}

    return dict(
        batch_size=0,  # images per step where growth.batch says nothing; 0: the preset's
        growth=dict(
            # of the original, for 1 to 8 GPUs: v1-1gpu | v2-1gpu | v2-2gpus | v2-4gpus | v2-8gpus;
            # auto: by the devices that the run begins with; none: all is said here
            preset="auto",
            initial_resolution=4,  # data.resolution: nothing grows
            training_kimg=OF_PRESET,  # thousand images at a resolution; -1: the preset's
            transition_kimg=OF_PRESET,  # thousand images of a fade; -1: the preset's
            batch="",  # images per step, such as "4:128,8:64"; "": the preset's
            gen_rates="",  # in place of optim.gen.lr, such as "1024:0.0015"; "": the preset's
            disc_rates="",
            ticks="",  # thousand images in a tick, "4:160"; "": the original's
            repeats=4,  # steps between two looks at the schedule
            reset=True,  # Adam's moments, where a fade begins and where it ends
            round_pixels=True,  # shrunk real images have whole grey levels
        ),
        model={**networks.defaults(), "minibatch_stddev": -1},  # -1: the preset's, or 4
        loss=dict(
            order="disc_first",  # | joint, both from the same fakes
            gradient_penalty=10.0,  # λ; what is added is λ / target² · mean (norm - target)²
            target=1.0,
            drift=0.001,  # ε of mean D(real)²
            label_weight=1.0,  # of the classes' cross entropies
            skip_limit=20,  # updates in a row that broken gradients may cost before the run stops
        ),
        optim=dict(gen=optimiser(ema=(0.999,), ema_of="before"), disc=optimiser()),
        quality=dict(metrics=("swd", "ms_ssim"), split="train"),
        best=dict(
            metric="swd",
            start_from_best=False,  # a new resolution begins with the best state of the last one
        ),
    )


def make(config, facts: Facts) -> System:
    """The system that a config describes (sections: see `defaults`, and `run.steps`)."""
    growth, run = _checked_plan(config, facts)
    loss, model = config.loss, _resolved(config)
    classes = facts.num_classes if model.conditional else 0
    z_dim = networks.latent_size(model)
    gen, disc = networks.build(model, facts.resolution, facts.channels, classes)
    looks = {tick.step: n for n, tick in enumerate(progressive_growing.ticks(growth, run), start=1)}
    stages = tuple(
        Stage(
            s.side, s.batch, s.step, s.steps,
            {k: n for k, n in looks.items() if s.step < k <= s.step + s.steps},
        )
        for s in run
    )  # fmt: skip
    epoch_steps = [max(facts.train_size // stage.batch_size, 1) for stage in stages]
    learn = players.make(config.optim, stages, epoch_steps, config.best.mode == "min")
    half = model.dtype == "float16"
    gen_tx, disc_tx = (loss_scale.guarded(learn[n].tx, half) for n in ("gen", "disc"))
    gen_rate, disc_rate = (
        _by_side(learn[n].rate, config.optim[n].lr, _rates(config, f"{n}_rates"), stages)
        for n in ("gen", "disc")
    )
    txs = {"gen": gen_tx, "disc": disc_tx}

    def init(key, batch, stage) -> TrainState:
        gen_key, disc_key = jax.random.split(key)
        side = facts.resolution
        label = jnp.zeros((2, classes))
        z, x = jnp.zeros((2, z_dim)), jnp.zeros((2, side, side, facts.channels))
        nets = {
            "gen": optim.new_net(gen_tx, *gen.init(gen_key, z, label, side, 0.0)),
            "disc": optim.new_net(disc_tx, *disc.init(disc_key, x, label, side, 0.0)),
        }
        none = jnp.zeros((), jnp.int32)
        return new_state(nets, {"skipped": {"gen": none, "disc": none}})

    def draw(params, z, label, at):
        """Images [N, side, side, C]; `at` is (side, fade), here and below."""
        return gen.apply(params, {}, z, label, *at)[0]

    def judge(params, x, at):
        """(score [N], logits of the class [N, classes])."""
        return disc.apply(params, {}, x, None, *at)[0]

    def one_hot(label):
        """Classes [N] as [N, classes]; rows that are given as such stay."""
        return label if label.ndim == 2 else jax.nn.one_hot(label, classes)

    def real_images(batch, side: int, fade):
        """What the discriminator sees of a batch: [B, side, side, C] in [-1, 1]."""
        if "real" in batch:
            return batch["real"]
        x = progressive_growing.shrink(batch["image"], side, config.growth.round_pixels)
        return progressive_growing.blend(images.to_unit(x), fade)

    def latents(batch, name: str, count: int, key):
        return batch[name] if name in batch else jax.random.normal(key, (count, z_dim))

    def classes_for_gen(batch, key):
        """Classes drawn from those of the batch, as one-hot rows."""
        if "label_gen" in batch:
            return one_hot(batch["label_gen"])
        label = batch["label"]
        return one_hot(label[jax.random.randint(key, (label.shape[0],), 0, label.shape[0])])

    def wrong_class(logits, label):
        """Mean cross entropy of logits [N, L] with one-hot rows."""
        return -jnp.mean(jnp.sum(label * jax.nn.log_softmax(logits), axis=-1))

    def gen_loss(disc_params, fake, label, at):
        score, logits = judge(disc_params, fake, at)
        terms = {"loss/gen": -jnp.mean(score)}
        if classes:
            terms["loss/gen_label"] = loss.label_weight * wrong_class(logits, label)
        return sum(terms.values()), terms

    def disc_loss(params, real, fake, label, mixing, scale, at):
        """WGAN-GP with drift, and the classes of reals and fakes."""
        side, _ = at
        fake = jax.lax.stop_gradient(fake)
        real_score, real_logits = judge(params, real, at)
        fake_score, fake_logits = judge(params, fake, at)
        mixed = real + (fake - real) * mixing
        # scaled too: the gradient by the image passes through half precision
        critic = lambda x: scale * judge(params, x, at)[0]  # noqa: E731
        norms = penalties.gradient_norms(critic, mixed) / scale / (facts.resolution // side)
        away = jnp.mean(jnp.square(norms - loss.target)) / loss.target**2
        terms = {
            "loss/disc": jnp.mean(fake_score) - jnp.mean(real_score),
            "loss/gradient_penalty": loss.gradient_penalty * away,
            "loss/drift": loss.drift * jnp.mean(jnp.square(real_score)),
        }
        if classes:
            wrong = wrong_class(real_logits, label) + wrong_class(fake_logits, label)
            terms["loss/disc_label"] = loss.label_weight * wrong
        seen = {
            "score/real": jnp.mean(real_score),
            "score/fake": jnp.mean(fake_score),
            "gradient_norm/mixed": jnp.mean(norms),
        }
        return sum(terms.values()), terms | seen

    def learnt(name: str, net: Net, grads, side: int, extra) -> tuple[Net, dict]:
        """The network after an update, and what to say of it."""
        rate = {"gen": gen_rate, "disc": disc_rate}[name](extra["step"])
        scale = loss_scale.loss_scale(net.opt)
        found = {
            f"grad_norm/{name}": optim.global_norm(grads) / scale,
            f"rate/{name}": rate * optim.rate_scale(net),
        }
        if half:
            found[f"loss_scale/{name}"] = scale
        # layers of sides to come have no gradient and no moments yet: nothing to compute there
        used = networks.in_use(net.params, side)
        part = optim.step(
            optim.narrowed(net, used), txs[name], {k: grads[k] for k in used}, net.stats,
            rate=rate, **extra,
        )  # fmt: skip
        return optim.widened(part, net), found

    def train_step(state: TrainState, batch, key, stage: Stage):
        """One update of the discriminator and one of the generator."""
        side = stage.resolution
        fade = batch.get("fade")
        if fade is None:
            fade = progressive_growing.fade(growth, run, state.step, side)
        at = (side, fade)
        gen_net, disc_net = state.nets["gen"], state.nets["disc"]
        disc_key, gen_key, mix_key, label_key = jax.random.split(key, 4)
        extra = dict(
            step=state.step, validation=state.validation, batch_images=float(stage.batch_size)
        )
        real, label = real_images(batch, side, fade), one_hot(batch["label"])
        count = real.shape[0]
        mixing = batch.get("mixing")
        if mixing is None:
            mixing = jax.random.uniform(mix_key, (count, 1, 1, 1))
        z = latents(batch, "z_disc", count, disc_key)
        scale = {n: loss_scale.loss_scale(net.opt) for n, net in state.nets.items()}

        if loss.order == "joint":

            def forward(gen_params, disc_params):
                fake = draw(gen_params, z, label, at)
                for_gen, gen_terms = gen_loss(disc_params, fake, label, at)
                for_disc, disc_terms = disc_loss(
                    disc_params, real, fake, label, mixing, scale["disc"], at
                )
                return scale["gen"] * for_gen, scale["disc"] * for_disc, gen_terms | disc_terms

            gen_grads, disc_grads, metrics = gradients.two_players(
                forward, gen_net.params, disc_net.params
            )
            disc_net, disc_found = learnt("disc", disc_net, disc_grads, side, extra)
        else:
            fake = draw(gen_net.params, z, label, at)

            def for_disc(params):
                total, terms = disc_loss(params, real, fake, label, mixing, scale["disc"], at)
                return scale["disc"] * total, terms

            disc_grads, disc_terms = jax.grad(for_disc, has_aux=True)(disc_net.params)
            disc_net, disc_found = learnt("disc", disc_net, disc_grads, side, extra)
            z, own = latents(batch, "z_gen", count, gen_key), classes_for_gen(batch, label_key)

            def for_gen(params):
                fake = draw(params, z, own, at)
                total, terms = gen_loss(disc_net.params, fake, own, at)
                return scale["gen"] * total, terms

            gen_grads, gen_terms = jax.grad(for_gen, has_aux=True)(gen_net.params)
            metrics = gen_terms | disc_terms
        gen_net, gen_found = learnt("gen", gen_net, gen_grads, side, extra)

        kimg = progressive_growing.images_at(run, state.step) / 1000
        metrics |= gen_found | disc_found | {"growth/fade": fade, "progress/kimg": kimg}
        nets = {"gen": gen_net, "disc": disc_net}
        skipped = loss_scale.count_skipped(state.extra["skipped"], metrics)
        metrics = loss_scale.told(metrics, skipped, loss.skip_limit)
        state = state.replace(step=state.step + 1, nets=nets, extra={"skipped": skipped})
        return state, metrics

    def eval_step(state: TrainState, batch, key, stage: Stage):
        """The critic's answers on held-out images, by what the averaged generator draws of the
        latents of their numbers in the set.

        The minibatch standard deviation is that of consecutive images of the set, in groups as
        large as in training.
        """
        at = (stage.resolution, progressive_growing.fade(growth, run, state.step, stage.resolution))
        real, label = real_images(batch, *at), one_hot(batch["label"])
        count = real.shape[0]
        z = latents_of({"seed": numbers_of(batch, count)}, key, z_dim)
        fake = draw(optim.averaged(state.nets["gen"])[0], z, label, at)
        alone = lambda x: judge(state.nets["disc"].params, x, at)  # noqa: E731
        see = partial(by_groups, alone, min(model.minibatch_stddev, count))
        (real_score, real_logits), (fake_score, fake_logits) = see(real), see(fake)
        values = {"wasserstein": real_score - fake_score}
        if classes:
            hit = lambda logits: jnp.argmax(logits, -1) == jnp.argmax(label, -1)  # noqa: E731
            values["accuracy_real"] = hit(real_logits).astype(jnp.float32)
            values["accuracy_fake"] = hit(fake_logits).astype(jnp.float32)
        return values

    def sample_step(state: TrainState, batch, key, stage: Stage):
        """One image per seed (and class) at the stage's side: of the averaged weights, and raw."""
        at = (stage.resolution, progressive_growing.fade(growth, run, state.step, stage.resolution))
        z, net = latents_of(batch, key, z_dim), state.nets["gen"]
        label = one_hot(batch["label"])
        weights = {"raw": net.params}
        if optim.has_average(net):
            weights["ema"] = optim.averaged(net)[0]
        return {n: jnp.clip(draw(params, z, label, at), -1, 1) for n, params in weights.items()}

    def enter_stage(state: TrainState, stage: Stage) -> TrainState:
        """Fresh moments, where the config asks for them; averages stay."""
        if not config.growth.reset:
            return state
        nets = {n: optim.reset_moments(net, txs[n]) for n, net in state.nets.items()}
        return state.replace(nets=nets)

    return System(
        stages=stages,
        init=init,
        train_step=train_step,
        eval_step=eval_step,
        sample_step=sample_step,
        enter_stage=enter_stage,
        rates={"gen": gen_rate, "disc": disc_rate},
        labelled=classes > 0,
        latents=z_dim,
        notices=_notices(config, stages),
        compiler_options=convolution.compiler_options(training=True),
    )


def plan(config, facts: Facts) -> tuple[progressive_growing.Growth, list[progressive_growing.Span]]:
    """The schedule of a config, and the stages that it makes. Raises UserError as `make`."""
    section = config.growth
    preset = progressive_growing.PRESETS.get(section.preset)
    own = bool(config.batch_size or section.batch)
    lengths = {}
    for name in ("training_kimg", "transition_kimg"):
        lengths[name] = section[name]
        if section[name] == OF_PRESET:
            lengths[name] = preset.kimg if preset else 0.0
    named = lambda key, kind: progressive_growing.table(  # noqa: E731
        section[key], kind, f"config.growth.{key}", UserError
    )
    batch, limits = named("batch", int), {}
    if not own:
        batch = preset.batch
        limits = progressive_growing.PER_DEVICE
        limits = limits if config.model.dtype == "float32" else progressive_growing.PER_DEVICE_HALF
    growth = progressive_growing.Growth(
        resolution=facts.resolution,
        base=config.batch_size or (preset.base if preset else 1),
        batch=batch,
        initial_resolution=section.initial_resolution,
        repeats=section.repeats,
        devices=1 if own else preset.devices,
        per_device=limits,
        ticks=named("ticks", float) or progressive_growing.TICKS,
        **lengths,
    )
    if preset and config.run.steps == "preset":
        length = Every(preset.total_kimg * 1000, "images")
    else:
        length = Every.parse(config.run.steps, "config.run.steps")
    if length.unit == "ticks" or length.count < 1:
        raise UserError(
            f"config.run.steps={config.run.steps!r}: give a length in images, steps or epochs"
            + (', or "preset"' if preset else "")
        )
    if length.unit == "steps":
        run = progressive_growing.spans(growth, steps=round(length.count))
    else:
        size = facts.train_size if length.unit == "epochs" else 1
        run = progressive_growing.spans(growth, images=length.count * size)
    return growth, run


def _rates(config, key: str) -> dict[int, float]:
    """Learning rates by resolution."""
    given = progressive_growing.table(config.growth[key], float, f"config.growth.{key}", UserError)
    preset = progressive_growing.PRESETS.get(config.growth.preset)
    return given or (preset.rates if preset else {})


def _by_side(rate, lr: float, table: dict[int, float], stages: tuple[Stage, ...]):
    """The rate, with another base at the resolutions of a table."""
    if not table or not lr:
        return rate
    factors = np.array([table.get(s.resolution, lr) / lr for s in stages], np.float32)
    starts = np.array([s.start for s in stages], np.int32)

    def at(step):
        place = jnp.searchsorted(starts, step, side="right") - 1
        return rate(step) * jnp.asarray(factors)[place]

    return at


def _resolved(config):
    """The section `model` with the group size that a preset decides."""
    values = config.model.to_dict()
    if values["minibatch_stddev"] < 0:
        preset = progressive_growing.PRESETS.get(config.growth.preset)
        values["minibatch_stddev"] = preset.group if preset else 4
    return SimpleNamespace(**values)


def _notices(config, stages: tuple[Stage, ...]) -> tuple[str, ...]:
    """The plan, a line for every resolution."""
    lines = []
    for side in dict.fromkeys(s.resolution for s in stages):
        own = [s for s in stages if s.resolution == side]
        images_ = sum(s.steps * s.batch_size for s in own)
        lines.append(
            f"{side} px: {own[0].batch_size} images per step, steps {own[0].start} to "
            f"{own[-1].end} ({images_ / 1000:,.1f} thousand images)"
        )
    if stages[-1].resolution < config.data.resolution:
        lines.append(
            f"the run ends at {stages[-1].resolution} px, before config.data.resolution="
            f"{config.data.resolution} is reached: raise config.run.steps"
        )
    return tuple(lines)


def _checked_plan(
    config, facts: Facts
) -> tuple[progressive_growing.Growth, list[progressive_growing.Span]]:
    """`plan`, after all checks; raises UserError for values that are not accepted together."""
    loss, growth, model = config.loss, config.growth, config.model
    presets = ("none", *progressive_growing.PRESETS)  # "auto" has become one of them
    accepted = {
        "config.loss.order": (loss.order, ORDERS),
        "config.growth.preset": (growth.preset, presets),
        "config.model.dtype": (model.dtype, networks.DTYPES),
    }
    for key, (found, values) in accepted.items():
        if found not in values:
            raise UserError(f"{key}={found!r}: accepted are {', '.join(values)}")
    side, first = facts.resolution, growth.initial_resolution
    if side < 8 or side & (side - 1):
        near = 1 << max(side - 1, 7).bit_length()
        raise UserError(
            f"config.data.resolution={side}: growing doubles the side again and again, so it must "
            f"be a power of two, 8 or more; set it to {near}, with config.data.resize=crop, or "
            "with config.data.pad for a border"
        )
    if first < 4 or first & (first - 1) or first > side:
        raise UserError(
            f"config.growth.initial_resolution={first}: must be a power of two from 4 to "
            f"config.data.resolution={side}"
        )
    if growth.preset == "none":
        for key in ("training_kimg", "transition_kimg"):
            if growth[key] < 0:
                raise UserError(f"config.growth.{key}={growth[key]}: say it where preset is none")
        if not config.batch_size and not growth.batch:
            raise UserError("config.batch_size=0: say it where config.growth.preset is none")
    if networks.channels(side, model.fmap_base, model.fmap_decay, model.fmap_max) < 1:
        raise UserError(
            f"config.model.fmap_base={model.fmap_base}: too few for one channel at {side} px; "
            f"use {side // 2} or more"
        )
    lowest = {
        "batch_size": (config.batch_size, 0),
        "growth.repeats": (growth.repeats, 1),
        "model.fmap_base": (model.fmap_base, 1),
        "model.fmap_max": (model.fmap_max, 1),
        "model.fmap_decay": (model.fmap_decay, 0),
        "model.z_dim": (model.z_dim, 0),
        "model.minibatch_stddev": (model.minibatch_stddev, -1),
        "loss.gradient_penalty": (loss.gradient_penalty, 0),
        "loss.drift": (loss.drift, 0),
        "loss.label_weight": (loss.label_weight, 0),
        "loss.skip_limit": (loss.skip_limit, 0),
    }
    for key, (value, least) in lowest.items():
        if not value >= least:
            raise UserError(f"config.{key}={value}: must be at least {least}")
    for key in ("training_kimg", "transition_kimg"):
        if growth[key] < 0 and growth[key] != OF_PRESET:
            raise UserError(f"config.growth.{key}={growth[key]}: at least 0, or -1 for a preset's")
    if not loss.target > 0:
        raise UserError(f"config.loss.target={loss.target}: must be above 0")
    planned, run = plan(config, facts)
    if first < side and not planned.training_kimg + planned.transition_kimg:
        raise UserError(
            "config.growth.training_kimg and transition_kimg are both 0: nothing would ever grow; "
            f"set them, or config.growth.initial_resolution={side}"
        )
    group = _resolved(config).minibatch_stddev
    for span in run:
        if group > 1 and span.batch % min(group, span.batch):
            raise UserError(
                f"config.model.minibatch_stddev={group}: groups must divide the {span.batch} "
                f"images of a step at {span.side} px; change config.growth.batch or "
                "config.batch_size, or set 0 for none"
            )
    return planned, run


def tiny(config) -> None:
    """Shrinks the networks, and grows from 4 px in 14 steps. In place."""
    first = min(config.growth.initial_resolution, config.data.resolution)
    config.growth.update(preset="none", initial_resolution=first)
    config.growth.update(training_kimg=0.016, transition_kimg=0.032)
    config.growth.update(batch="", gen_rates="", disc_rates="", ticks="", repeats=1)
    config.model.update(fmap_base=32, fmap_max=8, z_dim=8)
    config.run.update(steps="14", sample_every="2", eval_every="2", save_every="2")
    if config.run.quality_every != "0":
        config.run.quality_every = "2"
