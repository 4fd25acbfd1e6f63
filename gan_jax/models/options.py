"""Options of a config's section that the network chosen there does not have."""

from collections.abc import Collection, Mapping
from typing import Any

from gan_jax.errors import UserError


def unused(section: Mapping, usual: Mapping, has: Collection[str]) -> dict[str, Any]:
    """The options that ask for something the network does not have, with their usual values.

    Args:
      section: what a config says, by option; "name" names the network and is left out.
      usual: the section's defaults. A value that equals its default asks for nothing.
      has: the options of the network.
    """
    return {
        option: value
        for option, value in usual.items()
        if option != "name" and option not in has and section[option] != value
    }


def refuse(key: str, network: str, options: Collection[str], has: Collection[str]) -> None:
    """Raises UserError where there are `options` at all, which `network` does not have.

    `key` is the section's full name, such as "config.model.gen".
    """
    for option in options:
        raise UserError(f"{key}.{option}: {network!r} has no such option; it has {', '.join(has)}")
