"""Finds the faces in photos, turns them upright and cuts them out, all in the same size.

python launch.py --mode=align --input=DIR --out=DIR --landmarks=FILE
python launch.py --mode=align --input=DIR --out=DIR --detector=WEIGHTS --faces=all
"""

from gan_jax.modes import face_flags, flags

FLAGS = flags.FlagValues()
ALONE = True
INPUT = flags.images(FLAGS, "The photos: a folder or a .zip.")
OUT = flags.out(FLAGS, "Folder for the crops.")
LANDMARKS = face_flags.landmarks(FLAGS)
DETECTOR = face_flags.detector(FLAGS)
FACES = face_flags.faces(FLAGS)
SIZE = flags.integer(FLAGS, "size", 256, "Side of the crops in pixels.")
FACE_SCALE = flags.number(
    FLAGS, "face_scale", 0.7, "Size of the face in its crop, 0.7 as in WarpGAN."
)
DEEP_BITS = flags.deep_bits(FLAGS)
PARAMETERS = {"source": "input"}


def main(config, workdir: str) -> int:
    """Aligns the faces of every photo."""
    from gan_jax.modes.actions import align

    align.run(
        INPUT.value,
        OUT.value,
        LANDMARKS.value,
        DETECTOR.value,
        SIZE.value,
        FACE_SCALE.value,
        FACES.value,
        DEEP_BITS.value,
    )
    return 0
