"""How often a run logs, samples, evaluates and saves, read from its config."""

from gan_jax.core.intervals import Every, Intervals
from gan_jax.errors import UserError, one_of
from gan_jax.run.experiment import Experiment


def intervals(experiment: Experiment) -> Intervals:
    """The intervals at which the loop logs, samples, evaluates and saves.

    Raises UserError for ticks if the system has none, and for intervals that cannot be read.
    """
    config, run = experiment.config, experiment.config.run
    ticks = any(stage.ticks for stage in experiment.system.stages)
    one_of("config.best.mode", config.best.mode, ("min", "max"))
    keys = dict(log="log", sample="sample", evaluate="eval", quality="quality", save="save")
    found = {}
    for name, key in keys.items():
        key = f"{key}_every"
        found[name] = Every.parse(run[key], f"config.run.{key}")
        if found[name].unit == "ticks" and not ticks:
            raise UserError(f"config.run.{key}: config.system={config.system} has no ticks")
    return Intervals(**found, save_minutes=run.save_minutes, patience=run.patience)


def keep_every(experiment: Experiment) -> int:
    """The interval, in steps, at which a state is kept for good; 0: none is."""
    every = Every.parse(experiment.config.run.keep_every, "config.run.keep_every")
    if every.unit == "ticks":
        raise UserError(
            f"config.run.keep_every={experiment.config.run.keep_every!r}: ticks differ in length; "
            "give steps, epochs or images"
        )
    first = experiment.system.stages[0]
    return every.steps(first, experiment.data.epoch_steps(first))
