"""Measures a saved state: validation losses and the quality of its images.

python launch.py --mode=evaluate --workdir=runs/a --state=best
python launch.py --mode=evaluate --workdir=runs/a --config=configs/dcgan_cifar10.py
"""

from gan_jax.modes import flags

FLAGS = flags.FlagValues()
STATE = flags.state(FLAGS)
DATA = flags.data(FLAGS)
SAMPLING = flags.Sampling(FLAGS)


def main(config, workdir: str) -> int:
    """Logs the scores and writes evaluate.json; `config`, if given, says what is measured."""
    from gan_jax import evaluating

    places = flags.data_places(DATA.value, workdir)
    adjust = SAMPLING.adjust()
    flags.need_workdir(workdir, "evaluate")
    evaluating.evaluate(workdir, STATE.value, config, adjust, places)
    return 0
