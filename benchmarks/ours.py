"""gan_jax's own training step, compiled and called as the loop does, for the benchmarks."""

from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

import flax.linen as nn
import jax
import numpy as np

from benchmarks import timing
from benchmarks.cases import stage_of
from gan_jax import backend
from gan_jax.core import train_step
from gan_jax.core.system import Stage
from gan_jax.run.experiment import Experiment


def random_batch(experiment: Experiment, stage: Stage) -> dict[str, np.ndarray]:
    """A batch of noise with the shapes of the stage: uint8 images, and classes int32 [B]."""
    random, classes = np.random.default_rng(0), max(experiment.facts.num_classes, 1)
    return {
        name: random.integers(0, classes if zeros.ndim == 1 else 256, zeros.shape).astype(
            zeros.dtype
        )
        for name, zeros in experiment.batch(stage).items()
    }


def without_dropout() -> AbstractContextManager[Any]:
    """In this block networks are traced without dropout, whose masks no other program can draw."""
    return mock.patch.object(nn.Dropout, "__call__", lambda self, x, *rest, **named: x)


class Ours:
    """A system's training step at the stage that is measured, metrics included, with its state.

    No weight is zero, so that every layer contributes to the result. `batch` is trained on again
    and again; it lies on the devices.
    """

    def __init__(self, experiment: Experiment, noise: float = 0.02):
        """`noise`: the standard deviation of what is added to the first weights."""
        stage = stage_of(experiment)
        self.experiment, self.stage = experiment, stage
        self.pixels = random_batch(experiment, stage)
        self.batch = experiment.mesh.put(self.pixels)
        self.train = train_step.train_function(experiment.system, experiment.mesh)
        self.carry = _filled(experiment, stage, noise)

    @property
    def images(self) -> int:
        """Images of a step."""
        return self.stage.batch_size

    def weights(self, net: str) -> dict[str, Any]:
        """The parameters of a network, on the host."""
        return jax.device_get(self.carry.state.nets[net].params)

    def statistics(self, net: str) -> dict[str, Any]:
        """The batch statistics and the like of a network by name of the layer, on the host."""
        return jax.device_get(self.carry.state.nets[net].stats).get("batch_stats", {})

    def compile(self) -> jax.stages.Compiled:
        """The compiled step: (carry, batch, key) → (carry, metrics)."""
        arguments = self.carry, self.batch, self.experiment.key, self.stage
        self.program = self.train.lower(*arguments).compile()
        return self.program

    def step(self) -> dict[str, jax.Array]:
        """One step of the compiled program, which may still compute when this returns."""
        self.carry, metrics = self.program(self.carry, self.batch, self.experiment.key)
        return metrics

    def learn(self, batch: dict[str, np.ndarray]) -> dict[str, float]:
        """One step on a batch of any entries, compiled for it: its metrics."""
        batch = self.experiment.mesh.put({**self.pixels, **batch})
        self.carry, metrics = self.train(self.carry, batch, self.experiment.key, self.stage)
        return {name: float(value) for name, value in metrics.items()}


def _filled(experiment: Experiment, stage: Stage, noise: float) -> train_step.TrainCarry:
    """The `TrainCarry` at the start of the stage, with noise on all weights."""
    carry, random = experiment.fresh(), np.random.default_rng(0)

    def stirred(leaf: jax.Array) -> np.ndarray:
        found = np.asarray(leaf)
        return found + random.normal(0, noise, found.shape).astype(found.dtype)

    nets = {
        name: net.replace(params=experiment.mesh.lay(jax.tree.map(stirred, net.params)))
        for name, net in carry.state.nets.items()
    }
    begun = experiment.mesh.copy(np.int32(stage.start))
    return carry._replace(state=carry.state.replace(nets=nets, step=begun))


def ready(step: Ours) -> timing.Contender:
    """A compiled step as a contender; training waits for its metrics now and then."""
    return timing.Contender(step.step, jax.block_until_ready)


def operations(step: Ours) -> float:
    """Floating point operations of a step, as XLA counts them before it compiles; 0 where it does
    not."""
    with backend.plain_programs():  # XLA counts only what it computes itself
        costs = step.experiment.lowered_step(step.stage).cost_analysis() or {}
    return float(costs.get("flops", 0.0))


def memory(program: jax.stages.Compiled) -> int:
    """Bytes that a compiled program needs at most: arguments, results and what it keeps between
    them; 0 where the backend does not say."""
    found = program.memory_analysis()
    if found is None:
        return 0
    kept = found.argument_size_in_bytes + found.output_size_in_bytes + found.temp_size_in_bytes
    return int(kept - found.alias_size_in_bytes)
