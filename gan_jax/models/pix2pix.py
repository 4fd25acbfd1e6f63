"""The U-Nets and patch discriminators of pix2pix, in two families.

    gen, disc = build(config.model, resolution=256, outputs=3)
    params, stats = gen.init(key, x)
    fake, stats = gen.apply(params, stats, x, train=True, key=key)
    logits, _ = disc.apply(disc_params, disc_stats, condition, image, train=True)

`original` is the U-Net of Isola et al. 2017 as junyanz' PyTorch code builds it, `pytorch_gan` that
of PyTorch-GAN's pix2pix. They differ in where norm, activation and dropout stand, in the last
layer, and in what the skips carry.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.nn import initializers

from gan_jax.errors import UserError
from gan_jax.models.layers import (
    BatchNorm,
    Conv,
    ConvTranspose,
    initializer,
    instance_norm,
    leaky_relu,
    upsample,
)
from gan_jax.models.network import Network, functional

NORMS = ("batch", "instance", "none")
INITS = ("normal", "xavier", "kaiming", "orthogonal")
MOST_LAYERS = 6  # of the patch discriminator
WIDEST = 8  # channels grow up to this many times the width
DROPOUT_FROM = 4  # pytorch_gan drops features from this level on, down and up


class Backbone(nn.Module):
    """What generators and discriminators share: width, norm, and how weights start.

    init: normal (of deviation init_gain), xavier (scaled by init_gain), kaiming, orthogonal (scaled
    by init_gain). torch_bias: biases start as PyTorch's own do, else at 0.
    """

    width: int = 64
    norm: str = "batch"
    init_name: str = "normal"
    init_gain: float = 0.02
    torch_bias: bool = False

    def weights(self, fan_in: int, transposed: bool = False) -> dict[str, Callable[..., Array]]:
        """Kernel and bias initialisers of a layer; a transposed one swaps its fans, as PyTorch."""
        # kernels are [kh, kw, in, out]; PyTorch reads the fan-in off the second axis of its own
        # [out, in, kh, kw], and of [in, out, kh, kw] where the layer is transposed
        axes = dict(in_axis=-1, out_axis=-2) if transposed else {}
        gain = self.init_gain
        kernel = {
            "normal": lambda: initializers.normal(gain),
            "xavier": lambda: initializers.variance_scaling(gain**2, "fan_avg", "normal", **axes),
            "kaiming": lambda: initializers.variance_scaling(2.0, "fan_in", "normal", **axes),
            "orthogonal": lambda: initializers.orthogonal(gain, -2 if transposed else -1),
        }[self.init_name]()
        bias = initializer("default").bias(fan_in) if self.torch_bias else initializers.zeros
        return dict(kernel_init=kernel, bias_init=bias)

    def conv(
        self,
        x: Array,
        name: str,
        features: int,
        kernel: int = 4,
        strides: int = 2,
        padding: int = 1,
        use_bias: bool = False,
    ) -> Array:
        start = self.weights(kernel**2 * x.shape[-1])
        return Conv(features, kernel, strides, padding, use_bias, name=name, **start)(x)

    def deconv(self, x: Array, name: str, features: int, use_bias: bool = False) -> Array:
        """Twice the size: kernel 4, stride 2, padding 1."""
        start = self.weights(16 * features, transposed=True)
        return ConvTranspose(features, use_bias=use_bias, name=name, **start)(x)

    def normalise(self, x: Array, train: bool, name: str) -> Array:
        """Batch, instance or no norm. A 1x1 map is left alone: its own mean is all it has."""
        if self.norm == "none" or x.shape[1:3] == (1, 1):
            return x
        if self.norm == "instance":
            return instance_norm(x)
        return BatchNorm(weight_init="normal_0.02", name=name)(x, train)

    def channels(self, level: int) -> int:
        """Channels of level 1, 2, …: width, 2 width, … up to 8 width."""
        return self.width * min(2 ** (level - 1), WIDEST)


class Generator(Backbone):
    """x [B, H, W, C] in [-1, 1] → image [B, H, W, outputs] in [-1, 1].

    `depth` levels halve the image. `drop` says whether dropout acts, `train` whether batch norm
    uses the batch's own statistics; by default dropout follows `train`.
    """

    depth: int = 8
    outputs: int = 3
    dropout: float = 0.5
    skips: bool = True  # False: the encoder-decoder that the paper compares with

    def drop(self, x: Array, active: bool) -> Array:
        return nn.Dropout(self.dropout, deterministic=not active)(x) if self.dropout else x

    def joined(self, *parts: Array) -> Array:
        """Two maps as one; the first alone where there are no skips."""
        return jnp.concatenate(parts, axis=-1)


class OriginalGenerator(Generator):
    """U-Net of the paper: activation → convolution → norm, on the way up → dropout.

    No norm behind the first and the last convolution down. `dropout_place`: "junyanz" drops at
    every inner level but the innermost that has 8 width channels on both sides, "torch7" at the
    three innermost. Convolutions have biases unless they feed batch norm; the last one always has.
    """

    dropout_place: str = "junyanz"

    @nn.compact
    def __call__(self, x: Array, drop: bool | None = None, train: bool = False) -> Array:
        drop, biased, skips = train if drop is None else drop, self.norm != "batch", []
        for level in range(1, self.depth + 1):
            x = leaky_relu(x) if level > 1 else x
            x = self.conv(x, f"encoder_{level}", self.channels(level), use_bias=biased)
            if 1 < level < self.depth:
                x = self.normalise(x, train, f"encoder_{level}_norm")
            skips.append(x)
        for level in range(self.depth, 1, -1):
            if level < self.depth and self.skips:
                x = self.joined(skips[level - 1], x)
            features = self.channels(level - 1)
            x = self.deconv(jax.nn.relu(x), f"decoder_{level}", features, biased)
            x = self.normalise(x, train, f"decoder_{level}_norm")
            if self.drops(level):
                x = self.drop(x, drop)
        x = self.joined(skips[0], x) if self.skips else x
        return jnp.tanh(self.deconv(jax.nn.relu(x), "decoder_1", self.outputs, True))

    def drops(self, level: int) -> bool:
        """Whether features of the deconvolution out of this level are dropped."""
        if self.dropout_place == "torch7":
            return level > self.depth - 3
        return 5 <= level < self.depth


class PyTorchGanGenerator(Generator):
    """PyTorch-GAN's U-Net: convolution → norm → activation → dropout, no biases but the last.

    No norm behind the first and the last convolution down; dropout from the fourth level on, both
    ways. The last layer is a nearest-neighbour upsampling, a row and a column of zeros at the top
    and the left, and a convolution.
    """

    norm: str = "instance"
    torch_bias: bool = True

    @nn.compact
    def __call__(self, x: Array, drop: bool | None = None, train: bool = False) -> Array:
        drop, skips = train if drop is None else drop, []
        for level in range(1, self.depth + 1):
            x = self.conv(x, f"down{level}", self.channels(level))
            if 1 < level < self.depth:
                x = self.normalise(x, train, f"down{level}_norm")
            x = leaky_relu(x)
            if level >= DROPOUT_FROM:
                x = self.drop(x, drop)
            skips.append(x)
        for number in range(1, self.depth):
            level = self.depth - number  # the level whose size is reached
            x = self.deconv(x, f"up{number}", self.channels(level))
            x = jax.nn.relu(self.normalise(x, train, f"up{number}_norm"))
            if level >= DROPOUT_FROM:
                x = self.drop(x, drop)
            x = self.joined(x, skips[level - 1]) if self.skips else x
        x = jnp.pad(upsample(x), ((0, 0), (1, 0), (1, 0), (0, 0)))
        return jnp.tanh(self.conv(x, "final", self.outputs, 4, 1, 1, use_bias=True))


class Discriminator(Backbone):
    """condition, image [B, H, W, C] in [-1, 1] → logits [B, h, w, 1], one per patch.

    conditional: False shows the image alone.
    """

    conditional: bool = True


class OriginalDiscriminator(Discriminator):
    """PatchGAN of n `layers` (3: 70x70 pixels): n convolutions of stride 2, two of stride 1.

    0 layers: PixelGAN, three 1x1 convolutions. The condition comes first.
    """

    layers: int = 3

    @nn.compact
    def __call__(self, condition: Array, image: Array, train: bool = False) -> Array:
        x = jnp.concatenate([condition, image], -1) if self.conditional else image
        biased, n = self.norm != "batch", self.layers
        if n == 0:
            x = leaky_relu(self.conv(x, "conv_0", self.width, 1, 1, 0, use_bias=True))
            x = self.conv(x, "conv_1", 2 * self.width, 1, 1, 0, use_bias=biased)
            x = leaky_relu(self.normalise(x, train, "norm_1"))
            return self.conv(x, "conv_2", 1, 1, 1, 0, use_bias=biased)
        x = leaky_relu(self.conv(x, "conv_0", self.width, use_bias=True))
        for k in range(1, n + 1):
            features = self.channels(k + 1)
            x = self.conv(x, f"conv_{k}", features, strides=1 if k == n else 2, use_bias=biased)
            x = leaky_relu(self.normalise(x, train, f"norm_{k}"))
        return self.conv(x, f"conv_{n + 1}", 1, strides=1, use_bias=True)

    def strides(self) -> list[tuple[int, int]]:
        """(kernel size, stride) of every convolution."""
        if self.layers == 0:
            return [(1, 1)] * 3
        return [(4, 2)] * self.layers + [(4, 1)] * 2

    def map_size(self, resolution: int) -> int:
        """Side of the map of logits for square images; below 1: the image is too small."""
        return resolution if self.layers == 0 else resolution // 2**self.layers - 2


class PyTorchGanDiscriminator(Discriminator):
    """PyTorch-GAN's: four convolutions of stride 2, then one on a map with a row and a column of
    zeros at the top and the left: 94x94 pixels, resolution / 16 logits. The image comes first."""

    norm: str = "instance"
    torch_bias: bool = True

    @nn.compact
    def __call__(self, condition: Array, image: Array, train: bool = False) -> Array:
        x = jnp.concatenate([image, condition], -1) if self.conditional else image
        for k in range(4):
            x = self.conv(x, f"conv_{k}", self.channels(k + 1), use_bias=True)
            x = leaky_relu(self.normalise(x, train, f"norm_{k}") if k else x)
        x = jnp.pad(x, ((0, 0), (1, 0), (1, 0), (0, 0)))
        return self.conv(x, "conv_4", 1, strides=1)

    def strides(self) -> list[tuple[int, int]]:
        """(kernel size, stride) of every convolution."""
        return [(4, 2)] * 4 + [(4, 1)]

    def map_size(self, resolution: int) -> int:
        """Side of the map of logits for square images."""
        return resolution // 16


def receptive_field(strides: list[tuple[int, int]]) -> int:
    """Side in pixels of what one output of a stack of (kernel size, stride) convolutions sees:
    from the last layer to the first, r ← r · stride + (kernel − stride), r = 1 at first."""
    side = 1
    for kernel, stride in reversed(strides):
        side = side * stride + kernel - stride
    return side


GENERATORS = {"pytorch_gan": PyTorchGanGenerator, "original": OriginalGenerator}
DISCRIMINATORS = {"pytorch_gan": PyTorchGanDiscriminator, "original": OriginalDiscriminator}


def defaults() -> dict[str, Any]:
    """The section `model` of a config. "" stands for the family's own value."""
    shared = dict(
        name="pytorch_gan",  # | original
        width=64,  # channels of the first convolution
        norm="",  # batch | instance | none
        init="normal",  # | xavier | kaiming | orthogonal
        init_gain=0.02,  # deviation of normal; scale of xavier and orthogonal
    )
    return dict(
        gen=dict(
            shared,
            depth=0,  # how often the image is halved; 0: down to 1x1, or to an odd size
            dropout=0.5,
            dropout_place="junyanz",  # original: | torch7
            skips=True,  # False: an encoder-decoder
        ),
        disc=dict(
            shared,
            layers=3,  # original: 0 (single pixels) to 6; pytorch_gan has one size
            conditional=True,  # False: it sees the image without the condition
        ),
    )


