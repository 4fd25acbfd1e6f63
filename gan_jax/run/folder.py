"""A run's folder: which config it holds, and which states can be read."""

import logging
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import jax
from ml_collections import ConfigDict

from gan_jax import config as configs
from gan_jax.core import cluster, saved_states, schedules
from gan_jax.core.system import Facts
from gan_jax.errors import ArgumentError, UserError
from gan_jax.files import read_json, reason

logger = logging.getLogger(__name__)


READING = (0.0, 0.02, 0.05, 0.1, 0.2)  # seconds between tries to read a state that may be removed
T = TypeVar("T")


class NoState(UserError):
    """A run that has not saved a state yet."""


def check(folder: Path, config: ConfigDict) -> bool:
    """Whether the folder already holds this run; logs the values that have changed.

    A run that broke before its first state was saved is replaced, whatever its config was: there is
    nothing of it to go on from. So is one whose length was chosen to fit into a time, which is
    chosen again. Otherwise raises a UserError as `changed` does.
    """
    begun = is_begun(folder)
    try:
        found = changed(folder, config)
        replaced = not begun and found is not None and bool(read_config(folder).get("budget"))
    except UserError:
        if begun:
            raise
        replaced = True
    if replaced:
        logger.info(f"{folder}: the run that began here has no saved state; this one replaces it")
        (folder / "quality.json").unlink(missing_ok=True)  # each process in its copy
        return False
    if found:
        logger.info(f"changed since this run began: {_listed(found)}")
    return found is not None


def is_begun(folder: Path) -> bool:
    """Whether a run has a saved state, as process 0 sees it; all processes take part."""
    return cluster.decided("whether the run has begun", lambda: has_states(folder))


def has_states(folder: Path) -> bool:
    """Whether a run has a saved state, be it the best one or one that was set aside as damaged."""
    return bool(
        saved_states.states_in(folder / "checkpoints")
        or saved_states.best_states_in(folder / "best")
        or [*folder.glob("damaged-*")]
    )


def changed(folder: Path, config: ConfigDict) -> dict[str, tuple[Any, Any]] | None:
    """The values that have changed since the folder's run began; None if it holds no run.

    Returns {key: (old, new)}, such as {"run.steps": ("9", "12")}. Only keys that may change when a
    run resumes (see `config.may_change`) are among them: raises a UserError that lists the keys if
    the folder holds another config, or if the number of steps has changed and a learning rate
    depends on it.
    """
    if not (folder / "config.json").exists():
        return None
    # keys that were added to gan_jax after the run began get their defaults
    stored = configs.typed(read_config(folder)["config"])
    configs.prepare(stored)
    old = configs.plain(stored)
    if old["system"] == config.system:
        configs.resolve(config, 0, old)
    new = configs.plain(config)
    found = configs.differences(old, new)
    foreign = {k: v for k, v in found.items() if not configs.may_change(k)}
    if foreign:
        raise ArgumentError(
            "workdir",
            f"={folder} holds a run with another config: {_listed(foreign)}; name another folder, "
            "or use the run's own values",
        )
    if "run.steps" in found:
        _check_schedules(config, old["run"]["steps"])
    return found


def _check_schedules(config: ConfigDict, old_steps: str) -> None:
    """Raises UserError where a learning rate depends on the number of steps, which has changed."""
    for name, section in config.optim.items():
        if schedules.depends_on_total(section.schedule):
            raise UserError(
                f"config.run.steps changed from {old_steps} to {config.run.steps}, but "
                f"config.optim.{name}.schedule.name={section.schedule.name} depends on the total; "
                f"set config.optim.{name}.schedule.length at the start, or train in another folder"
            )


def check_facts(folder: Path, facts: Facts, remedy: str = "") -> None:
    """Raises ArgumentError if the data are not those that the run began with.

    With other data, images would move between training and validation, and epochs would change in
    length. An imported run has seen no data yet, so unknown facts are not compared. `remedy` ends
    the message; "" for what helps a run that is to go on.
    """
    stored = read_config(folder).get("data", facts._asdict())
    old = Facts.read(stored)._asdict()
    sizes = ("train_size", "validation_size")
    classes = ("class_names", "empty_classes")  # earlier revisions did not write these down
    unknown = [name for name in classes if name not in stored]
    if not old["train_size"]:
        unknown += [name for name in (*sizes, "num_classes", *classes) if not old[name]]
    new = facts._asdict()
    changed = {
        k: f"{k} was {old.get(k)}, is {v}"
        for k, v in new.items()
        if old[k] != v and k not in unknown
    }
    if changed:
        said, remedy = "; ".join(changed.values()), remedy or _remedy(old, list(changed))
        raise ArgumentError(
            "workdir", f"={folder}: the data has changed since the run began ({said}); {remedy}"
        )


