"""Choices when sampling from a trained diffusion model: a sampler, more guidance, a classifier.

The functions change a config, from which `diffusion.make` then builds a system that samples in
another way. None of them changes weights.
"""

from collections.abc import Mapping
from typing import Any

from gan_jax.core import ema
from gan_jax.core.system import Facts, Net
from gan_jax.errors import UserError
from gan_jax.systems.diffusion_config import settings

GUIDE = "classifier"
"""The net whose gradient guides sampling, and the section of the config that describes it."""


def resample(config: Any, changes: Mapping[str, Any], nets: Mapping[str, Net]) -> None:
    """Changes keys of the section `sampling`, converting each value to the type of the old one.

    Args:
      config: the model's config, changed in place.
      changes: new values by key, such as {"sampler": "ddim", "steps": "25"}.
      nets: the nets of the model's state. If there is no average of the weights, progress="ema"
        becomes "raw", since progress can only be shown for weights that are sampled from.

    Raises UserError for a key that the section does not have, for a value that cannot be converted
    or is not accepted, and for a key that the chosen sampler does not read.
    """
    for name, value in changes.items():
        if name not in config.sampling:
            accepted = ", ".join(config.sampling)
            raise UserError(f"config.sampling has no {name!r}; accepted are {accepted}")
        if name == "progress" and value == "ema" and not ema.has_average(nets["unet"]):
            value = "raw"
        wanted = type(config.sampling[name])
        try:
            config.sampling[name] = wanted(value)
        except ValueError:
            raise UserError(
                f"config.sampling.{name}={value!r}: must be of type {wanted.__name__}"
            ) from None
    how = settings(config)
    unread = how.unread(config.diffusion.process)
    for name in changes:
        if name in unread:
            raise UserError(
                f"config.sampling.{name}={config.sampling[name]!r}: changes nothing with "
                f"sampler={how.sampler}, it is for {unread[name]}"
            )


def is_guided(config: Any) -> bool:
    """Whether a classifier guides the model."""
    return bool(config.classifier.scale)


def knows_classes(config: Any) -> bool:
    """Whether the U-Net itself was trained with classes; otherwise the guide's classes count."""
    return config.model.class_cond


def guide(config: Any, theirs: Any, source: str, scale: float) -> None:
    """Makes a noisy classifier guide the model. Changes `config` in place.

    Args:
      config: the model's config.
      theirs: the classifier's config; see `check_guide`.
      source: where the classifier's weights are, a folder or a file.
      scale: the factor of its gradient, above 0.
    """
    config.classifier.update(theirs.model, scale=float(scale))
    config.restore.classifier = (source, "*")


def rescale_guide(config: Any, scale: float) -> None:
    """Changes the scale, above 0, of the gradient of the classifier that guides the model already.
    In place."""
    config.classifier.scale = float(scale)


def check_guide(key: str, theirs: Any, known: Facts, config: Any, facts: Facts) -> None:
    """Raises a UserError that begins with `key` if a network cannot guide the model.

    It cannot if it belongs to another system, or was trained on clean images, on images of another
    kind, or with other noise. `theirs` and `known` are its config and facts, `config` and `facts`
    those of the model.
    """
    if theirs.system != "noisy_classifier":
        raise UserError(f"{key} is of config.system={theirs.system!r}: name a noisy_classifier")
    if not theirs.noised:
        raise UserError(f"{key} was trained on clean images (config.noised=False); it cannot guide")
    for name in ("resolution", "channels"):
        found, wanted = getattr(known, name), getattr(facts, name)
        if found != wanted:
            raise UserError(f"{key} has learnt images of {name} {found}, the model of {wanted}")
    for name in ("steps", "schedule", "rescale_timesteps"):
        if theirs.discrete[name] != config.discrete[name]:
            raise UserError(
                f"{key} has learnt another noise: its config.discrete.{name} is "
                f"{theirs.discrete[name]!r}, the model's {config.discrete[name]!r}"
            )
