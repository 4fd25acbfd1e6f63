"""Sampling images from a state: a seed gives the same image in any batch, on any devices."""

from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np

from gan_jax.core import ema
from gan_jax.core.mesh import Mesh, gather
from gan_jax.core.precompile import Program
from gan_jax.core.system import Array, Batch, Images, Stage, TrainState
from gan_jax.errors import is_full_memory

Step = Callable[[TrainState, Batch, Array, Stage], Images]
ToUint8 = Callable[[Array], Array]  # [-1, 1] → uint8


class Sampler:
    """Jitted sampling in chunks of one size, so that it compiles once.

    Args:
      step: a system's `sample_step`, or a task like it.
      mesh: chunks are split over its devices.
      to_uint8: images in [-1, 1] to uint8.
      chunk: images per call; rounded up to a multiple of the devices.
      compiler_options: options of XLA by name.
      small: images per call from the first time on that the memory is too small for a chunk; 0:
        there is no smaller one.
    """

    def __init__(
        self,
        step: Step,
        mesh: Mesh,
        to_uint8: ToUint8,
        chunk: int = 64,
        compiler_options: Mapping[str, str] | None = None,
        small: int = 0,
    ):
        self.mesh = mesh
        self.chunk, self._small = (-(-n // mesh.size) * mesh.size for n in (chunk, small))
        # a constant: the same seed means the same latents in every run
        self.key = mesh.copy(jax.random.key(0))

        def draw(state: TrainState, batch: Batch, key: Array, stage: Stage, names: tuple[str, ...]):
            with mesh.splitting(), ema.only(names):
                made = step(state, batch, key, stage)
            return {n: to_uint8(v) for n, v in made.items() if not names or n in names}

        jitted = jax.jit(
            draw,
            static_argnums=(3, 4),
            out_shardings=mesh.split,
            compiler_options=compiler_options,
        )
        self.draw, self.program = draw, Program(jitted, arrays=3)

    def __call__(
        self,
        state: TrainState,
        batch: Batch,
        stage: Stage,
        names: Sequence[str] = (),
        done: Callable[[int], None] = lambda count: None,
    ) -> dict[str, np.ndarray]:
        """Images uint8 [N, H, W, C] by name, for a batch of arrays [N, …] with at least `seed`.

        `names` limits which of the system's images are made ("raw", "ema"); () makes all. `done` is
        called after every chunk with the number of images so far.
        """
        count, start = len(batch["seed"]), 0
        parts: list[dict[str, np.ndarray]] = []
        while start < count:
            try:
                made = self._made(state, batch, stage, tuple(names), start)
            except jax.errors.JaxRuntimeError as error:
                if not (is_full_memory(error) and self._may_shrink()):
                    raise
                self.chunk = self._small
                self.program.forget(lambda stage: False)  # they are for larger chunks
                continue
            parts.append(made)
            start += self.chunk
            done(min(start, count))
        return {k: np.concatenate([p[k] for p in parts])[:count] for k in parts[0]}

    def _made(
        self, state: TrainState, batch: Batch, stage: Stage, names: tuple[str, ...], start: int
    ) -> dict[str, np.ndarray]:
        """The images of one chunk, from row `start` of a batch on."""
        end = start + self.chunk
        part = {k: _filled(np.asarray(v)[start:end], self.chunk) for k, v in batch.items()}
        made = self.program(state, self._spread(part), self.key, stage, names)
        return {k: gather(v) for k, v in made.items()}

    def _may_shrink(self) -> bool:
        """Whether there are smaller chunks; not where other processes would not take part."""
        return 0 < self._small < self.chunk and jax.process_count() == 1

    def names(self, state: TrainState, batch: Batch, stage: Stage) -> tuple[str, ...]:
        """The names of the images that this system makes, such as "ema", without making any."""

        def draw(state: TrainState, batch: Batch) -> Images:
            return self.draw(state, batch, self.key, stage, ())

        return tuple(jax.eval_shape(draw, state, self._shapes(batch)))

    def prepare(
        self, state: TrainState, batch: Batch, stage: Stage, names: Sequence[str] = ()
    ) -> None:
        """Compiles for a stage. Only the shapes of `state` and of the arrays in `batch` matter."""
        self.program.prepare(state, self._shapes(batch), self.key, stage, tuple(names))

    def _shapes(self, batch: Batch) -> dict[str, jax.ShapeDtypeStruct]:
        arrays = {k: np.asarray(v) for k, v in batch.items()}
        return {k: self.mesh.rows(self.chunk, v.shape[1:], v.dtype) for k, v in arrays.items()}

    def _spread(self, batch: Batch) -> Batch:
        """Rows of which every process holds all, split over the devices."""
        return {
            k: jax.make_array_from_callback(v.shape, self.mesh.split, lambda index, v=v: v[index])
            for k, v in batch.items()
        }


def _filled(rows: np.ndarray, size: int) -> np.ndarray:
    """Rows [n, …] padded to `size` rows by repeating the last one."""
    return np.concatenate([rows, np.repeat(rows[-1:], size - len(rows), axis=0)])
