"""What a training step will take of the memory of devices that need not be here, and what to change
where it is too much.

A step for TPUs is compiled by libtpu, where that is installed, and the compiler's own analysis is
read. Everywhere else the program is traced as it would run on one of the devices, and its memory is
counted (`core.liveness`).
"""

import dataclasses
import logging
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
from jax.sharding import AbstractMesh
from ml_collections import ConfigDict

from gan_jax import backend
from gan_jax import config as configs
from gan_jax.core import grads, liveness, tiles, train_step
from gan_jax.core.mesh import DATA, FSDP, Mesh, devices_wanted
from gan_jax.core.system import Facts, PyTree, Stage
from gan_jax.errors import UserError, is_full_memory
from gan_jax.run import memory
from gan_jax.run.experiment import Experiment
from gan_jax.run.topology import GIB, Topology

logger = logging.getLogger(__name__)

PREALLOCATED = 0.75  # the share of a GPU's memory that JAX takes unless it is told otherwise
# otherwise libtpu asks Google Cloud what machine this is, claims its TPU, and warns without one
LIBTPU = {
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_MIN_LOG_LEVEL": "3",
}
USABLE = 0.95  # of a device's memory; the rest is the driver's and the runtime's


class Forecast(NamedTuple):
    """Bytes of one device during a training step.

    Attributes:
      state: weights, averages and moments, and the batch.
      weights: gradients and copies of weights.
      examples: what is kept and computed for the images of a step. With `compiled` this is all that
        the compiler allocates beside the state, and `weights` is 0.
      compiled: whether libtpu said so; otherwise it is counted.
    """

    state: int
    weights: int
    examples: int
    compiled: bool = False

    @property
    def total(self) -> int:
        """All of them."""
        return self.state + self.weights + self.examples

    def line(self) -> str:
        """All of it for a person."""
        parts = [f"{_gib(self.state)} of state and batch"]
        if self.compiled:
            parts.append(f"{_gib(self.examples)} of gradients and activations")
        else:
            parts.append(f"{_gib(self.weights)} of gradients and copies of weights")
            parts.append(f"{_gib(self.examples)} of activations")
        how = "as libtpu compiles it" if self.compiled else "counted"
        return f"{' + '.join(parts)} = {_gib(self.total)} ({how})"


