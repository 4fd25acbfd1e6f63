"""Options in a section of the config that the chosen network does not have."""

from collections.abc import Collection, Mapping
from typing import Any

from gan_jax.errors import UserError


def unused(section: Mapping, usual: Mapping, has: Collection[str]) -> dict[str, Any]:
    """{option: default value} of the options that are set although the network does not have them.

    Args:
      section: the section of a config; "name" names the network and is left out.
      usual: the section's defaults. An option with its default value does not count as set.
      has: the options of the network.
    """
    return {
        option: value
        for option, value in usual.items()
        if option != "name" and option not in has and section[option] != value
    }


def refuse(key: str, network: str, options: Collection[str], has: Collection[str]) -> None:
    """Raises UserError if there are any `options`, which `network` does not have.

    `key` is the section's full name, such as "config.model.gen".
    """
    for option in options:
        raise UserError(f"{key}.{option}: {network!r} has no such option; it has {', '.join(has)}")
