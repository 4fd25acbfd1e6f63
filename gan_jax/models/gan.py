"""The generators and discriminators of the `gan` system, by name.

    gen = generator("deconv", z_dim=64, width=32)
    params, stats = gen.init(key, z, label)
    images, stats = gen.apply(params, stats, z, label, train=True)

A generator maps z [B, z_dim] and label [B] int32 to images [B, H, W, C] in [-1, 1], a discriminator
images and label to (logit [B], features [B, F]). Without conditioning the label is ignored.
"""

import dataclasses
from typing import Any

import flax.linen as nn

from gan_jax.errors import UserError, at_least, one_of
from gan_jax.models import gan_conv, gan_dense, gan_resnet
from gan_jax.models.layers import INITIALIZERS
from gan_jax.models.network import Network, functional
from gan_jax.models.options import refuse

GENERATORS: dict[str, type[nn.Module]] = {
    "dense": gan_dense.DenseGenerator,
    "deconv": gan_conv.DeconvGenerator,
    "pytorch_gan_dense": gan_dense.PyTorchGanDenseGenerator,
    "pytorch_gan_dcgan": gan_conv.PyTorchGanDcganGenerator,
    "deep_conv": gan_resnet.DeepConvGenerator,
    "resnet": gan_resnet.ResnetGenerator,
}
DISCRIMINATORS: dict[str, type[nn.Module]] = {
    "dense": gan_dense.DenseDiscriminator,
    "guide_conv": gan_conv.GuideConvDiscriminator,
    "guide_conv_pool": gan_conv.GuideConvPoolDiscriminator,
    "conv": gan_conv.ConvDiscriminator,
    "pytorch_gan_dense": gan_dense.PyTorchGanDenseDiscriminator,
    "pytorch_gan_dcgan": gan_conv.PyTorchGanDcganDiscriminator,
    "deep_conv": gan_resnet.DeepConvDiscriminator,
    "resnet": gan_resnet.ResnetDiscriminator,
}


def generator(name: str, **options: Any) -> Network:
    """The generator called `name`; options: the fields of `gan_base.Generator`, and `init`.

    Raises UserError for an unknown name, option or value.
    """
    return functional(_module("config.model.gen", GENERATORS, name, options))


def discriminator(name: str, **options: Any) -> Network:
    """The discriminator called `name`; options: the fields of `gan_base.Discriminator`, and `init`.

    Raises UserError for an unknown name, option or value.
    """
    return functional(_module("config.model.disc", DISCRIMINATORS, name, options))


def generator_defaults() -> dict[str, Any]:
    """Section `model.gen` of a config. 0 and "" mean the network's own value."""
    return {
        "name": "deconv",  # keys of GENERATORS
        "width": 0,  # channels of the largest image (dense networks: of the first layer)
        "output": "tanh",  # | sigmoid, as 2 * sigmoid - 1
        "init": "",  # keys of layers.INITIALIZERS
        "spectral_norm": False,
    }


def discriminator_defaults() -> dict[str, Any]:
    """Section `model.disc` of a config. 0, "" and -1 mean the network's own value."""
    return {
        "name": "conv",  # keys of DISCRIMINATORS
        "width": 0,
        "init": "",
        "dropout": -1.0,  # rate
        "batch_norm": "",  # | on | off
        "spectral_norm": False,
        "minibatch_discrimination": 0,  # kernels, 0: off
        "minibatch_discrimination_dims": 5,
        "minibatch_stddev": 0,  # group size, 0: off
    }


def build(model: Any, resolution: int, channels: int, num_classes: int) -> tuple[Network, Network]:
    """Generator and discriminator from a mapping with z_dim, conditioning, dtype, gen and disc.

    `gen` and `disc` have the keys that the two functions above list. Raises UserError as
    `generator` does.
    """
    shared = {
        "resolution": resolution,
        "channels": channels,
        "num_classes": num_classes,
        "conditioning": model["conditioning"],
        "dtype": model.get("dtype", "float32"),
    }
    gen, disc = _chosen(model["gen"]), _chosen(model["disc"])
    return (
        generator(gen.pop("name"), z_dim=model["z_dim"], **shared, **gen),
        discriminator(disc.pop("name"), **shared, **disc),
    )


def _chosen(section: Any) -> dict[str, Any]:
    """The options of a section that have a value other than "the network's own"."""
    options = {key: section[key] for key in section}
    own = {"width": 0, "init": "", "dropout": -1.0, "batch_norm": ""}
    options = {k: v for k, v in options.items() if k not in own or v != own[k]}
    switch = options.get("batch_norm")
    if isinstance(switch, str):
        if switch not in ("on", "off"):
            raise UserError(
                f"config.model.disc.batch_norm={switch!r}: accepted are on, off, '' (network's own)"
            )
        options["batch_norm"] = switch == "on"
    return options


def _module(key: str, known: dict[str, type[nn.Module]], name: str, options: dict) -> nn.Module:
    """The module called `name`, with options by their names in the section `key`."""
    one_of(f"{key}.name", name, known)
    kind = known[name]
    fields = [f.name for f in dataclasses.fields(kind) if f.name not in ("parent", "name")]
    accepted = {"init" if f == "weight_init" else f: f for f in fields if f not in kind.without}
    refuse(key, name, [option for option in options if option not in accepted], accepted)
    module = kind(**{accepted[option]: value for option, value in options.items()})
    _check(key, name, module)
    return module


def _check(key: str, name: str, module: Any) -> None:
    """Raises UserError for values with which the network called `name` cannot be built."""
    choices = {
        "conditioning": ("config.model.conditioning", module.conditionings),
        "weight_init": (f"{key}.init", tuple(INITIALIZERS)),
        "output": (f"{key}.output", ("tanh", "sigmoid")),
    }
    for field, (where, values) in choices.items():
        value = getattr(module, field, values[0])
        if value not in values:
            raise UserError(f"{where}={value!r}: {name!r} accepts {', '.join(values)}")
    if module.conditioning != "none" and module.num_classes < 1:
        raise UserError(
            f"config.model.conditioning={module.conditioning!r} needs classes, and the data has "
            "none; set it to none"
        )
    size = module.resolution
    if size % module.multiple_of or size < module.smallest:
        raise UserError(
            f"{key}.name={name!r} makes and takes multiples of {module.multiple_of} pixels, at "
            f"least {module.smallest}; the data has {size}: set config.data.resolution"
        )
    at_least(f"{key}.width", module.width, 1)
    if not 0 <= getattr(module, "dropout", 0) < 1:
        raise UserError(f"{key}.dropout={module.dropout}: must lie in [0, 1)")
