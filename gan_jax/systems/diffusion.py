"""Diffusion models: a U-Net that learns to take noise away.

Paper: Dhariwal & Nichol 2021 (ADM), after Ho et al. 2020 and Nichol & Dhariwal 2021. Reference:
https://github.com/openai/guided-diffusion. Beside its discrete chain there are flow matching and
the preconditioning of Karras et al. 2022 around the same U-Net (`config.diffusion.process`), and
super-resolution, where the data are pairs with `config.data.pairs=upscale`.

One update per step: draw a level of noise for every image, add the noise, learn what was added.

Deviations from the reference: microbatches average their gradients (it sums them); the learning
rate is a function of the step (its annealing lags one update behind); what is drawn of levels and
noise is a function of (seed, step); an update that is not finite is skipped in every precision, and
too many in a row end the run; a chosen t's history is part of the checkpoint; classes may be
dropped in training, for guidance without a classifier.
"""

import math

import jax
import jax.numpy as jnp

from gan_jax.core import grads as gradients
from gan_jax.core import loss_scale, optim, players, schedules
from gan_jax.core.intervals import single_stage
from gan_jax.core.progress import Progress
from gan_jax.core.sampler import latents_of, noise_of, numbers_of
from gan_jax.core.system import Facts, Net, Stage, System, Task, TrainState, new_state
from gan_jax.errors import UserError
from gan_jax.models import convolution
from gan_jax.models import unet as networks
from gan_jax.ops import images, resize
from gan_jax.ops.diffusion import (
    bound,
    chain_samplers,
    gaussian_diffusion,
    loss_quarters,
    noise_schedules,
    processes,
    timestep_sampler,
)
from gan_jax.ops.diffusion import sampling as drawing

FROZEN = ("classifier",)  # nets that are used and not trained


def defaults() -> dict:
    """The sections of a config that this system reads."""
    optimiser = {
        **optim.defaults(), "name": "adamw", "lr": 1e-4, "weight_decay_mask": "all",
        "ema": (0.9999,), "schedule": schedules.defaults(),
    }  # fmt: skip
    return dict(
        batch_size=128,
        microbatches=1,  # parts of a batch whose gradients are averaged: less memory
        model=networks.defaults(),
        diffusion=dict(
            process="discrete",  # | flow | edm; the section of that name is read
            label_dropout=0.0,  # share of images whose class is not told, for sampling.guidance
            skip_limit=10,  # updates in a row that may be skipped as not finite
        ),
        discrete=dict(
            steps=1000,
            schedule="linear",  # | cosine | sigmoid
            target="epsilon",  # | start_x | v | previous_x
            variance="learned_range",  # | learned | fixed_large | fixed_small
            loss="mse",  # | rescaled_mse | kl | rescaled_kl
            min_snr=0.0,  # γ of min-SNR weighting; 0: none
            timestep_sampler="uniform",  # | loss_second_moment
            rescale_timesteps=False,  # the network sees t · 1000 / steps
            respacing="",  # the steps that are trained on, as sampling.steps; "": all
        ),
        flow=dict(
            times="uniform",  # | logit_normal
            logit_mean=0.0,
            logit_std=1.0,
            shift=1.0,  # of the sampler's steps towards the noise, for large images
        ),
        edm=dict(sigma_data=0.5, mean=-1.2, std=1.2),
        sampling=dict(
            sampler="ancestral",  # | ddim | dpm++ | heun
            steps="250",  # a number; of a chain also "ddim25", "10,10,15", "" for all
            eta=0.0,  # of ddim: 0 deterministic, 1 as noisy as ancestral
            clip="static",  # x_0 to [-1, 1] | dynamic, by its own percentile | none
            percentile=0.995,
            guidance=1.0,  # without a classifier; 1: none
            sigma_min=0.0,  # of heun; 0: the process's own
            sigma_max=0.0,
            rho=7.0,
            churn=0.0,  # of heun: fresh noise, between churn_min and churn_max
            churn_min=0.0,
            churn_max=0.0,  # 0: no limit
            churn_noise=1.0,
            progress="",  # the weights, raw or ema, whose drawing shows a line on stderr
        ),
        classifier=dict(
            scale=0.0,  # of guidance by a classifier that restore.classifier names; 0: none
            **networks.classifier_defaults(),
        ),
        optim=dict(unet=optimiser),
        quality=dict(metrics=("fid",)),
    )


