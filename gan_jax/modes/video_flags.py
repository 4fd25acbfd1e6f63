"""The flags of modes that make videos."""

from gan_jax.modes.flags import FlagHolder, FlagValues, number


def seconds(own: FlagValues) -> FlagHolder[float]:
    """--seconds: how long the video is."""
    return number(own, "seconds", 10.0, "Length of the video in seconds.")


def fps(own: FlagValues) -> FlagHolder[float]:
    """--fps: how many frames it has."""
    return number(own, "fps", 30.0, "Frames per second: at most 90, and at most 50 in a .gif.")
