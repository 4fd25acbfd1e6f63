"""Periodic and best states on orbax.

`checkpoints/<step>/` holds the newest states and every k-th for good; `best/stage<i>/<step>/` the
one state with the best value of the metric that the config names. Both hold the full state, are
written asynchronously to a temporary folder and renamed when complete, so a kill at any moment
leaves the old or the new one, never half of one. Each carries checksums of its files, since orbax
does not notice a byte that changed inside an array.
"""

import contextlib
import json
import math
import os
import re
import shutil
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from orbax.checkpoint import path as ocp_path
from orbax.checkpoint.checkpoint_managers import preservation_policy

from gan_jax.core.system import PyTree
from gan_jax.errors import UserError

Say = Callable[[str], None]
SUMS = "checksums.json"  # {path inside the step's folder: [bytes, CRC-32]}


class Damaged(UserError):
    """A saved state that cannot be read, or is not what was written."""


@dataclass(frozen=True)
class Best:
    """Which value picks the best state: a metric's name and whether lower is better."""

    metric: str
    lowest: bool = True

    def better(self, value: float, than: float | None) -> bool:
        """Whether `value` beats `than`. NaN and infinities never do."""
        if not math.isfinite(value):
            return False
        return than is None or (value < than if self.lowest else value > than)


def states_in(folder: Path) -> dict[int, Path]:
    """The saved states in a folder by step: sub-folders whose name is a number in plain digits,
    as `save` writes it. Whatever else lies there ("12.zip", "9 (1)", a file "12", an empty folder)
    is not one."""
    try:
        numbered = [p for p in Path(folder).iterdir() if _NUMBER.fullmatch(p.name) and p.is_dir()]
        found = [p for p in numbered if any(p.iterdir())]
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return {int(p.name): p for p in sorted(found)}


def best_states_in(folder: Path) -> dict[tuple[int, int], Path]:
    """The saved states below a run's `best/` by (stage, step)."""
    try:
        stages = [p for p in Path(folder).iterdir() if _STAGE.fullmatch(p.name)]
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return {
        (int(stage.name.removeprefix("stage")), step): path
        for stage in stages
        for step, path in states_in(stage).items()
    }


_NUMBER = re.compile("0|[1-9][0-9]*")
_STAGE = re.compile("stage(0|[1-9][0-9]*)")
_UNFINISHED = re.compile(r"[0-9]+\.orbax-checkpoint-tmp.*")  # orbax's name until it is complete


class _Names(ocp_path.step.NameFormat):
    """What orbax takes for states in a folder: the same as `states_in`."""

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


def _manager(folder: Path, policy=None) -> ocp.CheckpointManager:
    # the callback runs in the background, when all is written and before the folder is renamed
    sealing = ocp.options.AsyncOptions(post_finalization_callback=lambda: _seal(folder))
    options = ocp.CheckpointManagerOptions(
        cleanup_tmp_directories=True,
        create=True,
        preservation_policy=policy,
        async_options=sealing,
        step_name_format=_Names(),
    )
    return ocp.CheckpointManager(folder, options=options)


def _arguments(tree: PyTree, meta: dict) -> ocp.args.Composite:
    # a copy: the caller may go on changing `meta` while it is written
    return ocp.args.Composite(state=ocp.args.StandardSave(tree), meta=ocp.args.JsonSave(dict(meta)))


def _seal(folder: Path) -> None:
    """Writes checksums into the state that is being saved."""
    if jax.process_index() != 0:
        return
    for step in folder.iterdir():
        if _UNFINISHED.fullmatch(step.name) and step.is_dir() and not (step / SUMS).exists():
            (step / SUMS).write_text(json.dumps(_checksums(step), indent=0))


def _clear(folder: Path, step: int, say: Say) -> None:
    """Renames what has a state's name and is none, such as a file "12", before step 12 is saved."""
    path, number = folder / str(step), 1
    state = path.is_dir() and any(path.iterdir())
    if state or not os.path.lexists(path) or jax.process_index() != 0:
        return
    while os.path.lexists(target := folder / f"{step}.not-a-state-{number}"):
        number += 1
    path.rename(target)
    say(f"{path} is no saved state and stood in the way of one: renamed to {target.name}")


def _checksums(step: Path) -> dict[str, list[int]]:
    # orbax changes its own notes on the folder after this, so only what was saved is listed
    files = [f for item in ("state", "meta") for f in sorted((step / item).rglob("*"))]
    return {
        str(file.relative_to(step)): [file.stat().st_size, _crc(file)]
        for file in files
        if file.is_file() and file.name != "commit_success.txt"
    }


