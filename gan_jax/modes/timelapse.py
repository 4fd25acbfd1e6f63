"""Makes a video of a run's training from the sample grids that it wrote.

python launch.py --mode=timelapse --workdir=runs/a
python launch.py --mode=timelapse --workdir=runs/a --seconds=30 --time_warp=1
"""

from gan_jax.modes import flags, video_flags

FLAGS = flags.FlagValues()
ALONE = True
OUT = flags.out(
    FLAGS, "A .webp, .gif or .mp4 file, or a folder for a .webp; empty: the run's folder."
)
SECONDS = video_flags.seconds(FLAGS)
FPS = video_flags.fps(FLAGS)
TIME_WARP = flags.number(
    FLAGS,
    "time_warp",
    1.5,
    "Progress in training is time to this power; above 1 the beginning gets more time.",
)
WEIGHTS = flags.weights(FLAGS)
RENAMED = {"warp": "time_warp"}


def main(config, workdir: str) -> int:
    """Puts the grids one after the other and writes the video."""
    from gan_jax.modes.actions import timelapse

    flags.need_workdir(workdir, "timelapse")
    timelapse.timelapse(
        workdir,
        OUT.value or workdir,
        SECONDS.value,
        FPS.value,
        TIME_WARP.value,
        WEIGHTS.value,
    )
    return 0
