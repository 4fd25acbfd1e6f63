"""A classifier of noisy images, which knows how noisy they are: what guides a diffusion model.

Paper: Dhariwal & Nichol 2021, Diffusion models beat GANs on image synthesis. Reference:
https://github.com/openai/guided-diffusion, classifier_train.py.

An update: a time t for every image, uniform over the chain; x_t = q_sample(x_0, t); cross entropy
of the class given x_t and t; AdamW, whose decay is of all parameters. With `noised` off images stay
clean and t is 0. Gradients of microbatches are averaged. A linear rate is lr · (1 - s/N) with the
step s of before the update, as in the reference's loop: the first update uses lr itself.

Deviations: classes are numbered by the data, there are as many logits as it has classes, and images
may be grey; the reference has 1000 and RGB. Mirroring is of training images only, validation sees
every held-out image once, with times spread evenly over each batch instead of drawn. The reference
offers a sampler of times that weighs them, and ignores its weights; here t is uniform. Its float16
adds 1e-3 to log2 of the loss scale at every good step; here the scale doubles after 1000 of them,
and it is saved. A run whose gradients break `skip_limit` times in a row stops.
"""

import jax
import jax.numpy as jnp
import optax

from gan_jax.core import grads as gradients
from gan_jax.core import loss_scale, optim, players, schedules
from gan_jax.core.intervals import single_stage
from gan_jax.core.sampler import noise_of, numbers_of
from gan_jax.core.system import Facts, Stage, System, Task, TrainState, new_state
from gan_jax.errors import UserError
from gan_jax.models import convolution, unet
from gan_jax.ops import images
from gan_jax.ops.diffusion import (
    gaussian_diffusion,
    loss_quarters,
    noise_schedules,
    timestep_sampler,
)

BEST = 5  # classes that may be named for accuracy@5
SEEN_BY_QUARTER = ("loss", "accuracy@1")
HALF_SCALE = dict(initial=2.0**16, growth_steps=1000)  # the reference's: 16 in log2, 1e-3 a step


def defaults() -> dict:
    """The sections of a config that this system reads."""
    optimiser = dict(name="adamw", lr=3e-4, weight_decay_mask="all", schedule=schedules.defaults())
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
            skip_limit=10,  # updates in a row that broken gradients may cost before the run stops
        ),
        optim=dict(classifier={**optim.defaults(), **optimiser}),
        best=dict(metric="val/accuracy@1", mode="max"),
    )