def make(config, facts: Facts) -> System:
    """The system that a config describes (sections: see `defaults`; and `run.steps`)."""
    _check(config, facts)
    process, chain = _process(config)
    settings = _settings(config)
    walked = None
    if settings.walks_chain(config.diffusion.process):
        walked = _chain(config, settings.steps)
        _check_walk(config, chain, walked)
    kinds = drawing.Kinds(config.discrete.target, config.discrete.variance) if chain else None
    side, colours = facts.resolution, facts.channels
    shape = (side, side, colours)
    upsampler, by_class = facts.input_channels > 0, config.model.class_cond
    unet = networks.unet(
        config.model, side, colours, colours * process.outputs, facts.num_classes, upsampler
    )
    guide = None
    if config.classifier.scale:
        guide = networks.noisy_classifier(config.classifier, side, facts.num_classes, "classifier")
    count = walked.steps if walked else settings.count()
    report = Progress(count) if config.sampling.progress else None
    draw_images = {
        told: drawing.make(settings, process, chain, walked, kinds, report if told else None)
        for told in (False, True)
    }
    stages, epoch_steps = single_stage(side, config.batch_size, config.run.steps, facts.train_size)
    learn = players.make(config.optim, stages, epoch_steps, config.best.mode == "min")["unet"]
    half = config.model.dtype == "float16"
    # the original's scale grows by 0.001 of a power of two at every good step
    tx = loss_scale.guarded(learn.tx, half, initial=2.0**20, growth_steps=1000)
    dropped, limit = config.diffusion.label_dropout, config.diffusion.skip_limit

    def init(key, batch, stage) -> TrainState:
        x, time = jnp.zeros((1, *shape)), jnp.zeros(1)
        label = jnp.zeros(1, jnp.int32)
        low = jnp.zeros((1, *batch["input"].shape[1:])) if upsampler else None
        nets = {"unet": optim.new_net(tx, *unet.init(key, x, time, label, low))}
        if guide:
            nets["classifier"] = Net(*guide.init(jax.random.fold_in(key, 1), x, time), {})
        extra = {
            "levels": process.history,
            "quarters": jnp.full(4, -1.0, jnp.float32),  # below 0: nothing seen yet
            "skipped": jnp.zeros((), jnp.int32),
        }
        return new_state(nets, extra)

    def shown(batch):
        """What a network is shown of a training batch: image, class, low resolution."""
        examples = {"image": images.to_unit(batch["target" if upsampler else "image"])}
        if by_class:
            examples["label"] = batch["label"]
        if upsampler:  # the mean before it is rounded to a grey level
            examples["low"] = resize.area(examples["image"], *batch["input"].shape[1:3])
        return examples

    def predicted(params, examples, key=None):
        """(output, x, losses [B] by name) of noisy examples."""
        image, level, noise = examples["image"], examples["level"], examples["noise"]
        x = process.noised(image, level, noise)
        asked = process.asked(x, level)
        output, _ = unet.apply(
            params, {}, *asked, examples.get("label"), examples.get("low"),
            train=key is not None, key=key,
        )  # fmt: skip
        return output, x, process.losses(output, image, x, noise, level)

    def train_step(state: TrainState, batch, key, stage: Stage):
        """One update. A batch may bring `level`, `noise` and `weight` in place of those drawn."""
        net = state.nets["unet"]
        level_key, noise_key, drop_key, part_key = jax.random.split(key, 4)
        examples = shown(batch)
        count = examples["image"].shape[0]
        level, weight = process.draw(level_key, state.extra["levels"], count)
        noise = jax.random.normal(noise_key, examples["image"].shape)
        drawn = {"level": level, "weight": weight, "noise": noise}
        examples |= {k: batch.get(k, v) for k, v in drawn.items()}
        if dropped:
            hidden = jax.random.bernoulli(drop_key, dropped, (count,))
            examples["label"] = jnp.where(hidden, networks.NO_CLASS, examples["label"])
        scale = loss_scale.loss_scale(net.opt)

        def mean_loss(params, part, key):
            _, _, terms = predicted(params, part, key)
            weighted = {k: v * part["weight"] for k, v in terms.items()}
            return scale * jnp.mean(weighted["loss"]), (terms["loss"], weighted)

        grads, (plain, terms) = gradients.accumulate(
            mean_loss, net.params, examples, part_key, config.microbatches
        )
        rate = learn.rate(state.step)
        new = optim.step(
            net, tx, grads, net.stats, rate=rate, step=state.step, validation=state.validation,
            batch_images=float(stage.batch_size),
        )  # fmt: skip
        known = state.extra["quarters"]
        last = jnp.where(known < 0, jnp.mean(terms["loss"]), known)
        quarter = loss_quarters.means(terms["loss"], process.quarter(examples["level"]), last)
        metrics = {f"loss/{k if k != 'loss' else 'unet'}": jnp.mean(v) for k, v in terms.items()}
        metrics |= {f"loss/{n}": quarter[i] for i, n in enumerate(process.quarters)}
        metrics |= {
            "grad_norm/unet": optim.global_norm(grads) / scale,
            "param_norm/unet": optim.global_norm(new.params),
            "rate/unet": rate * optim.rate_scale(new),
        }
        if half:
            metrics["loss_scale/unet"] = scale
        skipped = loss_scale.count_skipped({"unet": state.extra["skipped"]}, metrics)
        metrics = loss_scale.told(metrics, skipped, limit)
        seen = process.seen(state.extra["levels"], examples["level"], plain)
        extra = {
            # one loss that is not a number would make every weight one
            "levels": jax.tree.map(
                lambda new, old: jnp.where(skipped["unet"] > 0, old, new),
                seen,
                state.extra["levels"],
            ),
            "quarters": jnp.where(jnp.isfinite(quarter), quarter, known),
            "skipped": skipped["unet"],
        }
        nets = {**state.nets, "unet": new}
        return state.replace(step=state.step + 1, nets=nets, extra=extra), metrics

    def eval_step(state: TrainState, batch, key, stage: Stage):
        """Losses of the averaged weights at levels spread evenly over those trained on; of a chain
        also an estimate of its bits per dimension from the same answers. An image's level and noise
        are functions of its number in the set.
        """
        params, _ = optim.averaged(state.nets["unet"])
        examples = shown(batch)
        count = examples["image"].shape[0]
        place_key, noise_key = jax.random.split(key)
        numbers, u = numbers_of(batch, count), jax.random.uniform(place_key)
        examples["level"] = process.spread(timestep_sampler.even_places(numbers, u))
        examples["noise"] = noise_of(numbers, noise_key, shape)(0)
        output, x, terms = predicted(params, examples)
        if chain:
            known = gaussian_diffusion.predict(
                chain, output, x, examples["level"], **kinds._asdict()
            )
            bits = gaussian_diffusion.bound_bits(
                chain, known, examples["image"], x, examples["level"]
            )
            terms["bits_per_dim"] = chain.steps * bits
            terms["bits_per_dim"] += gaussian_diffusion.prior_bits(chain, examples["image"])
        return terms

    def weights_of(net: Net):
        """Parameters by name: raw, ema, and of further averages ema_<decay>."""
        sets = {"raw": net.params}
        if optim.has_average(net):
            for index in range(len(optim.links(net.opt)["ema"].params)):
                name = f"ema_{config.optim.unet.ema[index]:g}" if index else "ema"
                sets[name] = optim.averaged(net, index)[0]
        return sets

    def network(params, label, low):
        """(x, time) → output, for classes and small images that stay the same."""
        return lambda x, time: unet.apply(params, {}, x, time, label, low)[0]

    def drawn(params, frozen, batch, key, told: bool):
        """Images [N, H, W, C] for seeds [N], by one set of weights; `told` on stderr."""
        if "truncation" in batch:
            raise UserError("--truncation: diffusion draws no worse from the tails; leave it out")
        label = batch["label"] if by_class else None
        low = images.to_unit(batch["input"]) if upsampler else None
        z = latents_of(batch, key, math.prod(shape)).reshape(-1, *shape)
        noise_at = noise_of(batch["seed"], jax.random.fold_in(key, 1), shape)
        ask = network(params, label, low)
        if config.sampling.guidance != 1:
            none = jnp.full_like(batch["label"], networks.NO_CLASS)
            ask = processes.classifier_free(
                ask, network(params, none, low), config.sampling.guidance, colours
            )
        score = None
        if guide:
            judge = lambda x, time: guide.apply(frozen.params, {}, x, time)[0]  # noqa: E731
            score = processes.classifier_score(judge, batch["label"], config.classifier.scale)
        return draw_images[told](ask, z, noise_at, score)

    def sample_step(state: TrainState, batch, key, stage: Stage):
        """One image per seed, by every set of averaged weights and the raw."""
        net, frozen = state.nets["unet"], state.nets.get("classifier")
        # a drawing that is told of is no longer left out where nobody asks for its images
        return {
            name: drawn(params, frozen, batch, key, name == config.sampling.progress)
            for name, params in weights_of(net).items()
        }

    def likelihood(state: TrainState, batch, key, stage: Stage):
        """Bits per dimension of images along the steps that config.sampling.steps keeps, see
        `bound.walk`. Noise is a function of `seed` [B] and of the place in the chain."""
        params, _ = optim.averaged(state.nets["unet"])
        examples = shown(batch)
        ask = network(params, examples.get("label"), examples.get("low"))
        predict = drawing.predictor(walked, ask, kinds)
        noise_at = noise_of(batch["seed"], key, shape)
        return bound.walk(walked, predict, examples["image"], noise_at)

    def invert(state: TrainState, batch, key, stage: Stage):
        """Every image through the noise that DDIM makes of it, and back."""
        net, label = state.nets["unet"], batch["label"] if by_class else None
        image = images.to_unit(batch["image"])

        def there_and_back(params):
            predict = drawing.predictor(walked, network(params, label, None), kinds)
            noise = chain_samplers.ddim_reverse(walked, predict, image, skip_last=True)
            return jnp.clip(chain_samplers.ddim(walked, predict, noise), -1, 1)

        return {name: there_and_back(params) for name, params in weights_of(net).items()}

    tasks = {}
    if upsampler:
        doing = "enlarges a folder or .npz of images"
        tasks["upsample"] = Task(sample_step, doing, reads="input", uses=("unet",))
    elif walked:
        doing = "encodes images as noise by DDIM and decodes them again"
        tasks["invert"] = Task(invert, doing, reads="image", uses=("unet",))
    if walked:
        tasks["likelihood"] = Task(likelihood, "bits per dimension of images", uses=("unet",))
    return System(
        stages=stages,
        init=init,
        train_step=train_step,
        eval_step=eval_step,
        sample_step=sample_step,
        tasks=tasks,
        rates={"unet": learn.rate},
        labelled=by_class or guide is not None,
        latents=0 if upsampler or settings.random else math.prod(shape),
        compiler_options=convolution.compiler_options(training=True),
        sampling_options=convolution.compiler_options(training=False),
    )


