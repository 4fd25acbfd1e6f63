"""What a system needs to know about data that are not here: from the config, and from --facts."""

from ml_collections import ConfigDict

from gan_jax.core.system import Facts
from gan_jax.data import config as config_data
from gan_jax.data import pairs
from gan_jax.errors import ArgumentError, near_miss

KNOWN = ("images", "classes", "channels")  # that --facts may say


def facts(config: ConfigDict, text: str = "") -> Facts:
    """The `Facts` of the data that a prepared config describes, without a look at them.

    `text` is what the config cannot say, such as "classes=1000,images=1281167". Without a number of
    images there is one, so lengths in epochs are not those of the run. Raises ArgumentError for a
    text that cannot be read, and where it lacks a number that the config does not say.
    """
    said, options = _read(text), config_data.read(config.data)
    channels = {"grey": 1, "rgb": 3}.get(options.channels) or said.get("channels")
    if channels is None and options.source in ("digits", "synthetic", "idx"):
        channels = 1
    if channels is None and options.source == "drawn_faces":
        channels = 3
    classes = said.get("classes", _classes(options))
    for name, value in {"channels": channels, "classes": classes}.items():
        if value is None:
            raise ArgumentError(
                "facts",
                f": the data are not read, and the config does not say how many {name} they have; "
                f"add --facts={name}=NUMBER",
            )
    return Facts(
        options.resolution,
        channels,
        classes,
        said.get("images", 1),
        input_channels=pairs.channels(options, channels),
    )


def _read(text: str) -> dict[str, int]:
    found = {}
    for part in filter(None, text.replace(" ", "").split(",")):
        name, _, value = part.partition("=")
        if name not in KNOWN:
            raise ArgumentError(
                "facts", f": {name!r} is none of {', '.join(KNOWN)}{near_miss(name, KNOWN)}"
            )
        if not value.isdecimal() or (name != "classes" and int(value) < 1):
            raise ArgumentError("facts", f": {part!r}: write a whole number, as in {name}=1000")
        found[name] = int(value)
    return found


def _classes(options: config_data.Options) -> int | None:
    """The number of classes; None where only the data say it."""
    if options.pairs == "identities":
        return options.identities if options.source == "drawn_faces" else None
    if options.labels == "none" or options.pairs not in ("none", *pairs.LABELLED):
        return 0
    return {"digits": 10, "synthetic": options.synthetic_classes}.get(options.source)
