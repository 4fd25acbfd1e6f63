"""The flags of modes that find faces."""

from gan_jax.modes.flags import FlagHolder, FlagValues, place, string


def landmarks(own: FlagValues) -> FlagHolder[str]:
    """--landmarks: a file that says where the faces are."""
    return place(own, "landmarks", "", "File of lines with a path and five points x y.")


def detector(own: FlagValues) -> FlagHolder[str]:
    """--detector: the network that finds the faces."""
    return place(
        own,
        "detector",
        "",
        "Weights of MTCNN, which finds faces: a folder of .pt files or an .npz.",
    )


def faces(own: FlagValues) -> FlagHolder[str]:
    """--faces: which of several faces in one image."""
    return string(
        own, "faces", "largest", "Which of several faces in one image: largest, central or all."
    )
