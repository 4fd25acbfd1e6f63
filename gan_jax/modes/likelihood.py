"""Measures the bits per dimension of images under a diffusion model.

python launch.py --mode=likelihood --workdir=runs/d
python launch.py --mode=likelihood --workdir=runs/d --steps= --count=1000
"""

import os

from gan_jax.modes import flags

FLAGS = flags.FlagValues()
OUT = flags.out(FLAGS, "Folder for the files; empty: likelihood/ in the run's folder.")
STATE = flags.state(FLAGS)
COUNT = flags.count(FLAGS, "At most this many images; 0: all.")
DATA = flags.data(FLAGS)
SAMPLING = flags.Sampling(FLAGS)


def main(config, workdir: str) -> int:
    """Scores the images and writes the bound; an imported run is scored on the data of `config`."""
    from gan_jax.modes.actions import likelihood
    from gan_jax.modes.actions.model_choice import ModelChoice

    places = flags.data_places(DATA.value, workdir)
    adjust = SAMPLING.adjust()
    flags.need_workdir(workdir, "likelihood")
    likelihood.run(
        ModelChoice(workdir, STATE.value, config, adjust, places),
        OUT.value or os.path.join(workdir, "likelihood"),
        COUNT.value,
    )
    return 0
