"""A small classifier of images, or of their pixels, with which generated images are measured.

It is trained with cross entropy and one optimizer. `config.model.output` says what has a class:

`class`: a whole image. The features are used for the Fréchet distance and the classes for the mode
coverage of `gan`; the data must be labelled. With `config.model.name` "warpgan" the network is the
trunk of the WarpGAN discriminator, its classes are identities and its features their embedding. It
gives that discriminator its first weights, and is the recogniser of the metric rank1.

`pixels`: every pixel of a photo. The data are pairs of a photo and its label map, a picture; the
class of a pixel is the colour of `config.model.palette` that is nearest to its colour in the map.
For the FCN score of pix2pix (Isola et al. 2017, section 4) it classifies the pixels of photos that
were generated from label maps.

There is no reference implementation: except for WarpGAN's, the architectures are our own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gan_jax.core import ema, loss_scale, optim, plateau
from gan_jax.core import grads as gradients
from gan_jax.core.intervals import single_stage
from gan_jax.core.system import (
    UNCHANGED,
    Array,
    Batch,
    Changes,
    Facts,
    Images,
    Metrics,
    PyTree,
    Stage,
    System,
    Task,
    TrainState,
    changed,
    new_state,
)
from gan_jax.models import convolution
from gan_jax.models.classifier import classifier, identity_classifier
from gan_jax.models.network import Network
from gan_jax.models.segmenter import segmenter
from gan_jax.ops import augment, images, palette
from gan_jax.systems.classifier_config import check
from gan_jax.systems.classifier_config import defaults as defaults
from gan_jax.systems.classifier_config import unused as unused

TITLE = "A classifier"  # as reports call a model
SIZES = ("model.width",)  # keys that make a step cheaper


@dataclass(frozen=True, eq=False)
class Classifier:
    """What a config describes: network, optimizer and numbers. No arrays except the palette."""

    net: Network
    optimizer: optim.Optimizer
    stages: tuple[Stage, ...]
    reads: str  # which array of a batch is classified
    shape: tuple[int, int, int]  # of an image: H, W, C
    num_classes: int
    palette: np.ndarray | None  # of pixels, uint8 [K, 3]: the colour of each class
    transform: Callable[[Array, Array], Array]  # augmentation
    label_smoothing: float
    half: bool = False  # float16: the loss is scaled
    microbatches: int = 1  # parts of a batch, one after the other


def init(model: Classifier, key: Array, batch: Batch, stage: Stage) -> TrainState:
    """The state at step 0."""
    x = jnp.zeros((2, *model.shape), jnp.float32)
    net = optim.new_net(model.optimizer.tx, *model.net.init(key, x))
    return new_state({"classifier": net}, loss_scale.uncounted(model.half, ["classifier"]))


def train_step(
    model: Classifier, state: TrainState, batch: Batch, key: Array, stage: Stage
) -> tuple[TrainState, Metrics]:
    """One update on one batch."""
    old, rate = state.nets["classifier"], model.optimizer.rate
    augment_key, dropout_key = jax.random.split(key)
    x = model.transform(images.to_unit(batch[model.reads]), augment_key)  # [B, H, W, C]
    scale = loss_scale.loss_scale(old.opt)

    def mean_loss(params: PyTree, part: tuple[Array, Array], key: Array):
        x, label = part
        (logits, _), stats = forward(model, params, old.stats, x, train=True, key=key)
        loss = jnp.mean(cross_entropy(model, logits, label))
        hit = jnp.mean(jnp.argmax(logits, -1) == label, dtype=jnp.float32)
        return scale * loss, gradients.Seen(means=(loss, hit), same=stats)

    inputs = x, truth(model, batch)
    grads, seen = gradients.average(mean_loss, old.params, inputs, dropout_key, model.microbatches)
    new = optim.step(
        old, model.optimizer.tx, grads, seen.same,
        rate=rate(state.step), **optim.inputs(state, stage),
    )  # fmt: skip
    metrics = {
        "loss/classifier": seen.means[0],
        "accuracy/train": seen.means[1],
        "grad_norm/classifier": optim.global_norm(grads) / scale,
        "rate/classifier": rate(state.step) * plateau.rate_scale(new),
    }
    counts, metrics = loss_scale.counted(state.extra, state.nets, metrics)
    return state.replace(step=state.step + 1, nets={"classifier": new}, extra=counts), metrics


def eval_step(
    model: Classifier, state: TrainState, batch: Batch, key: Array, stage: Stage
) -> dict[str, Array]:
    """Cross entropy and correctness of every image [B]; of pixels, their means over the image."""
    (logits, _), label = predict(model, state, batch[model.reads]), truth(model, batch)
    return {
        "loss": images.per_image(cross_entropy(model, logits, label)),
        "accuracy": images.per_image((jnp.argmax(logits, -1) == label).astype(jnp.float32)),
    }


def forward(
    model: Classifier,
    params: PyTree,
    stats: PyTree,
    x: Array,
    train: bool = False,
    key: Array | None = None,
) -> tuple[tuple[Array, Array | None], PyTree]:
    """Logits [B, K] and features [B, D], of pixels logits [B, H, W, K] and None; statistics."""
    out, stats = model.net.apply(params, stats, x, train=train, key=key)
    return (out if model.palette is None else (out, None)), stats


def truth(model: Classifier, batch: Batch) -> Array:
    """The true classes: int32 [B], or of pixels [B, H, W]."""
    if model.palette is None:
        return batch["label"]
    return palette.nearest(batch["target"], model.palette)


def cross_entropy(model: Classifier, logits: Array, label: Array) -> Array:
    """Cross entropy [...], with label smoothing, of logits [..., K] and labels int [...]."""
    targets = jax.nn.one_hot(label, model.num_classes)
    targets = optax.smooth_labels(targets, model.label_smoothing)
    return optax.softmax_cross_entropy(logits, targets)


def predict(model: Classifier, state: TrainState, image: Array) -> tuple[Array, Array | None]:
    """The logits and features of `forward` for uint8 images, with the averaged weights."""
    params, stats = ema.averaged(state.nets["classifier"])
    return forward(model, params, stats, images.to_unit(image))[0]


def features(
    model: Classifier, state: TrainState, batch: Batch, key: Array, stage: Stage
) -> dict[str, Array]:
    """Logits [B, K] and features [B, D] of uint8 images."""
    logits, values = predict(model, state, batch["image"])
    return {"logits": logits, "features": values}


def classes(
    model: Classifier, state: TrainState, batch: Batch, key: Array, stage: Stage
) -> dict[str, Array]:
    """Classes int32 [B, H, W] of the pixels of uint8 photos [B, H, W, C]."""
    logits, _ = predict(model, state, batch["input"])
    return {"classes": jnp.argmax(logits, -1).astype(jnp.int32)}


def sample_step(
    model: Classifier, state: TrainState, batch: Batch, key: Array, stage: Stage
) -> Images:
    """One label map per photo, with the raw weights and, if there is one, with their average."""
    x, net = images.to_unit(batch["input"]), state.nets["classifier"]
    return {name: _label_map(model, *weights, x) for name, weights in ema.weights(net).items()}


def _label_map(model: Classifier, params: PyTree, stats: PyTree, x: Array) -> Array:
    """The colours, in [-1, 1], of the classes of photos x [B, H, W, C]."""
    (logits, _), _ = forward(model, params, stats, x)
    unit = images.to_unit(palette.colours(jnp.argmax(logits, -1), model.palette))
    # rounding may have put a grey level just below a whole number, which would be cut to the level
    # below it
    return jnp.minimum(unit + 1e-6, 1)


def build(config, facts: Facts) -> Classifier:
    """What a config stands for. Raises UserError for values that are not accepted."""
    check(config, facts)
    side, channels, classes = facts.resolution, facts.channels, facts.num_classes
    reads, colours = "image", None
    if config.model.output == "pixels":
        reads, channels, classes = "input", facts.input_channels, len(config.model.palette)
        colours = np.array(config.model.palette, np.uint8)
        net = segmenter(classes, side, config.model.width, config.model.dtype)
    else:
        net = _network(config.model, facts)
    stages, epoch_steps = single_stage(side, config.batch_size, config.run.steps, facts.train_size)
    lowest, half = config.best.mode == "min", config.model.dtype == "float16"
    made = optim.optimizers(config.optim, stages, epoch_steps, lowest, half)
    model = Classifier(
        net=net,
        optimizer=made["classifier"],
        stages=stages,
        reads=reads,
        shape=(side, side, channels),
        num_classes=classes,
        palette=colours,
        transform=augment.policy(tuple(config.augment)),
        label_smoothing=config.loss.label_smoothing,
        half=half,
        microbatches=config.microbatches,
    )
    gradients.check_unmixed(
        model.microbatches, lambda: init(model, jax.random.key(0), {}, stages[0])
    )
    return model


def _network(model, facts: Facts) -> Network:
    """The network that classifies whole images."""
    if model.name == "small":
        return classifier(
            facts.resolution, facts.channels, facts.num_classes, model.width, model.dtype
        )
    return identity_classifier(
        facts.resolution, facts.num_classes, model.disc_width, model.disc_head, model.bottleneck,
        model.keep_prob, model.dtype,
    )  # fmt: skip


def make(config, facts: Facts, changes: Changes = UNCHANGED) -> System:
    """The system that a config describes (sections: see `defaults`, and `run.steps`; for pixels
    `data.pairs`)."""
    model = changed(build(config, facts), changes)
    pixels = model.palette is not None
    return System(
        stages=model.stages,
        init=partial(init, model),
        train_step=partial(train_step, model),
        eval_step=partial(eval_step, model),
        sample_step=partial(sample_step, model) if pixels else None,
        tasks=_tasks(model),
        rates={"classifier": model.optimizer.rate},
        parts=model.microbatches,
        compiler_options=convolution.compiler_options(products=True),
    )


def _tasks(model: Classifier) -> dict[str, Task]:
    if model.palette is None:
        return {"features": Task(partial(features, model), "logits and features of images")}
    drawing = "draws the label map of every photo of a folder"
    sample = partial(sample_step, model)
    return {
        "translate": Task(sample, drawing, reads="input", uses=("classifier",)),
        "classes": Task(partial(classes, model), "class of every pixel of photos"),
    }


def tiny(config) -> None:
    """Shrinks the network, and reads the label maps of synthetic pairs. In place."""
    if config.model.name == "warpgan":
        config.model.update(disc_width=2, bottleneck=8)
    else:
        config.model.width = 4
    if config.model.output == "pixels":
        # the colours of the synthetic pairs' ground and shapes
        shapes = ((255, 51, 51), (153, 255, 51), (51, 255, 255), (153, 51, 255))
        config.model.palette = ((0, 0, 0), *shapes)
