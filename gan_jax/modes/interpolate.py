"""Makes a video of a grid of images whose latents move smoothly and come back to the start.

python launch.py --mode=interpolate --workdir=runs/a --seeds=0-8
python launch.py --mode=interpolate --workdir=runs/a --seconds=20 --smoothing=2 --out=walk.gif
"""

import os

from gan_jax.modes import flags, video_flags

FLAGS = flags.FlagValues()
OUT = flags.out(
    FLAGS, "A .webp, .gif or .mp4 file, or a folder for a .webp; empty: the run's folder."
)
SEEDS = flags.seeds(FLAGS, "0-8")
CLASSES = flags.classes(FLAGS)
STATE = flags.state(FLAGS)
WEIGHTS = flags.weights(FLAGS)
SECONDS = video_flags.seconds(FLAGS)
FPS = video_flags.fps(FLAGS)
SMOOTHING = flags.number(
    FLAGS,
    "smoothing",
    None,
    "Seconds over which latents are smoothed; higher is slower. Without it 1, or a sixth of "
    "--seconds if that is less.",
)
DATA = flags.data(FLAGS)
SAMPLING = flags.Sampling(FLAGS)


def main(config, workdir: str) -> int:
    """Draws the frames and writes the video."""
    from gan_jax import config as configs
    from gan_jax.modes.actions import interpolate
    from gan_jax.modes.actions.model_choice import ModelChoice
    from gan_jax.modes.actions.sample import numbers

    places = flags.data_places(DATA.value, workdir)
    adjust = SAMPLING.adjust(WEIGHTS.value)
    interpolate.interpolate(
        ModelChoice(workdir, STATE.value, config, adjust, places),
        OUT.value or os.path.join(workdir, "interpolation.webp"),
        numbers(SEEDS.value, "--seeds"),
        configs.words(CLASSES.value),
        WEIGHTS.value,
        interpolate.Motion(SECONDS.value, FPS.value, SMOOTHING.value),
    )
    return 0