class Described(Mesh):
    """A mesh of devices that are not here; arrays that would lie on it are shapes."""

    def __init__(self, devices: int, fsdp: int = 1, least_mb: float = 1.0):
        """See `Mesh`; `fsdp` divides `devices`."""
        self._lay_out(AbstractMesh((devices // fsdp, fsdp), (DATA, FSDP)), fsdp, least_mb)

    def copy(self, tree: PyTree) -> PyTree:
        """The shapes of arrays or keys."""
        return self.shape(tree)


def described(config: ConfigDict, topology: Topology, facts: Facts) -> Experiment:
    """The experiment of a config on devices that are not here, with data that are not read.

    Raises UserError for a config whose values do not fit each other, the data or the devices.
    """
    mesh = Described(_used(config, topology), config.mesh.fsdp, config.mesh.least_mb)
    with backend.programs_for(topology.kind):
        made = Experiment(config, facts=facts, mesh=mesh)
    grads.check_shared(made.system.parts, made.system.stages, mesh.size)  # as for a new run
    return made


def _used(config: ConfigDict, topology: Topology) -> int:
    """How many of the devices a config uses. Raises UserError if they do not make its mesh."""
    mesh = config.mesh
    return devices_wanted(config.run.devices, mesh.data, mesh.fsdp, topology.devices)


def counted(experiment: Experiment, topology: Topology) -> Forecast:
    """The memory of a step of the last stage, which is the largest, counted for one device."""
    system, last = experiment.system, experiment.last
    own = dataclasses.replace(last, batch_size=last.batch_size // experiment.mesh.size)
    batch = {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in experiment.batch(own).items()}
    with backend.programs_for(topology.kind):
        key = jax.eval_shape(jax.random.key, 0)
        state = jax.eval_shape(_of_stage(system.init, own), key, batch)
        program = jax.make_jaxpr(_of_stage(system.train_step, own))(state, batch, key)
    donated = range(len(jax.tree.leaves(state)))
    found = liveness.peak(program.jaxpr, donated, fuses_products=topology.kind == "tpu")
    # what lies between arguments and results the compiler lays out with fewer gaps
    given = [v.aval for v in program.jaxpr.invars]
    held = sum(tiles.stored(topology.kind, x.shape, x.dtype.itemsize) for x in given)
    of_weights = [net.params for net in state.nets.values()]
    apart = _elsewhere(experiment.mesh, state, topology.kind)
    gathered = _elsewhere(experiment.mesh, of_weights, topology.kind, whole=True)
    return Forecast(held - apart, found.weights + gathered, found.examples)


def _elsewhere(mesh: Mesh, tree: PyTree, kind: str, whole: bool = False) -> int:
    """The bytes of a state that a device does not hold, because they are split over several; with
    `whole` all bytes of the arrays that are split. A step gathers the weights among these."""
    total = 0
    for x in jax.tree.leaves(tree):
        shape = mesh.place(x).shard_shape(x.shape)
        if shape != x.shape:
            kept = 0 if whole else tiles.stored(kind, shape, x.dtype.itemsize)
            total += tiles.stored(kind, x.shape, x.dtype.itemsize) - kept
    return total


def _of_stage(function: Callable[..., Any], stage: Stage) -> Callable[..., Any]:
    return lambda *arrays: function(*arrays, stage)


def compiled(experiment: Experiment, topology: Topology) -> Forecast | None:
    """The memory of a step of the last stage, compiled by libtpu.

    None where libtpu is not installed or does not know the devices, and where it finds no way to
    fit the program into their memory.
    """
    devices = _tpu_devices(topology)
    if devices is None:
        return None
    config = experiment.config
    mesh = Mesh(experiment.mesh.size, **config.mesh, available=devices)
    last = experiment.last
    batch = {k: mesh.rows(len(v), v.shape[1:], v.dtype) for k, v in experiment.batch(last).items()}
    with backend.programs_for("tpu"):
        carry = train_step.TrainCarry(**mesh.shape(experiment.carry._asdict()))
        key = mesh.shape(jax.eval_shape(jax.random.key, 0))
        step = train_step.train_function(experiment.system, mesh, config.run.on_nonfinite == "skip")
        logger.info("compiling one training step by libtpu, which may take minutes")
        try:
            found = step.lower(carry, batch, key, last).compile().memory_analysis()
        except jax.errors.JaxRuntimeError as error:
            if not is_full_memory(error):
                raise
            return None
    state = found.argument_size_in_bytes
    beside = found.output_size_in_bytes - found.alias_size_in_bytes + found.temp_size_in_bytes
    return Forecast(state, 0, beside, compiled=True)


def _tpu_devices(topology: Topology) -> list | None:
    """The devices of a topology as libtpu describes them, if it can."""
    if not topology.compiles:
        return None
    for name, value in LIBTPU.items():
        os.environ.setdefault(name, value)
    from jax.experimental import topologies

    generation = topology.compiles.partition(":")[0]
    options = {"chip_config_name": "megacore"} if generation == "v4" else {}
    try:
        found = topologies.get_topology_desc(topology.compiles, "tpu", **options)
    except (jax.errors.JaxRuntimeError, RuntimeError, NotImplementedError, ImportError) as error:
        logger.debug(f"libtpu: {' '.join(str(error).split())}")
        logger.info("libtpu is not installed, or does not know these devices: no compiled figure")
        return None
    return list(found.devices) if len(found.devices) == topology.devices else None


def fits(forecast: Forecast, topology: Topology) -> bool:
    """Whether a step fits into the memory of each device."""
    return forecast.total <= USABLE * topology.memory


def verdict(forecast: Forecast, topology: Topology) -> str:
    """Whether a step fits, in words."""
    share = f"{forecast.total / topology.memory:.0%} of the {_gib(topology.memory)} of a device"
    if not fits(forecast, topology):
        return f"{share}: it does not fit"
    if topology.kind == "gpu" and forecast.total > PREALLOCATED * topology.memory:
        return (
            f"{share}: it fits if JAX may take more than 75 % of the memory, by "
            f"XLA_PYTHON_CLIENT_MEM_FRACTION={USABLE}"
        )
    return f"{share}: it fits"


class Change(NamedTuple):
    """Keys of a config with other values, and the memory that a step then takes."""

    keys: dict[str, Any]
    forecast: Forecast

    def words(self) -> str:
        """As on a command line."""
        return " ".join(f"--config.{key}={value}" for key, value in self.keys.items())


def changes(
    config: ConfigDict, topology: Topology, facts: Facts, now: Forecast
) -> Iterator[Change]:
    """What would make a step smaller, one after the other until it fits: blocks that are computed
    twice, a batch in parts, a state that is split over the devices, and a smaller batch. What a
    system does not accept is left out. `now` is counted for the config as it is.
    """
    keys: dict[str, Any] = {}
    for more in _steps(config, _used(config, topology), keys):
        if fits(now, topology):
            return
        try:
            now = _recounted(config, keys | more, topology, facts)
        except UserError:  # as a batch in parts is refused by batch norm
            continue
        keys.update(more)  # which `_steps` sees
        yield Change(dict(keys), now)


def _steps(config: ConfigDict, devices: int, accepted: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Keys that make a step smaller, from what costs least to what changes the result.

    `accepted` has what the caller has taken so far of the keys that this gave.
    """
    own = config.batch_size // devices  # images of a device; 0 where another key says how many
    if config.get("model", {}).get("remat", "blocks") != "blocks":
        yield {"model.remat": "blocks"}
    first = parts = config.get("microbatches", 0)
    while parts and accepted.get("microbatches", first) == parts:
        parts *= 2
        yield {"microbatches": parts}  # where these are refused, more of them would be as well
    if config.mesh.fsdp < devices and not config.mesh.data:
        yield {"mesh.fsdp": devices}
    while own > 1:
        own //= 2
        parts = accepted.get("microbatches", first)
        # as many parts as before, or the most that such a batch has
        for fewer in (n for n in range(parts, -1, -1) if n == parts or (n and own % n == 0)):
            more = {} if fewer == parts else {"microbatches": fewer}
            yield {"batch_size": own * devices} | more
            if accepted.get("batch_size") == own * devices:
                break


def advice(config: ConfigDict, topology: Topology, facts: Facts, now: Forecast) -> Iterator[str]:
    """Lines that say what would make a step fit, each as soon as it is counted; see `changes`."""
    found = None
    for found in changes(config, topology, facts, now):
        yield f"with {found.words()}: {found.forecast.line()}, {verdict(found.forecast, topology)}"
    if found is None or not fits(found.forecast, topology):
        yield (
            "nothing above makes it fit: use more devices or larger ones, or make one of "
            f"{', '.join(memory.sizes(config))} smaller"
        )


def _recounted(
    config: ConfigDict, keys: dict[str, Any], topology: Topology, facts: Facts
) -> Forecast:
    other = configs.typed(configs.plain(config))
    other.update_from_flattened_dict(keys)
    return counted(described(other, topology, facts), topology)


def _gib(size: int) -> str:
    """Bytes in the units in which memory is sold: "12.3 GiB", "250 MiB"."""
    if size < GIB:
        return f"{size / 2**20:.0f} MiB"
    return f"{size / GIB:.1f} GiB" if size < 100 * GIB else f"{size / GIB:.0f} GiB"
