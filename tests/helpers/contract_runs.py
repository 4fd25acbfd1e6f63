"""A tiny config with its system on one device and on eight, as the tests of the contract run it."""

import jax
import numpy as np

from gan_jax.core import train_step
from gan_jax.core.mesh import fetch
from gan_jax.run.experiment import Experiment
from tests.helpers import contract
from tests.helpers.trees import stirred


class Prepared:
    """A program of the contract: its experiments by number of devices, and three batches."""

    def __init__(self, program: str):
        config = contract.load(program)
        # Adam turns the rounding of a zero gradient into a full step unless eps is large
        for section in config.optim.values():
            section.eps = 1e-3
        self.program, self.config = program, config
        config.run.devices = 1
        self.experiment = Experiment(config)
        wide = config.copy_and_resolve_references()
        wide.run.devices = 8
        self.experiments = {1: self.experiment, 8: Experiment(wide, self.experiment.facts)}
        # the carry at step 0 on the host, made in single precision whatever a test computes in
        self.saved = fetch(self.experiment.fresh())
        self.steps, self.firsts, self.seconds = {}, {}, {}
        self.stage = self.experiment.system.stages[0]
        batches = self.experiment.data("train", self.stage, 0)
        self.batches = [batch for _, batch in zip(range(3), batches, strict=False)]

    @property
    def exact(self) -> bool:
        """Whether doubles make a difference."""
        return contract.is_exact(self.program)

    @property
    def double(self) -> bool:
        """Whether steps on one device are made in doubles, as their comparison with eight is."""
        return self.exact and self.program not in contract.FLOAT32

    def straight(self, double: bool):
        """The carry on one device and the metrics after two steps, made in one go."""
        return self._train(1, 2, self.initial(1, double), double)

    def first(self, devices: int, double: bool):
        """The carry, fetched to the host, and the metrics after the first step; made once."""
        if (devices, double) not in self.firsts:
            carry, metrics = self._train(devices, 1, self.initial(devices, double), double)
            self.firsts[devices, double] = fetch(carry), metrics
        return self.firsts[devices, double]

    def second(self, devices: int, double: bool):
        """The carry, fetched, after the second step from the carry of `first`; made once."""
        if (devices, double) not in self.seconds:
            with jax.enable_x64(double):
                saved = jax.tree.map(np.array, self.first(devices, double)[0])
                carry = self.experiments[devices].mesh.copy(saved)
            self.seconds[devices, double] = fetch(self._train(devices, 1, carry, double)[0])
        return self.seconds[devices, double]

    def compiled(self, devices: int) -> jax.stages.Compiled:
        """The compiled step in doubles: that of `first`, if it has been made."""
        experiment = self.experiments[devices]
        with jax.enable_x64(True):
            carry, batch = self.initial(devices, True), experiment.mesh.put(self._doubles(0))
            step = self.step(devices, True)
            return step.lower(carry, batch, experiment.key, self.stage).compile()

    def _doubles(self, index: int) -> dict[str, np.ndarray]:
        """A batch whose pixels are doubles too: to_unit would make float32 of integers."""
        batch = self.batches[index]
        return batch | {k: v.astype(np.float64) for k, v in batch.items() if v.dtype == np.uint8}

    def _train(self, devices: int, steps: int, carry, double: bool):
        """The carry and metrics after `steps` more steps; `carry` is donated, as is `given`, which
        the last of them got."""
        experiment = self.experiments[devices]
        with jax.enable_x64(double):
            begin = int(carry.state.step)
            step = self.step(devices, double)
            for index in range(begin, begin + steps):
                batch = self._doubles(index) if double else self.batches[index]
                self.given = carry
                carry, metrics = step(carry, experiment.mesh.put(batch), experiment.key, self.stage)
            return carry, fetch(metrics)

    def initial(self, devices: int = 1, double: bool = False):
        """The carry at step 0 on the devices; a step donates it."""

        def cast(x):
            return np.array(x, np.float64 if double and x.dtype == np.float32 else x.dtype)

        with jax.enable_x64(double):
            return self.experiments[devices].mesh.copy(jax.tree.map(cast, self.saved))

    def stirred(self):
        """The carry at step 0 with noise on every number of the networks."""
        saved = self.saved
        nets = stirred(saved.state.nets, np.random.default_rng(0), amount=0.05)
        return self.experiment.mesh.copy(saved._replace(state=saved.state.replace(nets=nets)))

    def step(self, devices: int, double: bool):
        """The jitted step; of each precision a function of its own, so that it is traced once."""
        if (devices, double) not in self.steps:
            mesh = self.experiments[devices].mesh
            self.steps[devices, double] = train_step.train_function(self.experiment.system, mesh)
        return self.steps[devices, double]
