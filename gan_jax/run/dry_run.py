"""`launch.py --dry_run`: the sizes and lengths that follow from a config, before any training."""

import json
import logging

import jax
import numpy as np
from clu import parameter_overview
from ml_collections import ConfigDict

from gan_jax import config as configs
from gan_jax.core.saved_states import named
from gan_jax.core.train_step import TrainCarry, train_function
from gan_jax.run.experiment import Experiment

logger = logging.getLogger(__name__)

XLA_SIZES = ("argument", "output", "temp", "alias", "generated_code")


def dry_run(config: ConfigDict, compile_step: bool = False) -> dict:
    """Logs the resolved config, parameter tables, stages and the exact bytes of the state.

    With `compile_step` it also logs XLA's own estimate of the memory of one training step.
    Returns {"bytes": {name of the net, or "state": bytes}}, with `compile_step` also {"xla": {kind:
    bytes}}.
    """
    logger.info(json.dumps(configs.plain(config), indent=2))
    experiment = Experiment(config)
    logger.info(f"data: {experiment.data.description}")
    state = experiment.carry.state
    for name, net in state.nets.items():
        table = parameter_overview.get_parameter_overview(net.params, include_stats=False)
        logger.info(f"\n{name}\n{table}\n{_layers(net.params)}")
    for index, stage in enumerate(experiment.system.stages):
        epochs = stage.steps / experiment.data.epoch_steps(stage)
        logger.info(
            f"stage {index}: {stage.resolution} px, {stage.batch_size} images per step, "
            f"steps {stage.start} to {stage.end} ({epochs:.2f} epochs)"
        )
    report = {"bytes": {"state": _size(state), **{k: _size(net) for k, net in state.nets.items()}}}
    logger.info(f"bytes: {_listed(report['bytes'])}")
    if compile_step:
        report["xla"] = _step_memory(experiment)
        logger.info(f"XLA bytes per device for one step: {_listed(report['xla'])}")
    return report


def _size(tree) -> int:
    """Bytes of all arrays of a tree."""
    return sum(int(np.prod(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree))


def _listed(sizes: dict[str, int]) -> str:
    return ", ".join(f"{name} {size:,}" for name, size in sizes.items())


def _step_memory(experiment: Experiment) -> dict[str, int]:
    """Bytes per device of a step of the last stage, which is the largest, as XLA compiles it."""
    train = train_function(experiment.system, experiment.mesh)
    stage, shapes = experiment.last, TrainCarry(**experiment.shapes())
    batch = {
        name: jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=experiment.mesh.split)
        for name, array in experiment.batch(stage).items()
    }
    memory = train.lower(shapes, batch, experiment.key, stage).compile().memory_analysis()
    return {name: int(getattr(memory, f"{name}_size_in_bytes")) for name in XLA_SIZES}


def _layers(params) -> str:
    """Parameters by layer, kernel and bias together: one line each."""
    counts: dict[str, int] = {}
    for path, leaf in named(params).items():
        layer = path.rpartition("/")[0]
        counts[layer] = counts.get(layer, 0) + int(np.prod(leaf.shape))
    width = max(map(len, counts), default=0)
    return "\n".join(f"  {layer:<{width}}  {count:>12,}" for layer, count in counts.items())