def build(model: Any, resolution: int, outputs: int) -> tuple[Network, Network]:
    """Generator and discriminator from a section like `defaults` gives.

    Args:
        model: mapping with gen and disc.
        resolution: side of the square images in pixels.
        outputs: channels that the generator makes; layers take the inputs' from what they get.

    Raises UserError, naming the key, for values that are not accepted.
    """
    gen = _module("config.model.gen", GENERATORS, model["gen"])
    gen = gen.clone(outputs=outputs, depth=depth(gen.depth, resolution))
    return functional(gen), functional(discriminator(model["disc"], resolution))


def discriminator(section: Any, resolution: int) -> Discriminator:
    """The discriminator's module; for its `map_size` and `strides`."""
    disc = _module("config.model.disc", DISCRIMINATORS, section)
    if section["name"] == "original" and not 0 <= disc.layers <= MOST_LAYERS:
        raise UserError(f"config.model.disc.layers={disc.layers}: accepted are 0 to {MOST_LAYERS}")
    if disc.map_size(resolution) < 1:
        lower = ", lower config.model.disc.layers" if section["name"] == "original" else ""
        raise UserError(
            f"config.model.disc.name={section['name']!r} leaves nothing of images of {resolution} "
            f"pixels: raise config.data.resolution{lower}"
        )
    return disc