def _crc(file: Path) -> int:
    value = 0
    with file.open("rb") as stream:
        while block := stream.read(1 << 24):
            value = zlib.crc32(block, value)
    return value


def _verify(step: Path) -> None:
    """Raises Damaged naming the first file that is missing or is not what was written."""
    if not (step / SUMS).exists():
        raise Damaged(f"{step}: {SUMS} is missing")
    try:
        sums = json.loads((step / SUMS).read_text()).items()
        expected = {name: (int(size), int(crc)) for name, (size, crc) in sums}
    except (ValueError, TypeError, AttributeError):
        raise Damaged(f"{step / SUMS} is not what was written") from None
    for name, (size, crc) in expected.items():
        file = step / name
        if not file.is_file():
            raise Damaged(f"{file} is missing")
        if file.stat().st_size != size:
            raise Damaged(f"{file} has {file.stat().st_size} bytes, {size} were written")
        if _crc(file) != crc:
            raise Damaged(f"{file} is not what was written (its checksum differs)")


class Checkpoints:
    """The periodic states of one run.

    Args:
      folder: where they live; made when missing.
      keep: how many of the newest stay.
      keep_every: steps that are multiples of it stay for good; 0 for none.
      say: prints one line.
    """

    def __init__(self, folder: Path, keep: int = 2, keep_every: int = 0, say: Say = print):
        self.folder, self.say = Path(folder).resolve(), say
        rules = [preservation_policy.LatestN(keep)]
        if keep_every:
            rules.append(preservation_policy.EveryNSteps(keep_every))
        self._policy = preservation_policy.AnyPreservationPolicy(rules)
        self._manager = _manager(self.folder, self._policy)
        self.saved_at = time.monotonic()
        self.saved_step = self._manager.latest_step()

    def save(self, step: int, tree: PyTree, meta: dict) -> None:
        """Starts writing; a save of a step that is already there does nothing."""
        if step != self.saved_step:
            _clear(self.folder, step, self.say)
            self._manager.save(step, args=_arguments(tree, meta), force=True)
        self.saved_at, self.saved_step = time.monotonic(), step

    def minutes_since_save(self) -> float:
        """Minutes since the last save, or since this process began."""
        return (time.monotonic() - self.saved_at) / 60

    def steps(self) -> list[int]:
        """Steps that can be restored, oldest first."""
        return sorted(self._manager.all_steps())

    def restore_newest(self, shapes: PyTree) -> tuple[int, PyTree, dict] | None:
        """(step, state, meta) of the newest state that can be read; None where there is none.

        `shapes` is a tree of ShapeDtypeStruct with shardings (another number of devices is fine).
        Where newer states are damaged they are moved aside to `damaged-<step>`, said so, and the
        one before is taken. Raises UserError when all are damaged (nothing is moved then), or the
        state is another model's.
        """
        damaged: dict[int, Damaged] = {}
        for step in reversed(self.steps()):
            try:
                tree, meta = read(self.folder / str(step), shapes)
            except Damaged as error:
                damaged[step] = error
                continue
            self._set_aside(damaged)
            self.saved_step = step
            return step, tree, meta
        if damaged:
            first = next(iter(damaged.values()))
            raise UserError(
                f"{self.folder}: none of the checkpoints {sorted(damaged)} can be read ({first}); "
                "copy back a good one, or start over in another --workdir"
            )
        return None

    def _set_aside(self, damaged: dict[int, Damaged]) -> None:
        if not damaged:
            return
        self._manager.close()
        for step, error in damaged.items():
            target, number = self.folder.parent / f"damaged-{step}", 1
            while target.exists():
                number += 1
                target = self.folder.parent / f"damaged-{step}-{number}"
            done = f"moved to {target.name}"
            try:
                if jax.process_index() == 0:
                    shutil.move(self.folder / str(step), target)
            except OSError as refused:
                done = f"it stays where it is ({refused.strerror})"
            self.say(
                f"checkpoint {step} is damaged ({error}); {done}, falling back to the one before"
            )
        if jax.process_count() > 1:
            from jax.experimental import multihost_utils

            multihost_utils.sync_global_devices("damaged checkpoints moved")
        self._manager = _manager(self.folder, self._policy)

    def close(self) -> None:
        """Waits until everything is on disk."""
        self._manager.wait_until_finished()
        self._manager.close()