def make(config, facts: Facts) -> System:
    """The system that a config describes (sections: see `defaults`, and `run.steps`)."""
    _check(config, facts)
    chain, names = _chain(config.discrete)
    net = unet.noisy_classifier(config.model, facts.resolution, facts.num_classes)
    stages, epoch_steps = single_stage(
        facts.resolution, config.batch_size, config.run.steps, facts.train_size
    )
    learn = players.make(config.optim, stages, epoch_steps, config.best.mode == "min")
    rate = learn["classifier"].rate
    half = config.model.dtype == "float16"
    tx = loss_scale.guarded(learn["classifier"].tx, half, **HALF_SCALE)

    def init(key, batch, stage) -> TrainState:
        x = jnp.zeros((2, facts.resolution, facts.resolution, facts.channels))
        extra = {"skipped": {"classifier": jnp.zeros((), jnp.int32)}}
        if config.noised:
            extra["quarters"] = {n: jnp.zeros(loss_quarters.COUNT) for n in SEEN_BY_QUARTER}
        net_now = optim.new_net(tx, *net.init(key, x, jnp.zeros(2)))
        return new_state({"classifier": net_now}, extra)

    def noised(batch, times, key):
        """What is classified: images [B, H, W, C] at times t [B], with their classes.

        `times(B)` where the batch brings no "t", and normal noise where it brings no "noise".
        """
        x = images.to_unit(batch["image"])
        if not config.noised:
            return {"x": x, "t": jnp.zeros(x.shape[0], jnp.int32), "label": batch["label"]}
        t = batch["t"] if "t" in batch else times(x.shape[0])
        noise = batch.get("noise")
        if noise is None:
            noise = jax.random.normal(key, x.shape, x.dtype)
        return {
            "x": gaussian_diffusion.q_sample(chain, x, t, noise),
            "t": t,
            "label": batch["label"],
        }

    def classify(params, x, t):
        """Logits [B, K]."""
        time = jnp.asarray(chain.model_times, x.dtype)[t]
        return net.apply(params, {}, x, time)[0]

    def judged(params, given):
        """Of each image [B]: cross entropy, and whether its class is the first, or among five."""
        logits, label = classify(params, given["x"], given["t"]), given["label"]
        _, likeliest = jax.lax.top_k(logits, min(BEST, facts.num_classes))
        hit = (likeliest == label[:, None]).astype(logits.dtype)
        return {
            "loss": optax.softmax_cross_entropy_with_integer_labels(logits, label),
            "accuracy@1": hit[:, 0],
            "accuracy@5": jnp.max(hit, axis=-1),
        }

    def train_step(state: TrainState, batch, key, stage: Stage):
        """One update on one batch."""
        old = state.nets["classifier"]
        t_key, noise_key, part_key = jax.random.split(key, 3)
        drawn = lambda count: jax.random.randint(t_key, (count,), 0, chain.steps)  # noqa: E731
        given, scale = noised(batch, drawn, noise_key), loss_scale.loss_scale(old.opt)

        def mean_loss(params, part, key):
            each = judged(params, part)
            return scale * jnp.mean(each["loss"]), each

        grads, each = gradients.accumulate(
            mean_loss, old.params, given, part_key, config.microbatches
        )
        new = optim.step(
            old, tx, grads, old.stats,
            rate=rate(state.step), step=state.step, validation=state.validation,
            batch_images=float(stage.batch_size),
        )  # fmt: skip
        grad_norm = optim.global_norm(grads) / scale
        metrics = {
            "loss/classifier": jnp.mean(each["loss"]),
            "accuracy@1/train": jnp.mean(each["accuracy@1"]),
            "accuracy@5/train": jnp.mean(each["accuracy@5"]),
            "grad_norm/classifier": grad_norm,
            "rate/classifier": rate(state.step) * optim.rate_scale(new),
        }
        if half:
            metrics["loss_scale/classifier"] = scale
        extra = {"skipped": loss_scale.count_skipped(state.extra["skipped"], metrics)}
        if config.noised:
            extra["quarters"] = by_quarter(state, each, given["t"])
            for name, values in extra["quarters"].items():
                metrics |= {f"{name}/{part}": values[i] for i, part in enumerate(names)}
        metrics = loss_scale.told(metrics, extra["skipped"], config.loss.skip_limit)
        state = state.replace(step=state.step + 1, nets={"classifier": new}, extra=extra)
        return state, metrics

    def by_quarter(state: TrainState, each, t):
        """The means of each quarter of times; one that the batch has nothing of repeats its last,
        at the first step the mean of the batch."""
        found = {}
        for name, last in state.extra["quarters"].items():
            begun = jnp.where(state.step == 0, jnp.mean(each[name]), last).astype(last.dtype)
            now = loss_quarters.means(each[name], loss_quarters.index(t, chain.steps), begun)
            found[name] = jnp.where(jnp.isfinite(now), now, last)
        return found

    def eval_step(state: TrainState, batch, key, stage: Stage):
        """Cross entropy and correctness of every image, at times spread over the whole chain, each
        a function of the image's number in the set, as its noise is."""
        t_key, noise_key = jax.random.split(key)

        numbers = numbers_of(batch, len(batch["image"]))

        def spread(count):
            places = timestep_sampler.even_places(numbers, jax.random.uniform(t_key))
            return timestep_sampler.at_places(places, chain.steps)

        params, _ = optim.averaged(state.nets["classifier"])
        if "noise" not in batch:
            own = noise_of(numbers, noise_key, batch["image"].shape[1:])
            batch = {**batch, "noise": own(0)}
        return judged(params, noised(batch, spread, noise_key))

    def features(state: TrainState, batch, key, stage: Stage):
        """Logits [B, K] of uint8 images as they are, at t = 0, for features the same."""
        x = images.to_unit(batch["image"])
        params, _ = optim.averaged(state.nets["classifier"])
        logits = classify(params, x, jnp.zeros(x.shape[0], jnp.int32))
        return {"logits": logits, "features": logits}

    return System(
        stages=stages,
        init=init,
        train_step=train_step,
        eval_step=eval_step,
        sample_step=None,
        tasks={"features": Task(features, "logits of images without noise")},
        rates={"classifier": rate},
        compiler_options=convolution.compiler_options(training=True),
    )


def _chain(section) -> tuple[noise_schedules.Chain, tuple[str, ...]]:
    """The chain of `config.discrete`, and the names of its quarters."""
    noise_schedules.check(section.schedule, section.steps, "config.discrete")
    chain = noise_schedules.chain(
        section.schedule, section.steps, rescale=section.rescale_timesteps
    )
    return chain, loss_quarters.names(section.steps)


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
    parts, size = config.microbatches, config.batch_size
    if parts < 1 or size % parts:
        raise UserError(
            f"config.microbatches={parts}: must be 1 or more and divide config.batch_size={size}"
        )
    if config.loss.skip_limit < 0:
        raise UserError(f"config.loss.skip_limit={config.loss.skip_limit}: must be at least 0")


def tiny(config) -> None:
    """Shrinks the network to 8 px; the chain, losses and schedules stay. In place."""
    config.model.update(unet.TINY)
    config.microbatches = 1
