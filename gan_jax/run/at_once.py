"""How many images are sampled at a time: as many as the memory of each device has room for.

A device that does not say how much memory it has, as a CPU, takes a few dozen: there more of them
are made no faster.
"""

from collections.abc import Callable

import jax

from gan_jax import backend
from gan_jax.core import ema, liveness
from gan_jax.core.system import Batch, Stage, TrainState
from gan_jax.run.experiment import MOST_IMAGES, MOST_PIXELS, Experiment

USABLE = 0.8  # of a device's memory: what is counted is not exactly what a compiler takes
MOST = 1024  # images of a call on a device: each call is waited for
PROBED = 16  # images with which a program is counted; it is counted again with twice as many
PADDING = 1 / 8  # the share of images that may be made in vain, to fill the last call


def memory() -> int:
    """Bytes that programs may take on each device; 0 if it does not say so, and with several
    processes, which have to agree and could not go back to fewer images."""
    if jax.process_count() > 1:
        return 0
    return (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit", 0)


def few(experiment: Experiment, wanted: int) -> int:
    """How many of `wanted` images are made at a time where memory is not counted, at least one."""
    pixels = experiment.facts.resolution**2
    return max(min(wanted, MOST_IMAGES, experiment.mesh.size * MOST_PIXELS // pixels), 1)


def images(
    experiment: Experiment,
    step: Callable,
    state: TrainState,
    batch: Batch,
    stage: Stage,
    wanted: int,
    room: int | None = None,
) -> int:
    """How many of `wanted` images all devices together make in a call of `step`.

    It is `few`, or a power of two for each device, if there is memory for more. The memory is
    counted for the program of one device, with two numbers of images: what it takes beside the
    images does not grow with them.

    Args:
      step: a system's sample_step or a task like it.
      state, batch: those of a call, or their shapes; the batch may have any number of rows.
      room: bytes of each device, by default those of this one.
    """
    least, room = few(experiment, wanted), memory() if room is None else room
    if wanted <= least or not room:
        return least
    one, two = (
        _counted(experiment, step, state, batch, stage, rows) for rows in (PROBED, 2 * PROBED)
    )
    each = max((two - one) // PROBED, 1)
    fitting = max((int(USABLE * room) - (one - PROBED * each)) // each, 1)
    own = 1 << (min(fitting, MOST).bit_length() - 1)
    while own > 1:
        together = own * experiment.mesh.size
        if together <= least:
            break
        if -(-wanted // together) * together <= (1 + PADDING) * wanted:
            return together
        own //= 2
    return least


def _counted(
    experiment: Experiment,
    step: Callable,
    state: TrainState,
    batch: Batch,
    stage: Stage,
    rows: int,
) -> int:
    """The bytes of a program that makes `rows` images with one set of weights on one device."""

    def draw(state: TrainState, batch: Batch) -> jax.Array:
        with ema.only(("ema",)):
            made = step(state, batch, experiment.key, stage)
        return made.get("ema", next(iter(made.values())))

    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), (state, dict(batch)))
    batch = {k: jax.ShapeDtypeStruct((rows, *v.shape[1:]), v.dtype) for k, v in shapes[1].items()}
    program = jax.make_jaxpr(draw)(shapes[0], batch)
    return liveness.peak(program.jaxpr, fuses_products=backend.kind() == "tpu").total
