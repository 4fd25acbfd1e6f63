"""The networks of pix2pix by name: U-Nets and patch discriminators, in two families.

    gen, disc = build(config.model, resolution=256, outputs=3)
    params, stats = gen.init(key, x)
    fake, stats = gen.apply(params, stats, x, train=True, key=key)
    logits, _ = disc.apply(disc_params, disc_stats, condition, image, train=True)

`original` is the U-Net of Isola et al. 2017 as junyanz' PyTorch code builds it, `pytorch_gan` that
of PyTorch-GAN's pix2pix. They differ in the places of norm, activation and dropout, in the last
layer, and in which maps the skips connect.
"""

from collections.abc import Mapping
from typing import Any

from gan_jax.errors import UserError, at_least, one_of
from gan_jax.models import options
from gan_jax.models.network import Network, functional
from gan_jax.models.pix2pix_base import INITS, NORMS, Backbone
from gan_jax.models.pix2pix_patches import (
    Discriminator,
    OriginalDiscriminator,
    PyTorchGanDiscriminator,
)
from gan_jax.models.pix2pix_patches import receptive_field as receptive_field
from gan_jax.models.pix2pix_unet import Generator, OriginalGenerator, PyTorchGanGenerator

MOST_LAYERS = 6  # of the patch discriminator
PLACES = ("junyanz", "torch7")  # where `original` drops features

GENERATORS: dict[str, type[Generator]] = {
    "pytorch_gan": PyTorchGanGenerator,
    "original": OriginalGenerator,
}
DISCRIMINATORS: dict[str, type[Discriminator]] = {
    "pytorch_gan": PyTorchGanDiscriminator,
    "original": OriginalDiscriminator,
}


def defaults() -> dict[str, Any]:
    """The section `model` of a config. "" means the family's own value."""
    shared = dict(
        name="pytorch_gan",  # | original
        width=64,  # channels of the first convolution
        norm="",  # batch | instance | none
        init="normal",  # | xavier | kaiming | orthogonal
        init_gain=0.02,  # deviation of normal; scale of xavier and orthogonal
    )
    return dict(
        dtype="float32",  # | bfloat16 | float16, of activations; weights stay float32
        gen=dict(
            shared,
            depth=0,  # how often the image is halved; 0: as often as possible, to an odd size
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
        model: mapping with dtype, gen and disc.
        resolution: side of the square images in pixels.
        outputs: channels of the generator's output; those of the inputs follow from the arrays.

    Raises UserError, naming the key, for values that are not accepted.
    """
    gen = _module("gen", GENERATORS, model["gen"])
    dtype = model.get("dtype", "float32")
    gen = gen.clone(outputs=outputs, depth=depth(gen.depth, resolution), dtype=dtype)
    disc = discriminator(model["disc"], resolution).clone(dtype=dtype)
    return functional(gen), functional(disc)


def discriminator(section: Any, resolution: int) -> Discriminator:
    """The discriminator's module, which also has `map_size` and `strides`."""
    disc = _module("disc", DISCRIMINATORS, section)
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
    """How often the generator halves the image: `wanted`, or if that is 0 as often as possible.

    Raises UserError if the image cannot be halved that often, or not even twice.
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


def unused(model: Any) -> dict[str, Any]:
    """Options in a section like `defaults` that are set although the chosen networks lack them.

    Returns {key: default value}, with keys such as "gen.dropout_place". Such options used to be
    ignored before they were refused, so configs of older runs may hold some.
    """
    found = {}
    for part, known in (("gen", GENERATORS), ("disc", DISCRIMINATORS)):
        section, usual = model[part], defaults()[part]
        one_of(f"config.model.{part}.name", section["name"], known)
        lacking = options.unused(section, usual, _options(known[section["name"]], usual))
        found |= {f"{part}.{option}": value for option, value in lacking.items()}
    return found


def _options(kind: type[Backbone], usual: Mapping[str, Any]) -> list[str]:
    """The options of a section that a network has; `usual` holds the section's defaults."""
    fields = {"init" if f == "init_name" else f for f in kind.__dataclass_fields__}
    return [option for option in usual if option in fields and option != "name"]


def _module(part: str, known: Mapping[str, type[Backbone]], section: Any) -> Any:
    """The module that the section config.model.`part` names. Raises UserError for its values."""
    key, usual, name = f"config.model.{part}", defaults()[part], section["name"]
    one_of(f"{key}.name", name, known)
    has = _options(known[name], usual)
    options.refuse(key, name, options.unused(section, usual, has), has)
    chosen = {option: section[option] for option in has}
    _check(key, chosen)
    chosen["init_name"] = chosen.pop("init")
    if not chosen["norm"]:
        del chosen["norm"]
    return known[name](**chosen)


def _check(key: str, chosen: Mapping[str, Any]) -> None:
    """Raises UserError for a value that no network accepts."""
    accepted = {"norm": (*NORMS, ""), "init": INITS, "dropout_place": PLACES}
    for option, values in accepted.items():
        if option in chosen and chosen[option] not in values:
            listed = ", ".join(v or "'' (the family's own)" for v in values)
            raise UserError(f"{key}.{option}={chosen[option]!r}: accepted are {listed}")
    for option, lowest in (("width", 1), ("init_gain", 0), ("depth", 0)):
        if option in chosen:
            at_least(f"{key}.{option}", chosen[option], lowest)
    if not 0 <= chosen.get("dropout", 0) < 1:
        raise UserError(f"{key}.dropout={chosen['dropout']}: must lie in [0, 1)")
