"""Diffusion models: a U-Net that learns to take noise away.

Paper: Dhariwal & Nichol 2021 (ADM), after Ho et al. 2020 and Nichol & Dhariwal 2021. Reference:
https://github.com/openai/guided-diffusion. Beside its discrete chain there are flow matching and
the preconditioning of Karras et al. 2022 around the same U-Net (`config.diffusion.process`), and
super-resolution, where the data are pairs with `config.data.pairs=upscale`.

There is one update per step: sample a level of noise for every image, add the noise, and let the
network predict what was added.

Deviations from the reference: the gradients of microbatches are averaged (the reference sums them);
the learning rate is a function of the step (the reference's annealing lags one update behind);
sampled levels and noise are functions of (seed, step); an update that is not finite is skipped in
every precision, and too many in a row end the run; the history of losses by which t may be sampled
is part of the checkpoint; classes may be dropped in training, for guidance without a classifier.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp

from gan_jax.core import ema, loss_scale, optim, plateau
from gan_jax.core import grads as gradients
from gan_jax.core.intervals import single_stage
from gan_jax.core.mesh import split_as
from gan_jax.core.seeds import noise_of, numbers_of
from gan_jax.core.system import (
    UNCHANGED,
    Array,
    Batch,
    Changes,
    Facts,
    Metrics,
    Net,
    PyTree,
    Stage,
    System,
    TrainState,
    changed,
    new_state,
)
from gan_jax.models import convolution, unet
from gan_jax.ops.diffusion import gaussian_diffusion, loss_quarters, processes, timestep_sampler
from gan_jax.systems import diffusion_config as checked
from gan_jax.systems import diffusion_networks as networks
from gan_jax.systems import diffusion_sampling as sampling
from gan_jax.systems.diffusion_choices import (
    GUIDE,
    check_guide,
    guide,
    is_guided,
    knows_classes,
    resample,
    rescale_guide,
)
from gan_jax.systems.diffusion_networks import Examples

TITLE = "A diffusion model"  # as reports call a model
SIZES = ("model.num_channels", "model.num_res_blocks")  # keys that make a step cheaper


__all__ = [
    "FROZEN", "GUIDE", "Diffusion", "build", "check_guide", "defaults", "eval_step", "guide",
    "init", "is_guided", "knows_classes", "make", "resample", "rescale_guide", "train_step",
]  # fmt: skip

FROZEN = (GUIDE,)  # nets that are used but not trained
# as in the reference: log2 of the scale begins at 20 and grows by 1e-3 per step
HALF_SCALE = dict(initial=2.0**20, growth_steps=1000)


@dataclass(frozen=True)
class Diffusion:
    """What a config describes: networks, process, sampling, optimizer and numbers. No arrays."""

    networks: networks.Networks
    process: processes.Process
    sampling: sampling.Sampling
    optimizer: optim.Optimizer  # which skips gradients that are not finite
    stages: tuple[Stage, ...]
    half: bool  # whether the loss is scaled for float16
    label_dropout: float
    microbatches: int
    skip_limit: int


def init(diffusion: Diffusion, key: Array, batch: Batch, stage: Stage) -> TrainState:
    """The state at step 0. The weights of a guiding classifier are restored into it afterwards."""
    made = networks.init(diffusion.networks, key, batch)
    nets = {"unet": optim.new_net(diffusion.optimizer.tx, *made["unet"])}
    nets |= {name: Net(*made[name], {}) for name in FROZEN if name in made}
    extra = {
        "levels": diffusion.process.history(),
        "quarters": jnp.full(4, -1.0, jnp.float32),  # below 0: nothing seen yet
        "skipped": jnp.zeros((), jnp.int32),
    }
    return new_state(nets, extra)


def train_step(
    diffusion: Diffusion, state: TrainState, batch: Batch, key: Array, stage: Stage
) -> tuple[TrainState, Metrics]:
    """One update. A batch may bring `level`, `noise` and `weight`, which are otherwise sampled."""
    net, process = state.nets["unet"], diffusion.process
    *draw_keys, part_key = jax.random.split(key, 4)
    examples = noisy_examples(diffusion, batch, state.extra["levels"], draw_keys)
    scale = loss_scale.loss_scale(net.opt)

    def mean_loss(params: PyTree, part: Examples, key: Array):
        _, _, terms = predicted(diffusion, params, part, key)
        weighted = {k: v * part["weight"] for k, v in terms.items()}
        return scale * jnp.mean(weighted["loss"]), (terms["loss"], weighted)

    grads, (plain, terms) = gradients.accumulate(
        mean_loss, net.params, examples, part_key, diffusion.microbatches
    )
    rate = diffusion.optimizer.rate(state.step)
    tx = diffusion.optimizer.tx
    new = optim.step(net, tx, grads, net.stats, rate=rate, **optim.inputs(state, stage))
    quarters = by_quarter(process, terms["loss"], examples["level"], state.extra["quarters"])
    metrics = {f"loss/{k if k != 'loss' else 'unet'}": jnp.mean(v) for k, v in terms.items()}
    metrics |= {f"loss/{name}": quarters[i] for i, name in enumerate(process.quarters)}
    metrics |= {
        "grad_norm/unet": optim.global_norm(grads) / scale,
        "param_norm/unet": optim.global_norm(new.params),
        "rate/unet": rate * plateau.rate_scale(new),
    }
    if diffusion.half:
        metrics["loss_scale/unet"] = scale
    skipped = loss_scale.count_skipped({"unet": state.extra["skipped"]}, metrics)
    metrics = loss_scale.mask_nonfinite(metrics, skipped, diffusion.skip_limit)
    levels = process.remember(state.extra["levels"], examples["level"], plain)
    extra = next_extra(state.extra, levels, quarters, skipped["unet"])
    nets = {**state.nets, "unet": new}
    return state.replace(step=state.step + 1, nets=nets, extra=extra), metrics


def noisy_examples(
    diffusion: Diffusion, batch: Batch, history: PyTree, keys: list[Array]
) -> Examples:
    """Training examples: images [B, H, W, C], each with a level, noise and the weight of its loss.

    `keys` are three: for the levels, for the noise, and for which images hide their class.
    """
    level_key, noise_key, drop_key = keys
    found = networks.examples(diffusion.networks, batch)
    count = found["image"].shape[0]
    level, weight = diffusion.process.draw(level_key, history, count)
    noise = jax.random.normal(noise_key, found["image"].shape)
    drawn = split_as(found["image"], {"level": level, "weight": weight, "noise": noise})
    found |= {name: batch.get(name, value) for name, value in drawn.items()}
    if diffusion.label_dropout:
        hidden = jax.random.bernoulli(drop_key, diffusion.label_dropout, (count,))
        hidden = split_as(found["image"], hidden)
        found["label"] = jnp.where(hidden, unet.NO_CLASS, found["label"])
    return found


def predicted(
    diffusion: Diffusion, params: PyTree, examples: Examples, key: Array | None = None
) -> tuple[Array, Array, dict[str, Array]]:
    """(the U-Net's output, the noisy images x, losses [B] by name) of noisy examples.

    `key` is for dropout, in training; None means no dropout.
    """
    image, level, noise = examples["image"], examples["level"], examples["noise"]
    x = diffusion.process.add_noise(image, level, noise)
    inputs = diffusion.process.inputs(x, level)
    output, _ = diffusion.networks.unet.apply(
        params, {}, *inputs, examples.get("label"), examples.get("low"),
        train=key is not None, key=key,
    )  # fmt: skip
    return output, x, diffusion.process.losses(output, image, x, noise, level)


def by_quarter(process: processes.Process, loss: Array, level: Array, known: Array) -> Array:
    """The mean loss of each quarter of the levels, [4].

    A quarter without an image in the batch repeats its last mean, which is in `known` [4], or takes
    the mean of the batch if it has none yet (`known` is below 0).
    """
    last = jnp.where(known < 0, jnp.mean(loss), known)
    return loss_quarters.means(loss, process.quarter(level), last)


def next_extra(
    old: Mapping[str, PyTree], levels: PyTree, quarters: Array, skipped: Array
) -> dict[str, PyTree]:
    """The system's own arrays after a step that saw these levels and quarters of the loss."""

    def unless_skipped(new: Array, old: Array) -> Array:
        return jnp.where(skipped > 0, old, new)

    return {
        # a single NaN among the losses would turn every weight into NaN
        "levels": jax.tree.map(unless_skipped, levels, old["levels"]),
        "quarters": jnp.where(jnp.isfinite(quarters), quarters, old["quarters"]),
        "skipped": skipped,
    }


def eval_step(
    diffusion: Diffusion, state: TrainState, batch: Batch, key: Array, stage: Stage
) -> dict[str, Array]:
    """Losses [B] with the averaged weights, at levels spread evenly over those of training; for a
    chain also an estimate of its bits per dimension from the same outputs. The level and the noise
    of an image are functions of its number in the set.
    """
    process, shape = diffusion.process, diffusion.networks.shape
    params, _ = ema.averaged(state.nets["unet"])
    examples = networks.examples(diffusion.networks, batch)
    count = examples["image"].shape[0]
    place_key, noise_key = jax.random.split(key)
    numbers, u = numbers_of(batch, count), jax.random.uniform(place_key)
    examples["level"] = process.spread(timestep_sampler.even_places(numbers, u))
    examples["noise"] = noise_of(numbers, noise_key, shape)(0)
    output, x, terms = predicted(diffusion, params, examples)
    if isinstance(process, processes.Discrete):
        terms["bits_per_dim"] = bits_per_dim(process, output, x, examples)
    return terms


def bits_per_dim(process: processes.Discrete, output: Array, x: Array, examples: Examples) -> Array:
    """An estimate of the variational bound, in bits per dimension, from one level per image: [B].

    It is the bound's term at this level times the number of steps, plus the prior's term.
    """
    chain, objective, level = process.chain, process.objective, examples["level"]
    known = gaussian_diffusion.predict(
        chain, output, x, level, target=objective.target, variance=objective.variance
    )
    bits = gaussian_diffusion.bound_bits(chain, known, examples["image"], x, level)
    return chain.steps * bits + gaussian_diffusion.prior_bits(chain, examples["image"])


def defaults() -> dict:
    """The sections of a config that this system reads."""
    optimizer = optim.defaults(name="adamw", lr=1e-4, weight_decay_mask="all", ema=(0.9999,))
    return dict(
        batch_size=128,
        microbatches=1,  # parts of a batch whose gradients are averaged: less memory
        model=unet.defaults(),
        diffusion=dict(
            process="discrete",  # | flow | edm; the section of that name is read
            label_dropout=0.0,  # share of images whose class is hidden, for sampling.guidance
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
            respacing="",  # the steps that are trained on, written as in sampling.steps; "": all
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
            spacing="time",  # of dpm++ on a chain | sigma: as many levels, spread as heun's
            eta=0.0,  # of ddim: 0 deterministic, 1 as noisy as ancestral
            clip="static",  # x_0 to [-1, 1] | dynamic, by its own percentile | none
            percentile=0.995,
            guidance=1.0,  # without a classifier; 1: none
            sigma_min=0.0,  # of heun and of spacing by sigma; 0: the process's own
            sigma_max=0.0,
            rho=7.0,
            churn=0.0,  # of heun: fresh noise, between churn_min and churn_max
            churn_min=0.0,
            churn_max=0.0,  # 0: no limit
            churn_noise=1.0,
            progress="",  # the weights, raw or ema, whose sampling shows its progress on stderr
        ),
        classifier=dict(
            scale=0.0,  # of guidance by the classifier named in restore.classifier; 0: none
            **unet.classifier_defaults(),
        ),
        optim=dict(unet=optimizer),
        quality=dict(metrics=("fid",)),
    )


def build(config, facts: Facts) -> Diffusion:
    """The model that a config describes. Raises UserError for values that are not accepted."""
    checked.check(config, facts)
    process, how = checked.process(config), checked.settings(config)
    chain = process.chain if isinstance(process, processes.Discrete) else None
    walked = checked.walked(config, chain, how)
    nets = networks.build(config, facts, process.outputs)
    stages, epoch_steps = single_stage(
        facts.resolution, config.batch_size, config.run.steps, facts.train_size
    )
    own = optim.optimizers(config.optim, stages, epoch_steps, config.best.mode == "min")["unet"]
    half = config.model.dtype == "float16"
    return Diffusion(
        networks=nets,
        process=process,
        sampling=sampling.build(config, nets, how, process, walked),
        optimizer=own._replace(tx=loss_scale.guarded(own.tx, half, **HALF_SCALE)),
        stages=stages,
        half=half,
        label_dropout=config.diffusion.label_dropout,
        microbatches=config.microbatches,
        skip_limit=config.diffusion.skip_limit,
    )


def make(config, facts: Facts, changes: Changes = UNCHANGED) -> System:
    """The system that a config describes (sections: see `defaults`; and `run.steps`)."""
    diffusion = changed(build(config, facts), changes)
    nets, drawing = diffusion.networks, diffusion.sampling
    return System(
        stages=diffusion.stages,
        init=partial(init, diffusion),
        train_step=partial(train_step, diffusion),
        eval_step=partial(eval_step, diffusion),
        sample_step=partial(sampling.sample_step, drawing),
        tasks=sampling.tasks(drawing),
        rates={"unet": diffusion.optimizer.rate},
        labelled=nets.by_class or nets.guide is not None,
        latents=sampling.latents(drawing),
        parts=diffusion.microbatches,
        compiler_options=convolution.compiler_options(products=True),
        sampling_options=convolution.compiler_options(products=True),
    )


def tiny(config) -> None:
    """Shrinks the U-Net to 8 px and the sampler to 3 steps; process, targets, losses, schedules
    and the network's switches stay. In place."""
    config.model.update(unet.TINY)
    schedule = config.optim.unet.schedule
    schedule.warmup = min(schedule.warmup, 2.0)
    config.sampling.steps = "3"
