"""A classifier of noisy images, which is given their noise level, to guide a diffusion model.

Paper: Dhariwal & Nichol 2021, Diffusion models beat GANs on image synthesis. Reference:
https://github.com/openai/guided-diffusion, classifier_train.py.

An update samples a time t for every image, uniformly over the chain, adds noise, x_t =
q_sample(x_0, t), and minimises the cross entropy of the class given x_t and t. The optimizer is
AdamW with weight decay on all parameters. If `noised` is off, images stay clean and t is 0.
Gradients of microbatches are averaged. A linear rate is lr · (1 - s/N), where s is the step before
the update, as in the reference's loop: the first update uses lr itself.

Deviations: the data decide the number of classes and whether images are grey, where the reference
has 1000 classes and RGB. Only training images are mirrored; validation sees every held-out image
once, at times spread evenly over each batch instead of sampled. The reference offers a sampler that
weights the times, but ignores its weights; here t is uniform. In float16 the reference adds 1e-3 to
log2 of the loss scale at every good step; here the scale doubles after 1000 good steps, and is part
of the checkpoint. A run stops when more than `skip_limit` updates in a row are not finite.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import optax

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
    PyTree,
    Stage,
    System,
    Task,
    TrainState,
    changed,
    new_state,
)
from gan_jax.errors import UserError, at_least
from gan_jax.models import convolution, unet
from gan_jax.models.network import Network
from gan_jax.ops import images
from gan_jax.ops.diffusion import (
    gaussian_diffusion,
    loss_quarters,
    noise_schedules,
    timestep_sampler,
)

TITLE = "A classifier of noisy images"  # as reports call a model
SIZES = ("model.num_channels", "model.num_res_blocks")  # keys that make a step cheaper
BEST = 5  # how many of the likeliest classes accuracy@5 looks at
SEEN_BY_QUARTER = ("loss", "accuracy@1")
# as in the reference: log2 of the scale begins at 16 and grows by 1e-3 per step
HALF_SCALE = dict(initial=2.0**16, growth_steps=1000)


@dataclass(frozen=True)
class NoisyClassifier:
    """What a config describes: network, chain, optimizer and numbers. No arrays but the chain's."""

    net: Network
    chain: noise_schedules.Chain
    optimizer: optim.Optimizer  # which skips gradients that are not finite
    stages: tuple[Stage, ...]
    shape: tuple[int, int, int]  # of an image: H, W, C
    num_classes: int
    noised: bool
    half: bool  # whether the loss is scaled for float16
    microbatches: int
    skip_limit: int


def init(model: NoisyClassifier, key: Array, batch: Batch, stage: Stage) -> TrainState:
    """The state at step 0."""
    x = jnp.zeros((2, *model.shape))
    extra = {"skipped": {"classifier": jnp.zeros((), jnp.int32)}}
    if model.noised:
        extra["quarters"] = {n: jnp.zeros(loss_quarters.COUNT) for n in SEEN_BY_QUARTER}
    net = optim.new_net(model.optimizer.tx, *model.net.init(key, x, jnp.zeros(2)))
    return new_state({"classifier": net}, extra)


def train_step(
    model: NoisyClassifier, state: TrainState, batch: Batch, key: Array, stage: Stage
) -> tuple[TrainState, Metrics]:
    """One update. A batch may bring `t` and `noise`, which are otherwise sampled."""
    old = state.nets["classifier"]
    t_key, noise_key, part_key = jax.random.split(key, 3)

    def uniform(count: int) -> Array:
        return jax.random.randint(t_key, (count,), 0, model.chain.steps)

    examples = noisy_examples(model, batch, uniform, noise_key)
    scale = loss_scale.loss_scale(old.opt)

    def mean_loss(params: PyTree, part: Mapping[str, Array], key: Array):
        each = scores(model, params, part)
        return scale * jnp.mean(each["loss"]), each

    grads, each = gradients.accumulate(
        mean_loss, old.params, examples, part_key, model.microbatches
    )
    rate = model.optimizer.rate
    new = optim.step(
        old, model.optimizer.tx, grads, old.stats,
        rate=rate(state.step), **optim.inputs(state, stage),
    )  # fmt: skip
    grad_norm = optim.global_norm(grads) / scale
    metrics = {
        "loss/classifier": jnp.mean(each["loss"]),
        "accuracy@1/train": jnp.mean(each["accuracy@1"]),
        "accuracy@5/train": jnp.mean(each["accuracy@5"]),
        "grad_norm/classifier": grad_norm,
        "rate/classifier": rate(state.step) * plateau.rate_scale(new),
    }
    if model.half:
        metrics["loss_scale/classifier"] = scale
    extra = {"skipped": loss_scale.count_skipped(state.extra["skipped"], metrics)}
    if model.noised:
        extra["quarters"] = by_quarter(model, state, each, examples["t"])
        for name, values in extra["quarters"].items():
            names = loss_quarters.names(model.chain.steps)
            metrics |= {f"{name}/{part}": values[i] for i, part in enumerate(names)}
    metrics = loss_scale.mask_nonfinite(metrics, extra["skipped"], model.skip_limit)
    return state.replace(step=state.step + 1, nets={"classifier": new}, extra=extra), metrics


