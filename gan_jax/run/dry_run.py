"""`launch.py --dry_run`: the sizes and lengths that follow from a config, before any training."""

import json
import logging

import numpy as np
from clu import parameter_overview
from ml_collections import ConfigDict

from gan_jax import config as configs
from gan_jax.core.console import brief
from gan_jax.core.saved_states import named
from gan_jax.core.system import Stage
from gan_jax.run import described_data, disk_use, step_memory
from gan_jax.run import topology as topologies
from gan_jax.run.disk_use import rounds
from gan_jax.run.experiment import Experiment

logger = logging.getLogger(__name__)

XLA_SIZES = ("argument", "output", "temp", "alias", "generated_code")


def dry_run(config: ConfigDict, compile_step: bool = False) -> dict:
    """Logs the resolved config, parameter tables, stages, the exact bytes of the state, the space
    that the run will take on the disk, and what takes time in it.

    With `compile_step` it also logs XLA's own estimate of the memory of one training step.
    Returns {"bytes": {name of the net, or "state": bytes}}, with `compile_step` also {"xla": {kind:
    bytes}}.
    """
    logger.info(json.dumps(configs.plain(config), indent=2))
    logger.info("reading the data, and working out the shapes of the networks")
    experiment = Experiment(config)
    logger.info(f"data: {experiment.data.description}")
    state = experiment.carry.state
    for name, net in state.nets.items():
        table = parameter_overview.get_parameter_overview(net.params, include_stats=False)
        logger.info(f"\n{name}\n{table}\n{_layers(net.params)}")
    for index, stage in enumerate(experiment.system.stages):
        logger.info(
            f"stage {index}: {stage.resolution} px, {stage.batch_size} images per step, "
            f"steps {stage.start:,} to {stage.end:,} ({_epochs(experiment, stage)})"
        )
    for notice in experiment.system.notices:
        logger.info(notice)
    nets = {name: disk_use.size(net) for name, net in state.nets.items()}
    report = {"bytes": {"state": disk_use.size(state), **nets}}
    logger.info(f"bytes: {_listed(report['bytes'])}")
    logger.info(disk_use.of(experiment).line())
    logger.info(_time(experiment))
    if compile_step:
        logger.info("compiling one training step, which may take minutes")
        report["xla"] = _step_memory(experiment)
        logger.info(f"XLA bytes per device for one step: {_listed(report['xla'])}")
    return report


def forecast(config: ConfigDict, topology: str, facts: str = "") -> step_memory.Forecast:
    """Logs what a training step takes of the memory of devices that need not be here, whether that
    fits, and if not, what would make it fit. Neither data nor devices are opened.

    Args:
      topology: the devices, see `topology.parse`.
      facts: what the config does not say about the data, see `described_data.facts`.

    Returns what was found out for the config as it is.
    """
    where, data = topologies.parse(topology), described_data.facts(config, facts)
    experiment = step_memory.described(config, where, data)
    last, devices = experiment.last, experiment.mesh.size
    logger.info(f"devices: {where.name}, {where.shown}")
    logger.info(
        f"step: the last stage, {last.resolution} px, {last.batch_size} images, "
        f"{last.batch_size // devices} of them on each device"
    )
    logger.info("counting the memory of a training step, which may take a minute")
    found = step_memory.counted(experiment, where)
    logger.info(f"memory: {found.line()}, {step_memory.verdict(found, where)}")
    if exact := step_memory.compiled(experiment, where):
        logger.info(f"memory: {exact.line()}, {step_memory.verdict(exact, where)}")
    if not step_memory.fits(exact or found, where):
        for line in step_memory.advice(config, where, data, found):
            logger.info(line)
    return exact or found


def _epochs(experiment: Experiment, stage: Stage) -> str:
    """How often a stage goes through the training data: "about 66,667 epochs of 238 images"."""
    epochs = stage.steps / experiment.data.epoch_steps(stage)
    what = "identities" if experiment.data.identity_names else "images"
    return f"about {brief(epochs)} epochs of {experiment.data.sizes['train']:,} {what}"


def _time(experiment: Experiment) -> str:
    """A line on what takes time in the run, and on how to learn how long it takes."""
    run, asked = experiment.config.run, experiment.config.quality
    spent = [f"{experiment.last.end:,} training steps"]
    if disk_use.validates(experiment):
        spent.append(f"{rounds(experiment, 'eval_every'):,} validations")
    if experiment.measures_quality:
        spent.append(
            f"{rounds(experiment, 'quality_every'):,} measurements of {', '.join(asked.metrics)} "
            f"on {asked.samples:,} images"
        )
    if experiment.system.sample_step is not None:
        spent.append(f"{rounds(experiment, 'sample_every'):,} grids of {run.sample_count} images")
    return (
        f"time: goes into {', '.join(spent)}; the first steps of the run will tell how long it "
        "takes"
    )


def _listed(sizes: dict[str, int]) -> str:
    return ", ".join(f"{name} {size:,}" for name, size in sizes.items())


def _step_memory(experiment: Experiment) -> dict[str, int]:
    """Bytes per device of a step of the last stage, which is the largest, as XLA compiles it."""
    memory = experiment.lowered_step(experiment.last).compile().memory_analysis()
    return {name: int(getattr(memory, f"{name}_size_in_bytes")) for name in XLA_SIZES}


def _layers(params) -> str:
    """Parameters by layer, kernel and bias together: one line each."""
    counts: dict[str, int] = {}
    for path, leaf in named(params).items():
        layer = path.rpartition("/")[0]
        counts[layer] = counts.get(layer, 0) + int(np.prod(leaf.shape))
    width = max(map(len, counts), default=0)
    return "\n".join(f"  {layer:<{width}}  {count:>12,}" for layer, count in counts.items())
