"""Makes images with a trained model.

python launch.py --mode=sample --workdir=runs/a --seeds=0-63 --format=grid,png
python launch.py --mode=sample --workdir=runs/d --sampler=ddim --steps=25 --classifier=runs/c
"""

import os

from gan_jax.modes import flags

FLAGS = flags.FlagValues()
OUT = flags.out(FLAGS, "Folder for the files; empty: sampled/ in the run's folder.")
SEEDS = flags.seeds(FLAGS, "0-63")
CLASSES = flags.classes(FLAGS)
FORMAT = flags.string(FLAGS, "format", "grid", "grid, png, npz, adm, separated by commas.")
STATE = flags.state(FLAGS)
WEIGHTS = flags.weights(FLAGS)
TRUNCATION = flags.number(
    FLAGS, "truncation", 0.0, "Latents beyond ± this are sampled again; 0: no truncation."
)
STANDING = flags.integer(
    FLAGS, "standing_stats", 0, "Measure batch statistics over this many batches first."
)
DATA = flags.data(FLAGS)
SAMPLING = flags.Sampling(FLAGS)
PARAMETERS = {"formats": "format"}


def main(config, workdir: str) -> int:
    """Makes one image per seed and writes them."""
    from gan_jax import config as configs
    from gan_jax.modes.actions import sample
    from gan_jax.modes.actions.model_choice import ModelChoice

    places = flags.data_places(DATA.value, workdir)
    adjust = SAMPLING.adjust(WEIGHTS.value)
    sample.sample(
        ModelChoice(workdir, STATE.value, config, adjust, places),
        OUT.value or os.path.join(workdir, "sampled"),
        sample.numbers(SEEDS.value, "--seeds"),
        configs.words(CLASSES.value),
        configs.words(FORMAT.value),
        sample.Drawing(WEIGHTS.value, TRUNCATION.value, STANDING.value),
    )
    return 0