def noisy_examples(
    model: NoisyClassifier, batch: Batch, times: Callable[[int], Array], key: Array
) -> dict[str, Array]:
    """The examples to classify: images `x` [B, H, W, C] at times `t` [B], with classes `label` [B].

    If the batch brings no "t", it is `times(B)`; if it brings no "noise", that is sampled with
    `key`.
    """
    x = images.to_unit(batch["image"])
    if not model.noised:
        return {"x": x, "t": jnp.zeros(x.shape[0], jnp.int32), "label": batch["label"]}
    t = batch["t"] if "t" in batch else split_as(x, times(len(x)))
    noise = batch.get("noise")
    if noise is None:
        noise = split_as(x, jax.random.normal(key, x.shape, x.dtype))
    x = gaussian_diffusion.q_sample(model.chain, x, t, noise)
    return {"x": x, "t": t, "label": batch["label"]}


def classify(model: NoisyClassifier, params: PyTree, x: Array, t: Array) -> Array:
    """Logits [B, K] of images [B, H, W, C] at indices t [B] of the chain."""
    time = jnp.asarray(model.chain.model_times, x.dtype)[t]
    return model.net.apply(params, {}, x, time)[0]


def scores(
    model: NoisyClassifier, params: PyTree, examples: Mapping[str, Array]
) -> dict[str, Array]:
    """For each image [B]: the cross entropy, whether its class is the likeliest, and whether it is
    among the five likeliest."""
    logits, label = classify(model, params, examples["x"], examples["t"]), examples["label"]
    place = ranks(logits, label)
    return {
        "loss": optax.softmax_cross_entropy_with_integer_labels(logits, label),
        "accuracy@1": (place == 0).astype(logits.dtype),
        "accuracy@5": (place < BEST).astype(logits.dtype),
    }


def ranks(logits: Array, label: Array) -> Array:
    """How many classes are likelier than the right one `label` [B]: [B], from logits [B, K].

    Of equal logits the first counts as likelier, and NaN as likelier than any. Unlike a sort, which
    XLA does not split, this keeps the logits on their devices.
    """
    own = jnp.take_along_axis(logits, label[:, None], axis=1)
    later = jnp.arange(logits.shape[1]) >= label[:, None]
    return jnp.sum(~((logits < own) | ((logits == own) & later)), axis=1)


def by_quarter(
    model: NoisyClassifier, state: TrainState, each: Mapping[str, Array], t: Array
) -> dict[str, Array]:
    """The mean score of each quarter of the times, [4] by name.

    A quarter without an image in the batch repeats its last mean, or takes the mean of the batch at
    the first step.
    """
    found = {}
    for name, last in state.extra["quarters"].items():
        begun = jnp.where(state.step == 0, jnp.mean(each[name]), last).astype(last.dtype)
        now = loss_quarters.means(each[name], loss_quarters.index(t, model.chain.steps), begun)
        found[name] = jnp.where(jnp.isfinite(now), now, last)
    return found


