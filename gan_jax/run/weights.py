"""First weights from elsewhere: those of a run, a checkpoint or a file of another program."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from gan_jax.buckets import syncing
from gan_jax.core import optim, saved_states
from gan_jax.core.mesh import fetch
from gan_jax.core.train_step import TrainCarry
from gan_jax.errors import UserError
from gan_jax.interop import readers, restore
from gan_jax.run import folder as folders
from gan_jax.run.experiment import Experiment

logger = logging.getLogger(__name__)


def restore_weights(experiment: Experiment, carry: TrainCarry) -> TrainCarry:
    """The `TrainCarry` at step 0 with the weights that config.restore names for each net, by globs.

    Averages start from the new weights, moments from zero. Which weights were restored and which
    were not is logged. Raises UserError if a source cannot be read or does not fit the net.
    """
    nets = dict(carry.state.nets)
    for name, (source, pattern) in experiment.config.restore.items():
        if not source:
            continue
        key = f"config.restore.{name}"
        named, source = source, str(syncing.fetched(source))
        _check_networks(experiment, key, source)
        found = arrays(source, name, key)
        params, stats, report = restore.replace(
            found, pattern, fetch(nets[name].params), fetch(nets[name].stats), key, named,
            kind=readers.kind(source, found),
        )  # fmt: skip
        for line in report:
            logger.info(line)
        nets[name] = optim.restarted(
            nets[name], experiment.mesh.lay(params), experiment.mesh.lay(stats)
        )
    return carry._replace(state=carry.state.replace(nets=nets))


def _check_networks(experiment: Experiment, key: str, source: str) -> None:
    """Raises UserError if a file says that its networks differ from those of the config.

    Without this check the layers that happen to fit would be restored.
    """
    wrong = readers.differences(source, experiment.facts, experiment.config.model)
    if wrong:
        raise UserError(
            f"{key}: {source} holds networks with {', '.join(wrong)}; set these, or name another "
            "file"
        )


def arrays(source: str, net: str, key: str) -> dict[str, np.ndarray]:
    """Weights of one net by name ("params/…", "stats/…").

    Args:
      source: the folder of a run, of which the best state is read, or the newest if there is no
        best one; one saved state; or a file that one of `interop.readers` recognises.
      net: the net's name; if a run has only one net, that is read whatever its name.
      key: what named the source, for errors.

    Of a state with averaged weights, the average is returned. Raises UserError if there is no such
    source or net, or it cannot be read.
    """
    source = str(syncing.fetched(source))
    if reader := readers.find(source):
        return reader.arrays(source, net)
    path = Path(source)
    if not os.path.exists(path):
        raise UserError(f"{key}={source!r}: no such run or file")
    if (path / "config.json").exists():
        has_best = saved_states.best_states_in(path / "best")
        chosen = "best" if has_best else "newest"
        _, saved = folders.read_state(path, chosen, saved_states.read_arrays)
        return _of_state(saved, net, f"{key}={source!r}")
    if not (path / "state").is_dir():
        raise UserError(
            f"{key}={source!r} holds no weights: accepted are runs, their states, "
            f"{readers.ACCEPTED}"
        )
    return _of_state(saved_states.read_arrays(path.resolve()), net, f"{key}={source!r}")


def _of_state(saved: Mapping[str, np.ndarray], net: str, key: str) -> dict[str, np.ndarray]:
    """The weights of a net among all arrays of a saved state, averaged ones where there are any."""
    nets = {k.split("/")[2] for k in saved if k.startswith("state/nets/")}
    # the only net of a run, such as a classifier, may give the first weights of a net of another
    # name
    prefix = f"state/nets/{next(iter(nets)) if len(nets) == 1 else net}/"
    own = {k.removeprefix(prefix): v for k, v in saved.items() if k.startswith(prefix)}
    own = {k.replace("opt/inner/", "opt/", 1): v for k, v in own.items()}  # of a loss scale
    if not own:
        raise UserError(f"{key}: that run has no net {net!r}, but {', '.join(sorted(nets))}")
    chosen = {k: v for k, v in own.items() if k.startswith(("params/", "stats/"))}
    for kind in ("params", "stats"):
        averaged = f"opt/ema/{kind}/0/"
        chosen |= {
            k.replace(averaged, f"{kind}/"): v for k, v in own.items() if k.startswith(averaged)
        }
    return chosen
