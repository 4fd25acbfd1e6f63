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
TOPOLOGY = flags.string(
    FLAGS,
    "topology",
    "",
    "With --dry_run: the memory of a step on devices that need not be here, such as v4-32, v5e-16, "
    "8xH100 or 4xA100-40GB; no data are read.",
)
FACTS = flags.string(
    FLAGS,
    "facts",
    "",
    "With --topology: what the config does not say about the data, classes=1000,channels=3.",
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
        return _dry_run(config)
    if TOPOLOGY.value or FACTS.value:
        raise UserError("--topology and --facts go with --dry_run: nothing is trained there")
    from gan_jax import training
    from gan_jax.core import console, preemption

    streams.lose_lines()  # they are in log.txt, and a run is worth more
    with preemption.whole_process(STOPPED), console.counted_from(BEGAN):
        summary = training.train(config, workdir, BUDGET.value)
    return STOPPED if summary["reason"] == "terminated" else 0


def _dry_run(config) -> int:
    from gan_jax.run import dry_run

    if not TOPOLOGY.value:
        if FACTS.value:
            raise UserError("--facts goes with --topology: otherwise the data themselves are read")
        dry_run.dry_run(config, COMPILE.value)
    elif COMPILE.value:
        raise UserError(
            "--compile asks for this machine's compiler, --topology for other devices: leave out "
            "one; for TPUs libtpu compiles the step where it is installed"
        )
    else:
        import jax

        # nothing is computed, and the devices that are here may be those of another run
        jax.config.update("jax_platforms", "cpu")
        dry_run.forecast(config, TOPOLOGY.value, FACTS.value)
    return 0