def depth(wanted: int, resolution: int) -> int:
    """How often the generator halves the image: `wanted`, or as often as it stays whole.

    Raises UserError where the image cannot be halved that often, or less than twice.
    """
    whole = (resolution & -resolution).bit_length() - 1
    found = wanted or whole
    if not 2 <= found <= whole:
        near = max(round(resolution / 64), 1) * 64
        raise UserError(
            f"config.data.resolution={resolution} can be halved {whole} times, config.model.gen"
            f".depth={wanted or 'automatic'} needs {'2 or more' if found < 2 else found}: choose "
            f"a resolution such as {near}, or another depth"
        )
    return found


def _module(key: str, known: dict[str, type[Backbone]], section: Any) -> Any:
    options = {name: section[name] for name in section}
    name = options.pop("name")
    if name not in known:
        raise UserError(f"{key}.name={name!r}: accepted are {', '.join(known)}")
    kind = known[name]
    accepted = {
        "norm": (*NORMS, ""),
        "init": INITS,
        "dropout_place": ("junyanz", "torch7"),
    }
    for option, values in accepted.items():
        if option in options and options[option] not in values:
            listed = ", ".join(v or "'' (the family's own)" for v in values)
            raise UserError(f"{key}.{option}={options[option]!r}: accepted are {listed}")
    for option, lowest in (("width", 1), ("init_gain", 0), ("depth", 0)):
        if option in options and options[option] < lowest:
            raise UserError(f"{key}.{option}={options[option]}: must be at least {lowest}")
    if not 0 <= options.get("dropout", 0) < 1:
        raise UserError(f"{key}.dropout={options['dropout']}: must lie in [0, 1)")
    options["init_name"] = options.pop("init")
    if not options["norm"]:
        del options["norm"]
    fields = kind.__dataclass_fields__
    return kind(**{k: v for k, v in options.items() if k in fields})
