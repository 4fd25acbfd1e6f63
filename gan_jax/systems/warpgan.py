"""WarpGAN: photos become caricatures by a change of texture and a learned warp of the geometry.

Paper: Shi, Deb and Jain 2019. Reference: seasonSH/WarpGAN.

A is a caricature, B a photo of the same identity. The generated image BA is the texture of B's
content under a random style, warped by a thin-plate spline whose control points and displacements
come from B's content. The discriminator tells caricatures, photos and generated images apart, in
patches and, in 3·C classes, by identity. Both networks take one step from one forward pass at the
old weights.

Deviations: identities are sampled without replacement within an epoch, where the original samples
each batch independently; a batch of one pair is a batch of 2 in the original; learning rates are
defined beyond the last step, where the original fails; `keep_prob`, which the original never uses,
is the keep probability of dropout.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp

from gan_jax.core import ema, grads, loss_scale, optim, plateau, schedules
from gan_jax.core.intervals import single_stage
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
    Task,
    TrainState,
    changed,
    new_state,
)
from gan_jax.models import convolution
from gan_jax.models import warpgan as networks
from gan_jax.ops import images, warping
from gan_jax.ops.groups import interleaved, parted
from gan_jax.systems import warpgan_losses as terms
from gan_jax.systems.warpgan_config import check, notices

TITLE = "A WarpGAN"  # as reports call a model
SIZES = ("model.width", "model.blocks")  # keys that make a step cheaper
STEPS = 100_000  # of the original, where its learning rate reaches 0
CENTRE, SPREAD = 127.5, 128.0  # of a pixel's grey level, as the original standardises them


def defaults() -> dict:
    """The sections of a config that this system reads."""

    def optimizer() -> dict:
        linear = dict(name="linear", begin=STEPS / 2, length=float(STEPS))
        return optim.defaults(
            lr=1e-4, b1=0.5, b2=0.9, eps_hat=True,
            weight_decay=1e-4,  # of kernels: λ/2 Σ w² in the loss
            schedule=schedules.defaults() | linear,
        )  # fmt: skip

    return dict(
        batch_size=1,  # pairs: one photo and one caricature each
        microbatches=1,  # parts of a batch whose gradients are averaged: less memory
        data=dict(source="drawn_faces", pairs="identities", resolution=64),
        model=networks.defaults(),
        loss=dict(
            identity_weight=1.0,  # of the 3·C classes
            patch_weight=2.0,  # of the 3 classes of patches
            reconstruction_weight=10.0,  # of images rendered in their own style, not warped
            style_reconstruction=0.0,  # of random styles, recovered from their textures
            scale=1.0,  # of the predicted displacements
            regularization=1e-6,  # λ of the spline: 0 passes through the points
        ),
        optim=dict(gen=optimizer(), disc=optimizer()),
        quality=dict(metrics=("rank1",), split=""),
        best=dict(metric="val/reconstruction", mode="min"),
    )


@dataclass(frozen=True)
class WarpGan:
    """What a config describes: networks, optimizers, losses and numbers. No arrays."""

    gen: networks.Generator
    disc: Any  # see models.warpgan.build
    optimizers: Mapping[str, Any]  # "gen", "disc": its chain `tx` and its `rate` at a step
    loss: SimpleNamespace  # the section config.loss
    decays: Mapping[str, float]  # λ of weight decay as a term of the loss, by network
    stages: tuple[Stage, ...]
    resolution: int
    channels: int
    classes: int  # identities
    style_size: int
    half: bool = False  # float16: losses are scaled
    microbatches: int = 1  # parts of a batch, one after the other


def make(config, facts: Facts, changes: Changes = UNCHANGED) -> System:
    """The system that a config describes (sections: see `defaults`; and `run.steps`)."""
    gan = changed(build(config, facts), changes)
    return System(
        stages=gan.stages,
        init=partial(init, gan),
        train_step=partial(train_step, gan),
        eval_step=partial(eval_step, gan),
        sample_step=partial(sample_step, gan),
        tasks=tasks(gan),
        rates={name: gan.optimizers[name].rate for name in ("gen", "disc")},
        latents=gan.style_size,
        parts=gan.microbatches,
        notices=notices(config),
        compiler_options=convolution.compiler_options(products=True),
        sampling_options=convolution.compiler_options(products=False),
    )


def build(config, facts: Facts) -> WarpGan:
    """The GAN that a config describes. Raises UserError for values that are not accepted."""
    check(config)
    gen, disc = networks.build(config.model, facts.resolution, facts.num_classes, facts.channels)
    stages, epoch_steps = single_stage(
        facts.resolution, config.batch_size, config.run.steps, facts.train_size
    )
    lowest, half = config.best.mode == "min", config.model.dtype == "float16"
    return WarpGan(
        gen=gen,
        disc=disc,
        optimizers=optim.optimizers(config.optim, stages, epoch_steps, lowest, half),
        loss=SimpleNamespace(**config.loss.to_dict()),
        decays={
            name: section.weight_decay
            for name, section in config.optim.items()
            if section.name != "adamw"  # which decays weights by itself
        },
        stages=stages,
        resolution=facts.resolution,
        channels=facts.channels,
        classes=facts.num_classes,
        style_size=config.model.style_size,
        half=half,
        microbatches=config.microbatches,
    )


def init(gan: WarpGan, key: Array, batch: Batch, stage: Stage) -> TrainState:
    """The state at step 0."""
    gen_key, disc_key = jax.random.split(key)
    x = jnp.zeros((1, gan.resolution, gan.resolution, gan.channels))
    gen_tx, disc_tx = gan.optimizers["gen"].tx, gan.optimizers["disc"].tx
    nets = {
        "gen": optim.new_net(gen_tx, *gan.gen.init(gen_key, x)),
        "disc": optim.new_net(disc_tx, *gan.disc.init(disc_key, x)),
    }
    return new_state(nets, loss_scale.uncounted(gan.half, nets))


def train_step(
    gan: WarpGan, state: TrainState, batch: Batch, key: Array, stage: Stage
) -> tuple[TrainState, Metrics]:
    """One step of both networks from one forward pass.

    A batch holds photos `input` and caricatures `target`, uint8 [B, H, W, C], and their identities
    `label` int32 [B]. It may also bring styles, `z` [B, style_size], which are otherwise sampled,
    and `target_label` [B], identities of the caricatures that differ from those of the photos.
    """
    gen, disc = state.nets["gen"], state.nets["disc"]
    a, b = standardised(batch["target"]), standardised(batch["input"])
    style_key, drop_key = jax.random.split(key)
    z = split_as(b, jax.random.normal(style_key, (len(b), gan.style_size)))
    labels = (batch.get("target_label", batch["label"]), batch["label"], batch["label"])
    pairs = terms.Pairs(a, b, batch.get("z", z), labels)
    scales = [loss_scale.loss_scale(net.opt) for net in (gen, disc)]

    def gradient(part, key):
        def forward(gen_params, disc_params):
            *each, seen = losses(gan, gen_params, disc_params, part, key)
            return *(s * loss for s, loss in zip(scales, each, strict=True)), seen

        *found, seen = grads.two_networks(forward, gen.params, disc.params)
        return found, grads.Seen(means=seen)

    (gen_grads, disc_grads), seen = grads.in_parts(gradient, pairs, drop_key, gan.microbatches)
    gen_total, disc_total, metrics = seen.means
    decay = terms.weight_decay(gan.decays, state.nets)
    nets = {
        "gen": update(gan, "gen", gen, gen_grads, state, stage),
        "disc": update(gan, "disc", disc, disc_grads, state, stage),
    }
    metrics |= {
        "loss/gen": gen_total + decay,
        "loss/disc": disc_total + decay,
        "loss/weight_decay": decay,
        "grad_norm/gen": optim.global_norm(gen_grads) / scales[0],
        "grad_norm/disc": optim.global_norm(disc_grads) / scales[1],
    }
    for name, net in nets.items():
        rate = gan.optimizers[name].rate(state.step)
        metrics[f"rate/{name}"] = rate * plateau.rate_scale(net)
    counts, metrics = loss_scale.counted(state.extra, state.nets, metrics)
    return state.replace(step=state.step + 1, nets=nets, extra=counts), metrics


def render(gan: WarpGan, params: PyTree, a: Array, b: Array, z: Array, key) -> terms.Rendered:
    """Every image of a training step. `key` is for dropout; None means no dropout."""
    both = interleaved(a, b)
    content_a, content_b = parted(gan.gen.content(params, both), 2)
    own_a, own_b = parted(gan.gen.style(params, both), 2)
    texture = gan.gen.texture(
        params,
        interleaved(content_a, content_b, content_b),
        interleaved(own_a, own_b, z.astype(own_a.dtype)),
    )
    again_a, again_b, ba = parted(texture, 3)
    points, displacements = controls(gan, params, content_b, train=True, key=key)
    warped, _ = warp(gan, ba, points, displacements, jnp.ones(len(b), b.dtype))
    return terms.Rendered(again_a, again_b, ba, warped, displacements)


def warp(gan: WarpGan, image: Array, points: Array, displacements: Array, scale: Array):
    """(image warped by displacements times scale [B], flow [B, H, W, 2])."""
    goal = points + scale[:, None, None] * displacements
    return warping.warp(image, points, goal, regularization=smoothing(gan, image))


def smoothing(gan: WarpGan, image: Array) -> float:
    """λ of the spline for images [B, H, W, C]. It is in square pixels, so it grows with their area:
    the same face is warped alike at another size than the trained one."""
    return gan.loss.regularization * image.shape[1] * image.shape[2] / gan.resolution**2


def controls(gan: WarpGan, params: PyTree, content: Array, **how: Any) -> tuple[Array, Array]:
    """Points, and displacements as they were trained, times config.loss.scale: [B, P, 2] each."""
    points, displacements = gan.gen.controls(params, content, **how)
    return points, gan.loss.scale * displacements


def losses(
    gan: WarpGan, gen_params: PyTree, disc_params: PyTree, pairs: terms.Pairs, key: Array
) -> tuple[Array, Array, tuple[Array, Array, Metrics]]:
    """(generator's loss, discriminator's loss, (both again, metrics)), without weight decay."""
    gen_key, disc_key = jax.random.split(key)
    made = render(gan, gen_params, pairs.a, pairs.b, pairs.z, gen_key)
    seen = interleaved(pairs.a, pairs.b, made.ba)
    (patches, logits, _), _ = gan.disc.apply(disc_params, {}, seen, train=True, key=disc_key)
    answer = terms.Answer(parted(patches, 3), parted(logits, 3))
    disc_terms = terms.disc_losses(gan.loss, gan.classes, answer, pairs.labels)
    gen_terms = terms.gen_losses(gan.loss, gan.classes, answer, pairs, made)
    if gan.loss.style_reconstruction:
        gen_terms |= terms.style_loss(gan.loss, gan.gen.style(gen_params, made.texture), pairs.z)
    gen_total, disc_total = (sum(found.values()) for found in (gen_terms, disc_terms))
    displacement = jnp.mean(jnp.linalg.norm(made.displacements, axis=-1))  # in pixels
    metrics = disc_terms | gen_terms | {"displacement": displacement}
    metrics |= terms.accuracies(gan.classes, answer, pairs.labels)
    return gen_total, disc_total, (gen_total, disc_total, metrics)


def update(
    gan: WarpGan, name: str, net: Net, gradients: PyTree, state: TrainState, stage: Stage
) -> Net:
    """One update of the network called `name`."""
    tx, rate_at = gan.optimizers[name]
    rate = rate_at(state.step)
    return optim.step(net, tx, gradients, {}, rate=rate, **optim.inputs(state, stage))


def eval_step(
    gan: WarpGan, state: TrainState, batch: Batch, key: Array, stage: Stage
) -> dict[str, Array]:
    """For each pair [B]: the reconstruction errors in units of [-1, 1], the discriminator's loss
    for passing the warped photo off as a caricature, and the length of its displacements in pixels.

    The photo's style is random, a function of its number in the set.
    """
    a, b = standardised(batch["target"]), standardised(batch["input"])
    params, _ = ema.averaged(state.nets["gen"])
    z = latents_of({"seed": numbers_of(batch, len(b))}, key, gan.style_size)
    made = render(gan, params, a, b, z, None)
    (patches, _, _), _ = gan.disc.apply(state.nets["disc"].params, {}, made.ba)
    away = _per_image(jnp.abs(made.again_a - a)), _per_image(jnp.abs(made.again_b - b))
    chance = jax.nn.log_softmax(patches.astype(jnp.float32))[..., terms.CARICATURE]
    return {
        "reconstruction": away[0] + away[1],
        "reconstruction_caricature": away[0],
        "reconstruction_photo": away[1],
        "patch": -_per_image(chance),
        "displacement": _per_image(jnp.linalg.norm(made.displacements, axis=-1)),
    }


def sample_step(gan: WarpGan, state: TrainState, batch: Batch, key: Array, stage: Stage) -> Images:
    """A caricature of every photo `input`, in the style of its seed, or in `z` [N, style_size];
    with the raw weights and, if there is one, with their average."""
    x, net = standardised(batch["input"]), state.nets["gen"]
    z = latents_of(batch, key, gan.style_size)
    weights = ema.weights(net)
    made = [textured(gan, params, x, z) for params, _ in weights.values()]
    texture, points, displacements = (interleaved(*part) for part in zip(*made, strict=True))
    # a single warp for all: two at once, beside convolutions of YNNPACK, can deadlock
    one = jnp.ones(len(texture), x.dtype)
    warped = unit_of(warp(gan, texture, points, displacements, one)[0])
    return dict(zip(weights, parted(warped, len(weights)), strict=True))


def textured(gan: WarpGan, params: PyTree, x: Array, z: Array) -> tuple[Array, Array, Array]:
    """(texture [N, H, W, C], points, displacements [N, P, 2]) of photos and styles."""
    content = gan.gen.content(params, x)
    texture = gan.gen.texture(params, content, z.astype(x.dtype))
    return texture, *controls(gan, params, content)


def tasks(gan: WarpGan) -> dict[str, Task]:
    """What only this system can do."""
    return {
        "translate": Task(
            partial(sample_step, gan),
            "a caricature of every photo of a folder",
            reads="input",
            uses=("gen",),
        ),
        "caricature": Task(
            partial(caricature, gan), "images, points and flow of photos, styles and scales"
        ),
        "style": Task(partial(style, gan), "the style codes of images"),
        "encode": Task(partial(style, gan), "the style codes of images"),
        "random_style": Task(partial(random_style, gan), "style codes of seeds"),
        "embedding": Task(
            partial(embedding, gan), "the discriminator's identity embedding of images"
        ),
    }


def caricature(
    gan: WarpGan, state: TrainState, batch: Batch, key: Array, stage: Stage
) -> dict[str, Array]:
    """Everything that one pass makes from photos `input`, with styles `style` [N, style_size] and
    displacements times `scale` [N]: images [N, H, W, C] in [-1, 1], points, displacements at scale
    1, flow, and λ of the spline."""
    x, (params, _) = standardised(batch["input"]), ema.averaged(state.nets["gen"])
    texture, points, displacements = textured(gan, params, x, batch["style"])
    # texture and photo are warped in the same way, so they are warped as one image
    both, flow = warp(gan, jnp.concatenate([texture, x], -1), points, displacements, batch["scale"])
    image, warped = jnp.split(both, 2, -1)
    pictures = {"image": image, "texture": texture, "warped": warped}
    unit = {name: unit_of(picture) for name, picture in pictures.items()}
    moved = {"points": points, "displacements": displacements, "flow": flow}
    return unit | moved | {"regularization": jnp.full(len(x), smoothing(gan, x))}


def style(
    gan: WarpGan, state: TrainState, batch: Batch, key: Array, stage: Stage
) -> dict[str, Array]:
    """The style codes [N, style_size] of images `input`."""
    params, _ = ema.averaged(state.nets["gen"])
    return {"style": gan.gen.style(params, standardised(batch["input"]))}


def random_style(
    gan: WarpGan, state: TrainState, batch: Batch, key: Array, stage: Stage
) -> dict[str, Array]:
    """A style code [N, style_size] for each `seed`."""
    return {"style": latents_of(batch, key, gan.style_size)}


def embedding(
    gan: WarpGan, state: TrainState, batch: Batch, key: Array, stage: Stage
) -> dict[str, Array]:
    """The discriminator's identity embedding of images `image`: [N, bottleneck], of length 1."""
    x = standardised(batch["image"])
    (_, _, found), _ = gan.disc.apply(state.nets["disc"].params, {}, x)
    return {"embedding": found}


def standardised(pixels):
    """Grey levels 0..255 → (x − 127.5) / 128, [-0.996, 0.996]."""
    return (images.floats(pixels) - CENTRE) / SPREAD


def unit_of(x):
    """Standardised images as images in [-1, 1]."""
    return jnp.clip(x * (SPREAD / CENTRE), -1.0, 1.0)


def _per_image(values: Array) -> Array:
    """Means over all axes but the first: [N]."""
    return jnp.mean(values.reshape(len(values), -1), axis=1)


def tiny(config) -> None:
    """Shrinks the networks; heads, losses and rates stay. In place."""
    config.model.update(width=4, blocks=1, control_width=8, disc_width=2, bottleneck=8)