class BestStates:
    """The best state of each stage, in `best/stage<i>/<step>/`."""

    def __init__(self, folder: Path, rule: Best, say: Say = print):
        self.folder, self.rule, self.say = Path(folder).resolve(), rule, say
        self._managers: dict[int, ocp.CheckpointManager] = {}

    def cut(self, step: int) -> None:
        """Removes states beyond the step that a run resumes from: it may not pass them again."""
        for (_, saved), path in best_states_in(self.folder).items():
            if saved > step:
                shutil.rmtree(path)

    def save(self, stage: int, step: int, tree: PyTree, meta: dict) -> None:
        """Starts writing `tree` as the best; the one before goes when this one is complete."""
        manager = self._manager(stage)
        self._settle(stage)
        if step not in manager.all_steps():
            _clear(self.folder / f"stage{stage}", step, self.say)
            manager.save(step, args=_arguments(tree, meta), force=True)

    def _manager(self, stage: int) -> ocp.CheckpointManager:
        if stage not in self._managers:
            self._managers[stage] = _manager(self.folder / f"stage{stage}")
        return self._managers[stage]

    def _settle(self, stage: int) -> None:
        """Removes all but the best of the complete states (a kill may leave two)."""
        manager = self._manager(stage)
        manager.wait_until_finished()
        steps = manager.all_steps()
        if len(steps) > 1:
            chosen = None
            for step in sorted(steps):
                value = _value(self.folder / f"stage{stage}" / str(step))
                if self.rule.better(value, None if chosen is None else chosen[1]):
                    chosen = step, value
            chosen = max(steps) if chosen is None else chosen[0]
            for step in steps:
                if step != chosen:
                    manager.delete(step)

    def path(self, stage: int) -> Path | None:
        """The folder of a stage's best state, None where there is none yet."""
        if not (self.folder / f"stage{stage}").is_dir():
            return None
        self._settle(stage)
        step = self._manager(stage).latest_step()
        return None if step is None else self.folder / f"stage{stage}" / str(step)

    def close(self) -> None:
        """Waits until everything is on disk and only the best is left."""
        for stage in list(self._managers):
            self._settle(stage)
            self._managers[stage].close()


def read_meta(folder: Path) -> dict:
    """What was saved beside a state: JSON values."""
    return json.loads((folder / "meta" / "metadata").read_text())


def _value(folder: Path) -> float:
    """The value that made a state the best; NaN where it cannot be read."""
    try:
        return float(read_meta(folder)["best_value"])
    except (OSError, ValueError, KeyError, TypeError):
        return math.nan


@contextlib.contextmanager
def _hushed():
    """Without orbax's notes to itself about files that this layout does not have."""
    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(before)


@_hushed()
def read(folder: Path, shapes: PyTree) -> tuple[PyTree, dict]:
    """(state, meta) from one checkpoint folder.

    Raises UserError naming the first differing arrays when the saved state has another structure,
    other shapes or dtypes than `shapes`, and Damaged when it is not what was written.
    """
    _verify(folder)
    with ocp.StandardCheckpointer() as reader:
        saved = named(reader.metadata(folder / "state").item_metadata.tree)
        _compare(folder, saved, named(shapes))
        return reader.restore(folder / "state", shapes), read_meta(folder)


def _compare(folder: Path, saved: dict[str, Any], wanted: dict[str, Any]) -> None:
    kind = lambda x: f"{np.dtype(x.dtype)} {tuple(x.shape)}"  # noqa: E731
    wrong = [f"{k} is not in the checkpoint" for k in wanted if k not in saved]
    wrong += [f"{k} is not in this model" for k in saved if k not in wanted]
    wrong += [
        f"{k} is {kind(saved[k])} there and {kind(wanted[k])} here"
        for k in wanted
        if k in saved and kind(saved[k]) != kind(wanted[k])
    ]
    if wrong:
        more = f" (and {len(wrong) - 3} more)" if len(wrong) > 3 else ""
        raise UserError(f"{folder} holds another model: {'; '.join(wrong[:3])}{more}")


def named(tree: PyTree) -> dict[str, Any]:
    """Leaves by path: {"nets/gen/params/dense/kernel": …}, whatever the containers were."""

    def name(entry) -> str:
        for attribute in ("key", "name", "idx"):
            if hasattr(entry, attribute):
                return str(getattr(entry, attribute))
        return str(entry)

    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {"/".join(name(e) for e in path): leaf for path, leaf in leaves}


@_hushed()
def read_arrays(folder: Path) -> dict[str, np.ndarray]:
    """Every array of a saved state by path, on the host, without knowing its structure.

    Raises Damaged when it is not what was written.
    """
    _verify(folder)
    with ocp.StandardCheckpointer() as reader:
        saved = reader.metadata(folder / "state").item_metadata.tree
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        target = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(tuple(x.shape), x.dtype, sharding=device), saved
        )
        tree = reader.restore(folder / "state", target)
    return {name: np.asarray(leaf) for name, leaf in named(tree).items()}
