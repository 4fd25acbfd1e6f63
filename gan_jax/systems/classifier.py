"""A small classifier of images, or of their pixels: the eyes that judge what a generator makes.

Cross entropy, one optimiser. `config.model.output` says what has a class:

`class`: an image. Its features feed the Fréchet distance and its classes the mode coverage of
`gan`; labelled data sets only. With `config.model.name` "warpgan" the network is the trunk of the
WarpGAN discriminator, its classes are identities and its features their embedding: it is what that
discriminator begins with, and the recogniser of the metric rank1.

`pixels`: every pixel of a photo. The data are pairs of a photo and its label map, a picture; a
pixel's class is the colour of `config.model.palette` that is nearest in the map. It reads photos
that were generated from label maps for the FCN score of pix2pix (Isola et al. 2017, section 4).

No reference: the architectures of the others are our own.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gan_jax.core import optim, schedules
from gan_jax.core.intervals import single_stage
from gan_jax.core.system import Facts, Stage, System, Task, TrainState, new_state
from gan_jax.errors import UserError
from gan_jax.models.classifier import classifier, identity_classifier
from gan_jax.models.network import Network
from gan_jax.models.segmenter import segmenter
from gan_jax.ops import augment, images, palette

OUTPUTS = ("class", "pixels")
NAMES = ("small", "warpgan")


def defaults() -> dict:
    """The sections of a config that this system reads."""
    optimiser = {
        **optim.defaults(),
        "lr": 2e-3,
        "schedule": {**schedules.defaults(), "name": "cosine"},
    }
    return dict(
        batch_size=64,
        augment=(),  # color, translation, cutout; of pixels color only
        model=dict(
            name="small",  # | warpgan: the trunk of its discriminator, of an image only
            width=16,  # of the small network, and of that of pixels
            output="class",  # of an image | pixels: the class of each, from pairs
            palette=(),  # pixels: ((r, g, b), …) of 0..255, the colours of the label maps
            # of warpgan, as in its own section
            disc_width=32,  # channels of the first convolution; 2 to 16 times follow
            disc_head="flat",  # for one image size | pooled: any image size
            bottleneck=512,  # numbers in the embedding
            keep_prob=1.0,  # below 1: dropout before the embedding
        ),
        loss=dict(label_smoothing=0.0),
        optim=dict(classifier=optimiser),
    )


def make(config, facts: Facts) -> System:
    """The system that a config describes (sections: see `defaults`, and `run.steps`; for pixels
    `data.pairs`)."""
    _check(config, facts)
    pixels, width = config.model.output == "pixels", config.model.width
    if pixels:
        reads, channels, num_classes = "input", facts.input_channels, len(config.model.palette)
        colours = np.array(config.model.palette, np.uint8)  # [K, 3]
        net = segmenter(num_classes, facts.resolution, width)
    else:
        reads, channels, num_classes = "image", facts.channels, facts.num_classes
        net = _network(config.model, facts)
    transform = augment.policy(tuple(config.augment))
    stages, epoch_steps = single_stage(
        facts.resolution, config.batch_size, config.run.steps, facts.train_size
    )
    section = config.optim.classifier
    tx = optim.make(section, "config.optim.classifier", config.best.mode == "min")
    rate = schedules.make(
        section.lr, section.schedule, stages, epoch_steps, "config.optim.classifier.schedule"
    )
    smoothing = config.loss.label_smoothing

    def init(key, batch, stage) -> TrainState:
        x = jnp.zeros((2, facts.resolution, facts.resolution, channels), jnp.float32)
        return new_state({"classifier": optim.new_net(tx, *net.init(key, x))})

    def forward(params, stats, x, **how):
        """Logits [B, K] and features [B, D], of pixels logits [B, H, W, K] and none; statistics."""
        out, stats = net.apply(params, stats, x, **how)
        return ((out, None) if pixels else out), stats

    def truth(batch):
        """The classes that are to be found: int32 [B], of pixels [B, H, W]."""
        return palette.nearest(batch["target"], colours) if pixels else batch["label"]

    def cross_entropy(logits, label):
        """[...] from logits [..., K] and label int [...]."""
        targets = optax.smooth_labels(jax.nn.one_hot(label, num_classes), smoothing)
        return optax.softmax_cross_entropy(logits, targets)

    def train_step(state: TrainState, batch, key, stage: Stage):
        """One update on one batch."""
        old = state.nets["classifier"]
        augment_key, dropout_key = jax.random.split(key)
        x = transform(images.to_unit(batch[reads]), augment_key)  # [B, H, W, C]
        label = truth(batch)

        def mean_loss(params):
            (logits, _), stats = forward(params, old.stats, x, train=True, key=dropout_key)
            return jnp.mean(cross_entropy(logits, label)), (logits, stats)

        (loss, (logits, stats)), grads = jax.value_and_grad(mean_loss, has_aux=True)(old.params)
        new = optim.step(
            old, tx, grads, stats,
            rate=rate(state.step), step=state.step, validation=state.validation,
            batch_images=float(stage.batch_size),
        )  # fmt: skip
        metrics = {
            "loss/classifier": loss,
            "accuracy/train": jnp.mean(jnp.argmax(logits, -1) == label, dtype=jnp.float32),
            "grad_norm/classifier": optim.global_norm(grads),
            "rate/classifier": rate(state.step) * optim.rate_scale(new),
        }
        return state.replace(step=state.step + 1, nets={"classifier": new}), metrics

    def eval_step(state: TrainState, batch, key, stage: Stage):
        """Cross entropy and correctness of every image, for pixels their means."""
        (logits, _), label = predict(state, batch[reads]), truth(batch)
        per_image = lambda values: jnp.mean(values, axis=tuple(range(1, values.ndim)))  # noqa: E731
        return {
            "loss": per_image(cross_entropy(logits, label)),
            "accuracy": per_image((jnp.argmax(logits, -1) == label).astype(jnp.float32)),
        }

    def predict(state: TrainState, image):
        params, stats = optim.averaged(state.nets["classifier"])
        return forward(params, stats, images.to_unit(image))[0]

    def features(state: TrainState, batch, key, stage: Stage):
        """Logits [B, K] and features [B, D] of uint8 images."""
        logits, values = predict(state, batch["image"])
        return {"logits": logits, "features": values}

    def classes(state: TrainState, batch, key, stage: Stage):
        """Classes int32 [B, H, W] of the pixels of uint8 photos [B, H, W, C]."""
        logits, _ = predict(state, batch["input"])
        return {"classes": jnp.argmax(logits, -1).astype(jnp.int32)}

    def draw(state: TrainState, batch, key, stage: Stage):
        """One label map per photo, by the averaged weights, where there are, and the raw."""
        x, now = images.to_unit(batch["input"]), state.nets["classifier"]

        def drawn(params, stats):
            (logits, _), _ = forward(params, stats, x)
            unit = images.to_unit(palette.colours(jnp.argmax(logits, -1), colours))
            # a grey level that was rounded to just below its value would be cut to the one before
            return jnp.minimum(unit + 1e-6, 1)

        made = {"raw": drawn(now.params, now.stats)}
        if optim.has_average(now):
            made["ema"] = drawn(*optim.averaged(now))
        return made

    if pixels:
        drawing = "draws the label map of every photo of a folder"
        tasks = {
            "translate": Task(draw, drawing, reads="input", uses=("classifier",)),
            "classes": Task(classes, "class of every pixel of photos"),
        }
    else:
        tasks = {"features": Task(features, "logits and features of images")}
    return System(
        stages=stages,
        init=init,
        train_step=train_step,
        eval_step=eval_step,
        sample_step=draw if pixels else None,
        tasks=tasks,
        rates={"classifier": rate},
    )


def _network(model, facts: Facts) -> Network:
    """The network that names the class of an image."""
    if model.name == "small":
        return classifier(facts.resolution, facts.channels, facts.num_classes, model.width)
    return identity_classifier(
        facts.resolution, facts.num_classes, model.disc_width, model.disc_head, model.bottleneck,
        model.keep_prob,
    )  # fmt: skip


def _check(config, facts: Facts) -> None:
    """Raises UserError for values that are not accepted together."""
    model = config.model
    if model.name not in NAMES:
        raise UserError(f"config.model.name={model.name!r}: accepted are {', '.join(NAMES)}")
    if model.name != "small" and model.output == "pixels":
        raise UserError(
            f"config.model.name={model.name!r} names the class of an image; with "
            "config.model.output='pixels' set it to small"
        )
    if model.output not in OUTPUTS:
        raise UserError(f"config.model.output={model.output!r}: accepted are {', '.join(OUTPUTS)}")
    if not 0 <= config.loss.label_smoothing < 1:
        raise UserError(
            f"config.loss.label_smoothing={config.loss.label_smoothing}: must lie in [0, 1)"
        )
    if model.output == "pixels":
        _check_pixels(config, facts)
    elif facts.input_channels:
        raise UserError(
            f"config.data.pairs={config.data.pairs!r}: config.model.output='class' takes single "
            "images with labels; set it to none, or config.model.output to pixels"
        )
    elif not facts.num_classes:
        raise UserError(
            "config.system='classifier' needs labelled data and this source has no labels; "
            "set config.data.labels or choose another source"
        )


def _check_pixels(config, facts: Facts) -> None:
    """`_check` of what the classes of pixels are learnt from."""
    output, found = "config.model.output='pixels'", tuple(config.model.palette)
    if config.data.pairs == "upscale":
        raise UserError(f"config.data.pairs='upscale': {output} needs a label map for each photo")
    if not facts.input_channels:
        raise UserError(
            f"config.data.pairs={config.data.pairs!r}: {output} needs pairs of a photo and its "
            "label map; set side_by_side or folders"
        )
    if facts.channels != 3:
        raise UserError(
            f"config.data.channels={config.data.channels!r} gives grey label maps, and {output} "
            "tells classes by their colour; set it to rgb"
        )
    if len(found) < 2:
        raise UserError(
            f"config.model.palette={found}: {output} needs the colours of the label maps, two or "
            "more, such as ((0, 0, 0), (255, 255, 255))"
        )
    for number, colour in enumerate(found):
        key = f"config.model.palette[{number}]={colour!r}"
        # lists where it comes from a run's config.json
        three = isinstance(colour, tuple | list) and len(colour) == 3
        if not three or not all(type(v) is int and 0 <= v <= 255 for v in colour):
            raise UserError(f"{key}: a colour is (r, g, b), whole numbers from 0 to 255")
        if colour in found[:number]:
            first = found.index(colour)
            raise UserError(f"{key}: colour {first} is the same; each class has its own")
    names = [part for name in config.augment for part in name.split(",")]
    moving = [name for name in names if name != "color"]
    if moving:
        raise UserError(
            f"config.augment names {', '.join(moving)}: with {output} the label map would not "
            "follow, accepted is color; config.data.resize=jitter and config.data.flip change both"
        )


def tiny(config) -> None:
    """Shrinks the network, and reads the label maps of synthetic pairs. In place."""
    config.model.update(width=4, disc_width=2, bottleneck=8)
    if config.model.output == "pixels":
        # the colours of the synthetic pairs' ground and shapes
        shapes = ((255, 51, 51), (153, 255, 51), (51, 255, 255), (153, 51, 255))
        config.model.palette = ((0, 0, 0), *shapes)
