"""The config of a run of a tiny dense GAN that logs, draws and saves at every step."""

from ml_collections import ConfigDict

from tests.helpers import contract


def config(steps: int, **run) -> ConfigDict:
    """A run of so many steps; `run` are values of config.run."""
    made = contract.load("mlpgan_mnist")
    made.run.update(steps=str(steps), devices=1, sample_every="1", eval_every="0", **run)
    made.run.quality_every = "0"
    made.run.update(save_every="1", log_every="1")
    return made