def _remedy(old: dict[str, Any], changed: list[str]) -> str:
    """What helps a run to go on, of whose data these facts have changed from the `old` ones."""
    if all(name in ("channels", "input_channels") and old[name] for name in changed):
        keys = (f"config.data.{name}={'grey' if old[name] == 1 else 'rgb'}" for name in changed)
        return f"{' and '.join(keys)} reads the images as before"
    return "restore it, or name another folder"


def _listed(changed: dict[str, tuple[Any, Any]]) -> str:
    shown = [f"config.{k} is {old!r} there, {new!r} here" for k, (old, new) in changed.items()]
    more = f" and {len(shown) - 8} more" if len(shown) > 8 else ""
    return "; ".join(shown[:8]) + more


def read_config(folder: Path) -> dict[str, Any]:
    """The content of config.json. Raises UserError if there is none or it is damaged."""
    path = Path(folder) / "config.json"
    try:
        found = read_json(path)
    except FileNotFoundError:
        raise UserError(f"{folder}: no config.json, so this is not the folder of a run") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {reason(error)}") from None
    if not isinstance(found, dict) or not isinstance(found.get("config"), dict):
        raise UserError(f"{path} is damaged: it holds no config")
    return found


def read_summary(folder: Path) -> dict[str, Any]:
    """The content of summary.json, {} if there is none that can be read."""
    try:
        found = read_json(folder / "summary.json")
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def read_state(folder: Path, state: str, read: Callable[[Path], T]) -> tuple[Path, T]:
    """(folder of a saved state, what `read` makes of it); `state` is as for `state_path`.

    The run may be training at this moment, and remove states. What is being read stays; if it is
    gone before that, the newest one takes its place. Process 0 chooses it for all processes of a
    cluster. Raises what `read` raises, and UserError as `state_path`.
    """
    if jax.process_count() > 1:
        own = Path(folder).resolve()  # each host may have a copy of its own
        named = cluster.decided("the state", lambda: _within(own, state_path(folder, state)))
        path = own / named
        try:
            with saved_states.held(path):
                return path, read(path)
        except FileNotFoundError:
            raise UserError(
                f"{path} is not on {socket.gethostname()}: the run has removed it while it was "
                "read, or has not copied it to its bucket; give the same command again"
            ) from None
    for pause in READING:
        path = None
        try:
            path = state_path(folder, state)
            with saved_states.held(path):
                return path, read(path)
        except (NoState, FileNotFoundError):
            # a listing in the moment of a change may show neither the old state nor the new one
            if not (folder / "checkpoints").is_dir():
                raise
        except Exception:
            if path is None or path.is_dir():
                raise
        time.sleep(pause)
    path = state_path(folder, state)
    return path, read(path)


def _within(folder: Path, path: Path) -> str:
    """The path from the folder on; the path itself if a link leads out of the folder."""
    return str(path.relative_to(folder) if path.is_relative_to(folder) else path)


def state_path(folder: Path, state: str = "newest") -> Path:
    """The folder of a saved state; `state` is "newest", "best", or a step as text.

    "best" is the best state of the last stage that has one. Raises NoState if there is none, and
    UserError if there is no such step.
    """
    if state == "best":
        best = saved_states.best_states_in(folder / "best")
        if not best:
            raise NoState(f"{folder}: no best state yet")
        return best[max(best)].resolve()
    states = saved_states.states_in(folder / "checkpoints")
    if not states:
        raise NoState(f"{folder}: no checkpoint yet; train first")
    if state == "newest":
        return states[max(states)].resolve()
    if state.isdecimal() and int(state) in states:
        return states[int(state)].resolve()
    raise UserError(
        f"{folder}: no state {state!r}; there are newest, best and the steps {sorted(states)}"
    )