def eval_step(
    model: NoisyClassifier, state: TrainState, batch: Batch, key: Array, stage: Stage
) -> dict[str, Array]:
    """Cross entropy and correctness of every image [B], with the averaged weights.

    Times are spread over the whole chain; the time and the noise of an image are functions of its
    number in the set.
    """
    t_key, noise_key = jax.random.split(key)
    numbers = numbers_of(batch, len(batch["image"]))

    def spread(count: int) -> Array:
        places = timestep_sampler.even_places(numbers, jax.random.uniform(t_key))
        return timestep_sampler.at_places(places, model.chain.steps)

    params, _ = ema.averaged(state.nets["classifier"])
    if "noise" not in batch:
        own = noise_of(numbers, noise_key, batch["image"].shape[1:])
        batch = {**batch, "noise": own(0)}
    return scores(model, params, noisy_examples(model, batch, spread, noise_key))


def features(
    model: NoisyClassifier, state: TrainState, batch: Batch, key: Array, stage: Stage
) -> dict[str, Array]:
    """Logits [B, K] of clean uint8 images, at t = 0. The features are the logits too."""
    x = images.to_unit(batch["image"])
    params, _ = ema.averaged(state.nets["classifier"])
    logits = classify(model, params, x, jnp.zeros(x.shape[0], jnp.int32))
    return {"logits": logits, "features": logits}


def defaults() -> dict:
    """The sections of a config that this system reads."""
    optimizer = optim.defaults(name="adamw", lr=3e-4, weight_decay_mask="all")
    return dict(
        batch_size=256,
        microbatches=1,  # parts of a batch, one after the other: saves memory
        noised=True,  # False: clean images, t = 0
        model=unet.classifier_defaults(),
        discrete=dict(  # the chain of the diffusion model that is to be guided
            steps=1000,
            schedule="linear",  # | cosine | sigmoid
            rescale_timesteps=False,  # the network is given t · 1000 / steps
        ),
        loss=dict(
            skip_limit=10,  # updates in a row that may be skipped as not finite
        ),
        optim=dict(classifier=optimizer),
        best=dict(metric="val/accuracy@1", mode="max"),
    )


def build(config, facts: Facts) -> NoisyClassifier:
    """The classifier that a config describes. Raises UserError for values that are not accepted."""
    _check(config, facts)
    chain, side = _chain(config.discrete), facts.resolution
    net = unet.noisy_classifier(config.model, side, facts.num_classes)
    stages, epoch_steps = single_stage(side, config.batch_size, config.run.steps, facts.train_size)
    lowest = config.best.mode == "min"
    own = optim.optimizers(config.optim, stages, epoch_steps, lowest)["classifier"]
    half = config.model.dtype == "float16"
    return NoisyClassifier(
        net=net,
        chain=chain,
        optimizer=own._replace(tx=loss_scale.guarded(own.tx, half, **HALF_SCALE)),
        stages=stages,
        shape=(side, side, facts.channels),
        num_classes=facts.num_classes,
        noised=config.noised,
        half=half,
        microbatches=config.microbatches,
        skip_limit=config.loss.skip_limit,
    )


def _chain(section) -> noise_schedules.Chain:
    """The chain of `config.discrete`."""
    noise_schedules.check(section.schedule, section.steps, "config.discrete")
    return noise_schedules.chain(section.schedule, section.steps, rescale=section.rescale_timesteps)


def _check(config, facts: Facts) -> None:
    """Raises UserError for values that are not accepted together."""
    if facts.input_channels:
        raise UserError(
            f"config.data.pairs={config.data.pairs!r}: config.system='noisy_classifier' takes "
            "single images with labels; set it to none"
        )
    if not facts.num_classes:
        raise UserError(
            "config.system='noisy_classifier' needs labelled data and this source has no labels; "
            "set config.data.labels or choose another source"
        )
    gradients.check_parts(config.microbatches, config.batch_size)
    at_least("config.loss.skip_limit", config.loss.skip_limit, 0)


def make(config, facts: Facts, changes: Changes = UNCHANGED) -> System:
    """The system that a config describes (sections: see `defaults`, and `run.steps`)."""
    model = changed(build(config, facts), changes)
    return System(
        stages=model.stages,
        init=partial(init, model),
        train_step=partial(train_step, model),
        eval_step=partial(eval_step, model),
        sample_step=None,
        tasks={"features": Task(partial(features, model), "logits of images without noise")},
        rates={"classifier": model.optimizer.rate},
        parts=model.microbatches,
        compiler_options=convolution.compiler_options(products=True),
    )


def tiny(config) -> None:
    """Shrinks the network to 8 px; the chain, losses and schedules stay. In place."""
    config.model.update(unet.TINY)
