"""Trains, or continues a run that was stopped.

python launch.py --config=configs/dcgan_mnist.py --workdir=runs/a --config.optim.gen.lr=1e-4
python launch.py --config=configs/dcgan_mnist.py --workdir=runs/b --budget=1h
"""

from gan_jax.errors import STOPPED, UserError
from gan_jax.modes import BEGAN, flags, streams

FLAGS = flags.FlagValues()
DRY_RUN = flags.switch(
    FLAGS, "dry_run", False, "Print config, parameters, stages and bytes, and exit."
)
COMPILE = flags.switch(
    FLAGS, "compile", False, "With --dry_run: also XLA's memory analysis of a step."
)
BUDGET = flags.string(
    FLAGS,
    "budget",
    "",
    "Shorten the recipe so that training ends within a time, such as 30m, 1.5h or 2d.",
)
# flags of other modes that people look for here, and what training has instead
INSTEAD = {
    "data": "--config.data.path names the data",
    "steps": "--config.run.steps is the length of training",
    "seed": "--config.seed is the seed of all random numbers",
} | dict.fromkeys(
    ("sampler", "eta", "guidance", "sampling", "classifier", "classifier_scale"),
    "config.sampling says how images are sampled",
)


def starts_run() -> bool:
    """Whether the command trains, and so needs a folder for the run."""
    return not DRY_RUN.value


def main(config, workdir: str) -> int:
    """Trains in `workdir`. Returns 0, or STOPPED if a signal stopped the run."""
    if config is None:
        raise UserError(
            "--config is missing: name an experiment, such as dcgan_mnist; --mode=list shows them"
        )
    if DRY_RUN.value:
        if BUDGET.value:
            raise UserError("--budget tries a few steps, and --dry_run makes none: leave out one")
        from gan_jax.run.dry_run import dry_run

        dry_run(config, COMPILE.value)
        return 0
    from gan_jax import training
    from gan_jax.core import console, preemption

    streams.lose_lines()  # they are in log.txt, and a run is worth more
    with preemption.whole_process(STOPPED), console.counted_from(BEGAN):
        summary = training.train(config, workdir, BUDGET.value)
    return STOPPED if summary["reason"] == "terminated" else 0
