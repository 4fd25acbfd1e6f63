"""WarpGAN's generator and discriminator (Shi, Deb and Jain 2019, section 3).

    gen, disc = build(config.model, resolution=256, num_classes=126)
    params, _ = gen.init(key, images)
    code = gen.content(params, images)
    texture = gen.texture(params, code, style)
    points, displacements = gen.controls(params, code)

A caricature is the texture warped so that each control point moves by its displacement. The style
encoder computes a style code from an image; for generation codes may also be sampled from N(0, I).
Points and displacements are (y, x) in pixels of the image.

Both networks have a choice of heads: "flat", the original's, works for one image size only, and
"pooled" for any. The flat warp head has 134 of the generator's 144 million parameters at 256 px.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.nn import initializers

from gan_jax import splitting
from gan_jax.errors import UserError, above, at_least, one_of
from gan_jax.models.layers import Conv, Dense
from gan_jax.models.network import Network, PyTree, functional
from gan_jax.models.precision import DTYPES, cast, single
from gan_jax.models.warpgan_blocks import (
    ContentEncoder,
    Decoder,
    LayerNorm,
    ReflectConv,
    StyleController,
    StyleEncoder,
    embedded,
    grid_pool,
    hidden,
    trunk,
)

HEADS = ("pooled", "flat")
REDUCTION = 4  # a pixel of the content code covers this many pixels of the image per side
SMALLEST = 32  # the side that five halvings in the discriminator reduce to 1
LEAST = 16  # the smallest side that the pooled warp head can still halve
SPREAD = 50 / 256  # initial deviation of control points from the centre, as a share of the side
GRID = 4  # cells of the pooled warp head along either side
UNIT = 1 / 128  # of the side: a 1 at the outputs of the pooled warp head


def defaults() -> dict[str, Any]:
    """The section `model` of a config."""
    return dict(
        width=64,  # channels of the encoders' first convolution; 2 and 4 times as many follow
        blocks=3,  # residual blocks, in the content encoder and in the decoder
        style_size=8,  # numbers in a style code
        control_width=128,  # of the hidden layers that control style and warp
        points=16,  # control points of the warp
        warp_head="pooled",  # any image size | flat: the original's, for one image size
        disc_width=32,  # channels of the discriminator's first convolution; 2 to 16 times follow
        disc_head="flat",  # the original's, for one image size | pooled: any image size
        bottleneck=512,  # numbers in the discriminator's embedding
        logit_scale=1.0,  # of identity logits, whose input has length 1; as in the original
        keep_prob=1.0,  # below 1: dropout in the warp head and before the embedding
        dtype="float32",  # | bfloat16 | float16, of activations; weights and warps stay float32
    )


class Generator(NamedTuple):
    """The generator's parts as pure functions of one tree of parameters.

    init(key, images [B, H, W, C]) → (params, {})
    style(params, images) → codes [B, S]
    content(params, images) → code [B, H/4, W/4, 4 width]
    texture(params, content, style [B, S]) → images [B, H, W, C] in [-1, 1]
    controls(params, content, train=False, key=None) → points, displacements [B, P, 2]

    Images are in [-1, 1], their height and width divisible by 4 and at least 16; `key` is for
    dropout. Raises UserError for other sizes; a flat warp head only accepts the size it was built
    for.
    """

    init: Callable[..., tuple[PyTree, PyTree]]
    style: Callable[..., Array]
    content: Callable[..., Array]
    texture: Callable[..., Array]
    controls: Callable[..., tuple[Array, Array]]


def build(
    model: Any, resolution: int, num_classes: int, channels: int = 3
) -> tuple[Generator, Network]:
    """Generator and discriminator from a section like `defaults` gives.

    disc.apply(params, {}, images, train=False, key=None) → ((patch logits [B, h, w, 3], identity
    logits [B, 3 num_classes], embedding [B, bottleneck] of length 1), {})

    Args:
        model: mapping with the section's keys.
        resolution: side of the square training images in pixels.
        num_classes: identities.
        channels: of an image.

    Raises UserError, naming the key, for values that are not accepted.
    """
    gen, disc = modules(model, resolution, num_classes, channels)

    def init(key: Array, images: Array) -> tuple[PyTree, PyTree]:
        return gen.init({"params": key}, images)["params"], {}

    def part(name: str) -> Callable[..., Any]:
        return lambda params, *inputs: gen.apply(
            splitting.whole({"params": params}), *inputs, method=name
        )

    def controls(
        params: PyTree, content: Array, train: bool = False, key: Array | None = None
    ) -> tuple[Array, Array]:
        rngs = None if key is None else {"dropout": key}
        return gen.apply(
            splitting.whole({"params": params}), content, train, method="controls", rngs=rngs
        )

    return Generator(init, *map(part, ("style", "content", "texture")), controls), functional(disc)


def modules(
    model: Any, resolution: int, num_classes: int, channels: int = 3
) -> tuple["GeneratorModule", "Discriminator"]:
    """The modules behind `build`, for access to their activations."""
    _check(model, resolution)
    gen = GeneratorModule(
        width=model["width"], blocks=model["blocks"], style_size=model["style_size"],
        control_width=model["control_width"], points=model["points"],
        side=resolution if model["warp_head"] == "flat" else 0, keep_prob=model["keep_prob"],
        channels=channels, dtype=model.get("dtype", "float32"),
    )  # fmt: skip
    disc = Discriminator(
        width=model["disc_width"], bottleneck=model["bottleneck"], num_classes=num_classes,
        logit_scale=model["logit_scale"],
        side=resolution if model["disc_head"] == "flat" else 0, keep_prob=model["keep_prob"],
        dtype=model.get("dtype", "float32"),
    )  # fmt: skip
    return gen, disc


class GeneratorModule(nn.Module):
    """The five parts of the generator; for the methods see `Generator`."""

    width: int
    blocks: int
    style_size: int
    control_width: int
    points: int
    side: int  # of the images of the flat warp head; 0: the pooled one
    keep_prob: float
    channels: int
    dtype: str = "float32"

    def setup(self):
        self.style_encoder = StyleEncoder(self.width, self.style_size, self.dtype)
        self.content_encoder = ContentEncoder(self.width, self.blocks, self.dtype)
        self.style_controller = StyleController(self.control_width, 4 * self.width)
        self.decoder = Decoder(self.width, self.blocks, self.channels)
        self.warp_controller = WarpController(
            self.control_width, self.points, self.side, self.keep_prob, 2 * self.width
        )

    def __call__(self, images: Array) -> None:
        content = self.content(images)
        self.texture(content, self.style(images))
        self.controls(content)

    def style(self, images: Array) -> Array:
        return self.style_encoder(images)

    def content(self, images: Array) -> Array:
        _check_size(images)
        return self.content_encoder(images)

    def texture(self, content: Array, style: Array) -> Array:
        return self.decoder(content, *self.style_controller(style))

    def controls(self, content: Array, train: bool = False) -> tuple[Array, Array]:
        return self.warp_controller(content, train)


class WarpController(nn.Module):
    """Content code [B, h, w, F] → control points and their displacements, [B, points, 2] each.

    Points are `point_mean`, a parameter that all images share, plus an offset for each image. With
    `side` 0 the head is pooled: it reads a grid of means, and its outputs are shares of height and
    width. The flat head reads every pixel of images of that side, and its outputs are in pixels.
    """

    width: int
    points: int
    side: int
    keep_prob: float
    features: int  # of the pooled head's convolutions

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> tuple[Array, Array]:
        size = [REDUCTION * n for n in x.shape[1:3]]
        if self.side:
            _check_side("warp_head", size, self.side)
        else:
            for number in range(2):
                x = ReflectConv(self.features, 4, 2, reflect=1, name=f"conv{number}")(x)
                # not instance norm, after which means over a map are 0, as are the smallest maps
                x = jax.nn.relu(LayerNorm(name=f"conv{number}_norm")(x))
            x = grid_pool(single(x), GRID)
        h = single(hidden(x.reshape(x.shape[0], -1), self.width))
        h = _dropout(self, h, self.keep_prob, train)
        start = _around_centre(self.side or 1)
        mean = self.param("point_mean", start, (2 * self.points,))  # y, x, y, x, …
        offsets = Dense(
            2 * self.points, False, kernel_init=initializers.truncated_normal(1.0), name="points"
        )(h)
        moves = Dense(2 * self.points, weight_init="he", name="displacements")(h)
        if not self.side:
            scale = jnp.tile(jnp.asarray(size, h.dtype), self.points)
            mean, offsets, moves = mean * scale, offsets * UNIT * scale, moves * UNIT * scale
        pairs = (-1, self.points, 2)
        return (mean + offsets).reshape(pairs), moves.reshape(pairs)


def _around_centre(side: int) -> Callable[..., Array]:
    """An initialiser of coordinates around the centre of an image of that side."""

    def draw(key: Array, shape: tuple[int, ...]) -> Array:
        return side * (0.5 + SPREAD * jax.random.normal(key, shape))

    return draw


class Discriminator(nn.Module):
    """Images [B, H, W, C] → patch logits, identity logits, embeddings, as `build` describes.

    There is one patch for every 32x32 pixels. Its three classes are caricature, photo and
    generated; each identity has three classes in the same way.
    """

    width: int
    bottleneck: int
    num_classes: int
    side: int  # of the images of the flat head; 0: the pooled one
    keep_prob: float
    logit_scale: float
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> tuple[Array, Array, Array]:
        if self.side:
            _check_side("disc_head", x.shape[1:3], self.side)
        x = trunk(cast(x, self.dtype), self.width)
        patch = Conv(3, 1, weight_init="xavier", name="patch")(single(x))
        h = x.reshape(x.shape[0], -1) if self.side else jnp.mean(x, (1, 2))
        h = _dropout(self, h, self.keep_prob, train)
        embedding = embedded(h, self.bottleneck)
        identity = Dense(3 * self.num_classes, weight_init="xavier", name="identity")(embedding)
        return patch, self.logit_scale * identity, embedding


def _dropout(module: nn.Module, x: Array, keep_prob: float, train: bool) -> Array:
    """Dropout inside a module: some values become 0, the others are divided by keep_prob. It is
    only active in training, and only if there is a key."""
    active = train and module.has_rng("dropout")
    return nn.Dropout(1 - keep_prob, deterministic=not active)(x)


def _check_size(images: Array) -> None:
    """Raises UserError for images that the content encoder cannot halve twice."""
    height, width = images.shape[1:3]
    if min(height, width) < LEAST or height % REDUCTION or width % REDUCTION:
        raise UserError(
            f"images are {height}x{width} pixels: WarpGAN takes heights and widths that divide by "
            f"{REDUCTION}, at least {LEAST}"
        )


def _check_side(head: str, size: Any, side: int) -> None:
    """Raises UserError for images of another size than a flat head was built for."""
    if tuple(size) != (side, side):
        raise UserError(
            f"config.model.{head}='flat' is for images of {side}x{side} pixels, not "
            f"{size[0]}x{size[1]}: resize them, or train with config.model.{head}='pooled'"
        )


def _check(model: Any, resolution: int) -> None:
    """Raises UserError, naming the key, for values that are not accepted."""
    one_of("config.model.dtype", model.get("dtype", "float32"), DTYPES)
    for name in ("warp_head", "disc_head"):
        one_of(f"config.model.{name}", model[name], HEADS)
    lowest = dict(
        width=1, blocks=0, style_size=1, control_width=1, points=3, disc_width=1, bottleneck=1
    )
    for name, low in lowest.items():
        at_least(f"config.model.{name}", model[name], low)
    above("config.model.logit_scale", model["logit_scale"], 0)
    if not 0 < model["keep_prob"] <= 1:
        raise UserError(f"config.model.keep_prob={model['keep_prob']}: must lie in (0, 1]")
    if resolution < SMALLEST or resolution % REDUCTION:
        raise UserError(
            f"config.data.resolution={resolution}: the networks of config.model take sides that "
            f"divide by {REDUCTION}, at least {SMALLEST}, such as 64 or 256"
        )
