"""`TrainCarry`, and the jitted step that takes it from one batch to the next."""

import functools
import math
import os
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax import splitting
from gan_jax.core import loss_scale
from gan_jax.core.mesh import Mesh, fetch, is_here
from gan_jax.core.system import Batch, Stage, System, TrainState
from gan_jax.errors import UserError

SKIPPED = "skipped/in_a_row"  # a metric of programs that skip steps
LEVEL = "xla_backend_optimization_level"


class NonFinite(UserError):
    """A loss, a gradient norm or a weight is NaN or infinite.

    `what` says which and where, without what to do about it; `rollbacks` is how often the run had
    gone back to a good state before.
    """

    shared = True  # all processes hold the same metrics and weights
    rollbacks = 0

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what}; {remedy}")
        self.what = what


class TrainCarry(NamedTuple):
    """What the jitted step takes and returns: the state, and sums over the current epoch."""

    state: TrainState
    sums: dict[str, jax.Array]  # float32 [], by metric
    steps: jax.Array  # how many steps have been summed, int32 []; not those with a skipped update
    broken: dict[str, jax.Array]  # int32 []: the first step at which a metric was not finite, or −1


def shapes(system: System, key: jax.Array, batch: Batch) -> TrainCarry:
    """The `TrainCarry` of a system as shapes, without computing anything."""
    stage = system.stages[0]
    arrays = {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in batch.items()}
    state = jax.eval_shape(lambda k, b: system.init(k, b, stage), key, arrays)
    _, metrics = jax.eval_shape(
        lambda s, b, k: system.train_step(s, b, k, stage), state, arrays, key
    )
    sums = {name: jax.ShapeDtypeStruct((), jnp.float32) for name in metrics}
    broken = {name: jax.ShapeDtypeStruct((), jnp.int32) for name in metrics}
    return TrainCarry(state, sums, jax.ShapeDtypeStruct((), jnp.int32), broken)


def options_of_a_single_run() -> dict[str, int] | None:
    """Options of XLA for a program that runs once.

    On a CPU compiling the initialisation of the networks takes seconds, and running it none, so
    XLA's optimisations are limited: that takes a third of the time or less, and the weights have
    the same bits. A level that the environment asks for is kept.
    """
    asked = LEVEL in os.environ.get("XLA_FLAGS", "")
    return None if asked or jax.default_backend() != "cpu" else {LEVEL: 1}


def fresh(
    system: System, mesh: Mesh, key: jax.Array, batch: Batch, like: TrainCarry | None = None
) -> TrainCarry:
    """The `TrainCarry` at step 0, on all devices of the mesh.

    Args:
      batch: one global batch (numpy); only its shapes matter.
      like: the result of `shapes`, if the caller has it already.
    """
    stage = system.stages[0]
    rest = like or shapes(system, key, batch)
    init = jax.jit(
        lambda k, b: system.init(k, b, stage),
        out_shardings=mesh.places(rest.state),
        compiler_options=options_of_a_single_run(),
    )
    state = init(key, {k: np.zeros(v.shape, v.dtype) for k, v in batch.items()})
    sums = {name: jnp.zeros((), jnp.float32) for name in rest.sums}
    broken = {name: jnp.full((), -1, jnp.int32) for name in rest.broken}
    sums, steps, broken = mesh.copy((sums, jnp.zeros((), jnp.int32), broken))
    return TrainCarry(state, sums, steps, broken)


def train_function(
    system: System, mesh: Mesh, skips: bool = False
) -> Callable[..., tuple[TrainCarry, dict]]:
    """(carry, batch, root key, stage) → (carry, metrics), jitted; the carry is donated.

    With `skips`, a step whose metrics or weights are not finite changes nothing but the step's
    number; `SKIPPED` among the metrics is how many there have been in a row.
    """
    return _jitted(_train_step(system, mesh, skips), system, mesh)


