"""Draws caricatures of photos with a WarpGAN, in several styles and scales of the warp.

python launch.py --mode=caricature --workdir=runs/w --input=DIR --scale=0,0.5,1,2 --out=DIR
python launch.py --mode=caricature --workdir=runs/w --input=me.jpg --detector=WEIGHTS
"""

import os

from gan_jax.errors import UserError
from gan_jax.modes import face_flags, flags

FLAGS = flags.FlagValues()
INPUT = flags.images(FLAGS, "The photos: one image, a folder or a .zip.")
OUT = flags.out(FLAGS, "Folder for the files; empty: caricatures/ in the run's folder.")
NUM_STYLES = flags.integer(FLAGS, "num_styles", 5, "How many random styles each photo gets.")
SCALE = flags.string(
    FLAGS, "scale", "1", "Factors of the warp, such as 0,0.5,1,2; 0: texture only."
)
STYLE_FROM = flags.place(FLAGS, "style_from", "", "An image whose style is used as well.")
STYLE_SEED = flags.integer(
    FLAGS, "style_seed", 2020, "Seed of the first random style; the others have the next ones."
)
LANDMARKS = face_flags.landmarks(FLAGS)
DETECTOR = face_flags.detector(FLAGS)
FACES = face_flags.faces(FLAGS)
FREE_SIZE = flags.switch(FLAGS, "free_size", False, "Accept aligned faces of any size.")
STATE = flags.state(FLAGS)
RENAMED = {"seed": "style_seed"}
PARAMETERS = {"source": "input"}


def main(config, workdir: str) -> int:
    """Draws every photo in every style at every scale."""
    from gan_jax.modes.actions import caricature

    flags.need_workdir(workdir, "caricature")
    caricature.run(
        workdir,
        INPUT.value,
        OUT.value or os.path.join(workdir, "caricatures"),
        caricature.Styles(
            NUM_STYLES.value, factors(SCALE.value), STYLE_FROM.value, STYLE_SEED.value
        ),
        caricature.Alignment(LANDMARKS.value, DETECTOR.value, FACES.value, FREE_SIZE.value),
        STATE.value,
    )
    return 0


def factors(text: str) -> tuple[float, ...]:
    """The numbers of a list separated by commas; UserError for anything else."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UserError(
            f"--scale={text}: give numbers separated by commas, such as 0,0.5,1,2"
        ) from None
