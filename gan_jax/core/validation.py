"""Validation losses: means over the whole validation set."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.core.mesh import Mesh, fetch
from gan_jax.core.precompile import Program
from gan_jax.core.system import Batch, Data, Scores, Stage, System, TrainState

EVALUATION = 2**31 - 1  # folded into the root key for validation


class Validator:
    """(state, stage) → {"val/<name>": mean over the validation set}.

    Every image counts once: a batch is padded where necessary, and its `valid` [B] is 0 for the
    padding. The key is the same for all batches and evaluations, and each batch holds the numbers
    of its images in the set as `seed` [B], so that random values for an image depend on its number
    alone, whatever the batch size.
    """

    def __init__(self, system: System, mesh: Mesh, data: Data, key: jax.Array):
        self.mesh, self.data, self.key = mesh, data, key

        def sums(state: TrainState, batch: Batch, root: jax.Array, index: jax.Array, stage: Stage):
            weight = batch["valid"]
            numbers = index * len(weight) + jnp.arange(len(weight), dtype=jnp.int32)
            with mesh.splitting():
                out = system.eval_step(state, {**batch, "seed": numbers}, root, stage)
            values = {n: jnp.sum(jnp.where(weight > 0, v, 0)) for n, v in out.items()}
            return values, jnp.sum(weight)

        jitted = jax.jit(sums, static_argnums=4, out_shardings=mesh.replicated)
        self.program = Program(jitted, arrays=4)

    def __call__(
        self,
        state: TrainState,
        stage: Stage,
        done: Callable[[int], None] = lambda count: None,
    ) -> Scores:
        """The losses. `done` is called after every batch with the number of images so far."""
        totals: dict[str, float] = {}
        count = 0.0
        for index, batch in enumerate(self.data("validation", stage, stage.start)):
            batch = self.mesh.put(batch)
            sums, weight = fetch(self.program(state, batch, self.key, np.int32(index), stage))
            count += float(weight)
            for name, value in sums.items():
                totals[name] = totals.get(name, 0.0) + float(value)
            done(int(count))
        return {f"val/{name}": total / max(count, 1.0) for name, total in totals.items()}

    def prepare(self, state: TrainState, batch: Batch, stage: Stage) -> None:
        """Compiles for a stage, given a state and a batch as shapes. Without a validation set it
        does nothing."""
        if next(iter(self.data("validation", stage, stage.start)), None) is not None:
            valid = self.mesh.rows(stage.batch_size, (), np.float32)
            batch = {**batch, "valid": valid}
            self.program.prepare(state, batch, self.key, np.int32(0), stage)