def several_function(
    system: System, mesh: Mesh, skips: bool = False
) -> Callable[..., tuple[TrainCarry, dict]]:
    """(carry, batches, root key, stage) → (carry, metrics), jitted; the carry is donated.

    The same as `train_function` called for one batch after the other, in one program. The batches
    are arrays [K, B, …], as `Mesh.put_several` lays them out, the metrics are arrays [K].
    """
    step = _train_step(system, mesh, skips)

    def train(carry: TrainCarry, batches: Batch, root: jax.Array, stage: Stage):
        def one(carry: TrainCarry, batch: Batch):
            return step(carry, batch, root, stage)

        return jax.lax.scan(one, carry, batches)

    return _jitted(train, system, mesh)


def _train_step(system: System, mesh: Mesh, skips: bool) -> Callable[..., tuple[TrainCarry, dict]]:
    """The step of `train_function` as a function that is not jitted."""

    def train(carry: TrainCarry, batch: Batch, root: jax.Array, stage: Stage):
        # the step before the update is folded in, so all randomness is a function of (seed, step)
        key = jax.random.fold_in(root, carry.state.step)
        with mesh.splitting():
            state, metrics = system.train_step(carry.state, batch, key, stage)
        sums, steps = _summed(carry, metrics)
        broken = {
            n: jnp.where((carry.broken[n] < 0) & ~jnp.isfinite(v), state.step, carry.broken[n])
            for n, v in metrics.items()
        }
        new = TrainCarry(state, sums, steps, broken)
        new, metrics = _unless_broken(carry, new, metrics) if skips else (new, metrics)
        with mesh.splitting():
            return splitting.placed(new), metrics

    return train


def _summed(carry: TrainCarry, metrics: dict) -> tuple[dict[str, jax.Array], jax.Array]:
    """The sums of the epoch with those of one more step, and how many steps they are of.

    A step in which an update was skipped is left out of all sums but those of `skipped/<net>`.
    """
    new = {name: value.astype(jnp.float32) for name, value in metrics.items()}
    flags = loss_scale.flags(metrics)
    if not flags:
        return {n: carry.sums[n] + value for n, value in new.items()}, carry.steps + 1
    applied = ~jnp.any(jnp.array([new[flag] > 0 for flag in flags]))
    sums = {
        n: carry.sums[n] + (v if n in flags else jnp.where(applied, v, 0)) for n, v in new.items()
    }
    return sums, carry.steps + applied.astype(carry.steps.dtype)


def _jitted(train: Callable, system: System, mesh: Mesh) -> Callable[..., tuple[TrainCarry, dict]]:
    """A function of a carry, batches, the root key and a stage, jitted; the carry is donated."""
    # a split state lies where `placed` says
    state = None if mesh.splits_state else mesh.replicated
    return jax.jit(
        train,
        static_argnums=3,
        donate_argnums=0,
        out_shardings=(TrainCarry(state, *[mesh.replicated] * 3), mesh.replicated),
        compiler_options=system.compiler_options,
    )


def _unless_broken(old: TrainCarry, new: TrainCarry, metrics: dict) -> tuple[TrainCarry, dict]:
    """The new `TrainCarry` or, if anything in it is not finite, the old one at the new step.

    `broken` then holds, for each metric, the first of the steps that were skipped in a row.
    """
    squares = _sums_of_squares(_float_arrays(new.state), jnp)
    finite = jnp.all(
        jnp.array([jnp.all(jnp.isfinite(x)) for x in (*metrics.values(), *squares.values())])
    )
    step, none = new.state.step, {n: jnp.full_like(x, -1) for n, x in new.broken.items()}
    since = jnp.max(jnp.array([*old.broken.values()]))
    first = jnp.where(since < 0, step, since).astype(jnp.int32)
    skipped = old._replace(state=old.state.replace(step=step), broken=dict.fromkeys(none, first))
    carry = jax.lax.cond(finite, lambda: new._replace(broken=none), lambda: skipped)
    return carry, {**metrics, SKIPPED: jnp.where(finite, 0, step - first + 1)}


