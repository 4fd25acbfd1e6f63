"""What the loop is given, and what it returns."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jax
import numpy as np

from gan_jax.core.best_states import BestStates
from gan_jax.core.checkpoint import Checkpoints
from gan_jax.core.intervals import Intervals
from gan_jax.core.mesh import Mesh
from gan_jax.core.recorder import Recorder
from gan_jax.core.system import Data, Scores, Stage, System, TrainState
from gan_jax.core.train_step import TrainCarry


@dataclass
class Progress:
    """How far a run has got, as the host knows it; stored in each checkpoint as JSON."""

    stage: int = -1  # the stage that was entered last
    best_value: float | None = None  # of the current stage
    best_step: int | None = None
    waited: int = 0  # evaluations since the best one
    evaluations: int = 0
    seconds: float = 0.0  # spent in training steps, over all processes of the run
    rows: int = 0  # of metrics.jsonl; 0 in states of earlier revisions
    skipped: int = 0  # steps that were not applied because something in them was not finite
    rollbacks: int = 0  # times that the run has gone back to a good state

    def stage_of(self, stages: Sequence[Stage]) -> Stage:
        """The stage that was entered last; the first one before any was."""
        return stages[max(self.stage, 0)]


@dataclass(frozen=True)
class Probes:
    """Functions that sample from a state and measure it; they come from outside the engine."""

    draw: Callable[[TrainState, Stage], dict[str, np.ndarray]] | None = None
    quality: Callable[[TrainState, Stage], Scores] | None = None
    # (state as shapes, a later stage, whether to stop) → compiles what the two need for that stage
    prepare: Callable[[TrainState, Stage, Callable[[], bool]], None] | None = None


@dataclass(frozen=True)
class Job:
    """Everything that a training run consists of, except its state and progress.

    Attributes:
      data: (split, stage, step) → iterator over the batches after `step`.
      epoch_steps: how many steps one epoch of a stage has.
      key: the root key; the step is folded into it before each update.
      start_from_best: reads a best state into a carry; when given, a stage of another resolution
        starts from the best state of the stage before it.
      compile_ahead: whether to compile what a stage of another resolution or batch size needs
        while the stage before it trains.
      on_nonfinite: what is done about a step that is not finite, see `core.nonfinite`.
      nonfinite_limit: how many steps in a row may be skipped.
      steps_per_call: how many steps a call takes at most, see `core.calls`; 0: as many as are
        worth compiling a program for, 1 if none are.
    """

    system: System
    data: Data
    epoch_steps: Callable[[Stage], int]
    mesh: Mesh
    key: jax.Array
    intervals: Intervals
    recorder: Recorder
    checkpoints: Checkpoints
    best: BestStates
    probes: Probes = Probes()
    start_from_best: Callable[[Path, TrainCarry], TrainCarry] | None = None
    compile_ahead: bool = True
    on_nonfinite: str = "stop"
    nonfinite_limit: int = 10
    steps_per_call: int = 1


@dataclass(frozen=True)
class Outcome:
    """How a run ended: "finished", "stopped early" or "terminated" (by a signal)."""

    reason: str
    step: int
    carry: TrainCarry
    progress: Progress
    images_per_second: float = 0.0
    scores: Scores = field(default_factory=dict)  # those of this process's last evaluation
    scores_step: int = 0  # the step at which it was made