def _chain(config, respacing: str, key: str = "sampling.steps") -> noise_schedules.Chain:
    """The steps of the chain that a respacing, of a config's key, keeps; "" keeps all."""
    section = config.discrete
    noise_schedules.check(section.schedule, section.steps, "config.discrete")
    return noise_schedules.chain(
        section.schedule, section.steps, respacing, section.rescale_timesteps, f"config.{key}"
    )


def _check_walk(config, chain: noise_schedules.Chain, walked: noise_schedules.Chain) -> None:
    """Raises UserError where images would be drawn along steps that the network does not know."""
    section, steps = config.discrete, f"config.sampling.steps={config.sampling.steps!r}"
    if not set(walked.kept) <= set(chain.kept):
        raise UserError(
            f"{steps}: keeps steps that config.discrete.respacing={section.respacing!r} has left "
            "out of training; give the same, or none"
        )
    told = {"target": section.target == "previous_x", "variance": section.variance == "learned"}
    for name, tied in told.items():
        if tied and walked.steps != chain.steps:
            raise UserError(
                f"{steps}: config.discrete.{name}={section[name]} is of the steps that are trained "
                f"on; draw along all of them, {section.respacing!r}"
            )


def _process(config) -> tuple[processes.Process, noise_schedules.Chain | None]:
    """What is learnt of noise, and the chain where it is one."""
    path = {name: config.sampling[name] for name in ("sigma_min", "sigma_max", "rho")}
    if config.diffusion.process == "flow":
        return processes.flow(**config.flow), None
    if config.diffusion.process == "edm":
        return processes.edm(**config.edm, **path), None
    section = config.discrete
    chain = _chain(config, section.respacing, "discrete.respacing")
    try:
        gaussian_diffusion.check(section.target, section.variance, section.loss, section.min_snr)
    except UserError as error:
        raise UserError(f"config.discrete: {error}") from None
    process = processes.discrete(
        chain, target=section.target, variance=section.variance, loss=section.loss,
        min_snr=section.min_snr, sampler=section.timestep_sampler, **path,
    )  # fmt: skip
    return process, chain