def epoch_means(carry: TrainCarry, length: int) -> dict[str, float]:
    """The average of each metric over the steps of the current epoch, which has `length` steps.

    It is that of the steps whose updates were all applied, NaN if there was none. `skipped/<net>`
    is the share of all steps.
    """
    sums, steps = fetch((carry.sums, carry.steps))
    count = dict.fromkeys(sums, int(steps) or math.nan) | dict.fromkeys(
        loss_scale.flags(sums), length
    )
    return {name: float(total) / count[name] for name, total in sums.items()}


def new_epoch(carry: TrainCarry) -> TrainCarry:
    """The same `TrainCarry` with its sums set to zero."""
    sums, steps = jax.tree.map(jnp.zeros_like, (carry.sums, carry.steps))
    return carry._replace(sums=sums, steps=steps)


def continued(tree: dict, on_nonfinite: str) -> TrainCarry:
    """The `TrainCarry` with which a run goes on from a saved one, a dict of its parts.

    What is saved is good, but may have been saved amid steps that were left out because they were
    not finite. Unless that goes on, they are forgotten: they would end the run at once.
    """
    carry = TrainCarry(**tree)
    if on_nonfinite == "skip":
        return carry
    return carry._replace(broken=jax.tree.map(lambda x: jnp.full_like(x, -1), carry.broken))


def check_finite(carry: TrainCarry, saved_step: int | None) -> None:
    """Raises NonFinite if any metric has been NaN or infinite since the run began.

    `saved_step` is the step of the newest checkpoint, which the message names.
    """
    broken = {n: int(s) for n, s in fetch(carry.broken).items() if s >= 0}
    if broken:
        name = min(broken, key=broken.get)
        others = sorted(n for n, s in broken.items() if s == broken[name] and n != name)
        also = f" (with {', '.join(others)})" if others else ""
        raise NonFinite(f"step {broken[name]}: {name} is not finite{also}", remedy(saved_step))


def remedy(saved_step: int | None, tried: str = "stop") -> str:
    """The end of a message: what is kept, and what would change the end of the run.

    `tried` is the run's `config.run.on_nonfinite`.
    """
    kept = "no checkpoint was written yet"
    if saved_step is not None:
        kept = f"checkpoint {saved_step} is kept"
    others = " or ".join(name for name in ("skip", "rollback") if name != tried)
    return (
        f"training stopped, {kept}. The same command would end here again: add "
        f"--config.run.on_nonfinite={others}, or try a lower learning rate or "
        "config.optim.<net>.clip_norm in another folder"
    )


def check_weights(state: TrainState, saved_step: int | None) -> None:
    """Raises NonFinite if an array of a net is not fit to be saved.

    It is not if it holds NaN, infinity, or values whose squares sum up to infinity in float32, as
    those above 1.8e19 do: no step can be computed from them. Weights can break without a metric
    that shows it. `saved_step` is as in `check_finite`.
    """
    arrays = _float_arrays(state)
    here = all(map(is_here, jax.tree.leaves(arrays)))
    host = here and jax.default_backend() == "cpu"  # they lie there anyway: nothing is compiled
    sums = _sums_on_host(fetch(arrays)) if host else fetch(_sums_on_devices(arrays))
    for name, total in sums.items():
        if not np.isfinite(total):
            raise NonFinite(
                f"step {int(state.step)}: the weights of {name}, or its averages or moments, are "
                "not finite or immense, and are not saved",
                remedy(saved_step),
            )


def _float_arrays(state: TrainState) -> dict[str, list]:
    """The arrays of floats of each net."""
    return {
        name: [x for x in jax.tree.leaves(net) if jnp.issubdtype(x.dtype, jnp.floating)]
        for name, net in state.nets.items()
    }


def _sums_of_squares(nets: dict[str, list], xp: ModuleType) -> dict[str, Any]:
    """Of all arrays of each net, in float32 by the module `xp`: numpy or jax.numpy."""
    return {
        name: sum(xp.sum(xp.square(xp.asarray(x, xp.float32))) for x in arrays)
        for name, arrays in nets.items()
    }


_sums_on_host = np.errstate(all="ignore")(functools.partial(_sums_of_squares, xp=np))
_sums_on_devices = jax.jit(functools.partial(_sums_of_squares, xp=jnp))
