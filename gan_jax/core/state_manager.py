"""Orbax's manager, set up to write states into folders named after steps and sealed by checksums.

A state is written to a temporary folder in the background, and the folder is renamed when it is
complete: a kill at any moment leaves the old state or the new one, never half of one.
"""

import json
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import path as ocp_path

from gan_jax.core.saved_states import SUMS, checksums, states_in
from gan_jax.core.system import PyTree

logger = logging.getLogger(__name__)
_UNFINISHED = re.compile(r"[0-9]+\.orbax-checkpoint-tmp.*")  # orbax's name until it is complete


class _Names(ocp_path.step.NameFormat):
    """Makes orbax treat the same folders as states as `states_in` does."""

    def __str__(self) -> str:
        return "numbers"

    def build_name(self, step: int) -> str:
        return str(step)

    def find_all(self, base_path) -> Iterator[ocp_path.step.Metadata]:
        for step in states_in(Path(base_path)):
            yield ocp_path.step.Metadata(step=step, path=base_path / str(step))

    def find_step(self, base_path, step: int) -> ocp_path.step.Metadata:
        if step not in states_in(Path(base_path)):
            raise ValueError(f"{base_path}: no state of step {step}")
        return ocp_path.step.Metadata(step=step, path=base_path / str(step))


def make(folder: Path, policy=None) -> ocp.CheckpointManager:
    """A manager of the states in a folder; `policy` says which of them are kept, None keeps all."""
    # the callback runs in the background, after all is written and before the folder is renamed
    sealing = ocp.options.AsyncOptions(post_finalization_callback=lambda: _seal(folder))
    options = ocp.CheckpointManagerOptions(
        cleanup_tmp_directories=True,
        create=True,
        preservation_policy=policy,
        async_options=sealing,
        step_name_format=_Names(),
    )
    return ocp.CheckpointManager(folder, options=options)


def arguments(tree: PyTree, meta: dict) -> ocp.args.Composite:
    """What a manager saves: the arrays of `tree`, and `meta` as JSON."""
    # a copy, because the caller may change `meta` while it is being written
    return ocp.args.Composite(state=ocp.args.StandardSave(tree), meta=ocp.args.JsonSave(dict(meta)))


def _seal(folder: Path) -> None:
    """Writes checksums into the state that is being saved."""
    if jax.process_index() != 0:
        return
    for step in folder.iterdir():
        if _UNFINISHED.fullmatch(step.name) and step.is_dir() and not (step / SUMS).exists():
            (step / SUMS).write_text(json.dumps(checksums(step), indent=0))


def clear(folder: Path, step: int) -> None:
    """Makes room for the state of `step`: renames anything else of that name."""
    path, number = folder / str(step), 1
    state = path.is_dir() and any(path.iterdir())
    if state or not os.path.lexists(path) or jax.process_index() != 0:
        return
    while os.path.lexists(target := folder / f"{step}.not-a-state-{number}"):
        number += 1
    path.rename(target)
    logger.warning(
        f"{path} is no saved state and stood in the way of one: renamed to {target.name}"
    )