def _settings(config) -> drawing.Settings:
    """The section `sampling`, checked."""
    found = drawing.Settings(**{k: config.sampling[k] for k in drawing.Settings._fields})
    found.check(config.diffusion.process, config.discrete.target)
    return found


def _check(config, facts: Facts) -> None:
    """Raises UserError for values that are not accepted together."""
    kind, sampling = config.diffusion.process, config.sampling
    if kind not in processes.PROCESSES:
        raise UserError(
            f"config.diffusion.process={kind!r}: accepted are {', '.join(processes.PROCESSES)}"
        )
    if config.discrete.schedule not in noise_schedules.SCHEDULES:
        raise UserError(
            f"config.discrete.schedule={config.discrete.schedule!r}: accepted are "
            f"{', '.join(noise_schedules.SCHEDULES)}"
        )
    if config.diffusion.skip_limit < 0:
        raise UserError(
            f"config.diffusion.skip_limit={config.diffusion.skip_limit}: must be at least 0"
        )
    if config.data.pairs not in ("none", "upscale"):
        raise UserError(
            f"config.data.pairs={config.data.pairs!r}: diffusion takes single images (none), or "
            "makes small ones of them to enlarge (upscale)"
        )
    if config.batch_size < 1 or config.microbatches < 1:
        raise UserError(
            f"config.batch_size={config.batch_size}, config.microbatches={config.microbatches}: "
            "must be at least 1"
        )
    if config.batch_size % config.microbatches:
        raise UserError(
            f"config.microbatches={config.microbatches}: must divide config.batch_size="
            f"{config.batch_size}"
        )
    dropped, scale = config.diffusion.label_dropout, config.classifier.scale
    if not 0 <= dropped < 1:
        raise UserError(f"config.diffusion.label_dropout={dropped}: must lie in [0, 1)")
    for key, wanted in (
        ("config.diffusion.label_dropout", dropped),
        ("config.sampling.guidance", sampling.guidance != 1),
    ):
        if wanted and not config.model.class_cond:
            raise UserError(f"{key} needs a model of classes: set config.model.class_cond=True")
    if sampling.guidance != 1 and not dropped:
        raise UserError(
            f"config.sampling.guidance={sampling.guidance}: needs a model that was trained with "
            "config.diffusion.label_dropout above 0, such as 0.1"
        )
    if not scale >= 0:
        raise UserError(f"config.classifier.scale={scale}: must be at least 0")
    if scale and kind != "discrete":
        raise UserError(
            f"config.classifier.scale={scale}: a classifier knows the noise of a chain; set it to "
            "0, or config.diffusion.process to discrete"
        )
    if scale and not facts.num_classes:
        raise UserError(f"config.classifier.scale={scale}: this data has no classes")
    if scale and not config.restore.classifier[0]:
        raise UserError(
            f"config.classifier.scale={scale}: name the classifier, such as "
            "--config.restore.classifier=\"('runs/classifier', '*')\""
        )


def tiny(config) -> None:
    """Shrinks the U-Net to 8 px and the sampler to 3 steps; process, targets, losses, schedules
    and the network's switches stay. In place."""
    config.model.update(networks.TINY)
    config.microbatches = 1
    schedule = config.optim.unet.schedule
    schedule.warmup = min(schedule.warmup, 2.0)
    config.sampling.steps = "3"
