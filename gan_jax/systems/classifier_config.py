"""The sections of a config that the system `classifier` reads, and which values they may have."""

from typing import Any

from gan_jax.core import grads, optim, schedules
from gan_jax.core.system import Facts
from gan_jax.errors import UserError, one_of
from gan_jax.models import options
from gan_jax.models.precision import DTYPES

OUTPUTS = ("class", "pixels")
NAMES = ("small", "warpgan")
MODEL = dict(
    name="small",  # | warpgan: the trunk of its discriminator, of an image only
    width=16,  # of the small network, and of that of pixels
    dtype="float32",  # | bfloat16 | float16, of activations; weights stay float32
    output="class",  # of an image | pixels: the class of each, from pairs
    palette=(),  # pixels: ((r, g, b), …) of 0..255, the colours of the label maps
    # of warpgan, as in its own section
    disc_width=32,  # channels of the first convolution; 2 to 16 times follow
    disc_head="flat",  # for one image size | pooled: any image size
    bottleneck=512,  # numbers in the embedding
    keep_prob=1.0,  # below 1: dropout before the embedding
)


def defaults() -> dict:
    """The sections of a config that this system reads."""
    optimizer = optim.defaults(lr=2e-3, schedule=schedules.defaults() | {"name": "cosine"})
    return dict(
        batch_size=64,
        microbatches=1,  # parts of a batch whose gradients are averaged: less memory
        augment=(),  # color, translation, cutout; of pixels color only
        model=dict(MODEL),
        loss=dict(label_smoothing=0.0),
        optim=dict(classifier=optimizer),
    )


def _options(model) -> tuple[str, ...]:
    """The options of the network that a section `model` names."""
    if model.output == "pixels":
        return ("output", "dtype", "width", "palette")
    if model.name == "warpgan":
        return ("output", "dtype", "disc_width", "disc_head", "bottleneck", "keep_prob")
    return ("output", "dtype", "width")


def unused(config) -> dict[str, Any]:
    """Options that the chosen network does not have, by key such as "model.keep_prob".

    Only those that differ from their usual values, which are given. `check` refuses them.
    """
    model = config.model
    found = options.unused(model, MODEL, _options(model))
    return {f"model.{option}": value for option, value in found.items()}


def check(config, facts: Facts) -> None:
    """Raises UserError for values that are not accepted together."""
    model = config.model
    one_of("config.model.name", model.name, NAMES)
    if model.name != "small" and model.output == "pixels":
        raise UserError(
            f"config.model.name={model.name!r} names the class of an image; with "
            "config.model.output='pixels' set it to small"
        )
    one_of("config.model.output", model.output, OUTPUTS)
    one_of("config.model.dtype", model.dtype, DTYPES)
    grads.check_parts(config.microbatches, config.batch_size)
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
    has = _options(model)
    options.refuse("config.model", model.name, options.unused(model, MODEL, has), has)


def _check_pixels(config, facts: Facts) -> None:
    """What the classes of pixels need: pairs with colours, and no augmentation that moves them."""
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
    _check_palette(found)
    names = [part for name in config.augment for part in name.split(",")]
    moving = [name for name in names if name != "color"]
    if moving:
        raise UserError(
            f"config.augment names {', '.join(moving)}: with {output} the label map would not "
            "follow, accepted is color; config.data.resize=jitter and config.data.flip change both"
        )


def _check_palette(found: tuple) -> None:
    """Every class has a colour of its own."""
    for number, colour in enumerate(found):
        key = f"config.model.palette[{number}]={colour!r}"
        # lists where it comes from a run's config.json
        three = isinstance(colour, tuple | list) and len(colour) == 3
        if not three or not all(type(v) is int and 0 <= v <= 255 for v in colour):
            raise UserError(f"{key}: a colour is (r, g, b), whole numbers from 0 to 255")
        if colour in found[:number]:
            first = found.index(colour)
            raise UserError(f"{key}: colour {first} is the same; each class has its own")
