"""What a page shows of a run, as the room `run` hands it over."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from gan_jax.report.panels import Best
from gan_jax.report.series import Row


class Setting(NamedTuple):
    """A setting of the config that is not the default."""

    key: str
    value: Any
    usual: Any  # the default
    typed: bool = False  # whether it was set on the command line


class SavedState(NamedTuple):
    """A saved state of a run."""

    path: str  # within the run's folder
    step: int
    note: str = ""  # what is special about it


@dataclass(frozen=True)
class RunView:
    """What a page shows of a run. Everything but the folder and the rows may be empty.

    Attributes:
      folder: where the pictures are: samples/NNNNNN_<name>.png, reals.png and others.
      name: the run's name, a title.
      rows: those of metrics.jsonl.
      stage_start: the step at which its present stage began, 0 in a run of one stage.
      sentence: what the run is.
      status: one of "training", "finished", "stopped", "interrupted", "empty".
      progress: how far it has got, in words.
      command: the command line with which it goes on.
      advice: when that command is of use.
      facts: further lines of the header, as (label, text).
      times: those among the header's lines that are times, as (label, ISO 8601).
      best: the metric that picks the best state.
      directions: score → "min" if lower is better, "max" if higher is, "" if neither.
      classes: the names of the data's classes.
      changed: settings that are not the default.
      settings: all settings by dotted name.
      environment: (label, text): versions, devices, revision of the code.
      states: saved states, and `states_left_out`, how many more there are.
    """

    folder: Path
    name: str
    rows: Sequence[Row]
    stage_start: float = 0
    sentence: str = ""
    status: str = "empty"
    progress: str = ""
    command: str = ""
    advice: str = ""
    facts: Sequence[tuple[str, str]] = ()
    times: Sequence[tuple[str, str]] = ()
    best: Best | None = None
    directions: Mapping[str, str] = field(default_factory=dict)
    classes: Sequence[str] = ()
    changed: Sequence[Setting] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    environment: Sequence[tuple[str, str]] = ()
    states: Sequence[SavedState] = ()
    states_left_out: int = 0
