"""Decides how many training steps share a call, and has the program of so many compiled.

The job says how many. Or it leaves that open: then the time that steps take decides, and no program
is compiled unless that saves more time than it takes.
"""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple

import jax.extend

from gan_jax import backend, files
from gan_jax.core import cluster
from gan_jax.core.calls import Calls
from gan_jax.core.job import Job
from gan_jax.core.precompile import Precompile
from gan_jax.core.system import Stage

logger = logging.getLogger(__name__)

TIMED = 0.5  # seconds of training after which it is known how long a step takes
SAVED = 0.2  # the share of the time of short steps that calls of several are taken to save
WORTH = 2.0  # times as many seconds as compiling takes have to be saved
TRIED = 5.0  # seconds of training after which it is known whether steps have become slower
SLOWER = 1.2  # times as long as before: less may be the work of others on this machine


class Pace(NamedTuple):
    """What this process has spent on its training up to a step."""

    step: int
    seconds: float  # in training steps

    def each(self, since: "Pace", least: float) -> float:
        """Seconds that a step has taken since then; 0 if these were less than `least` seconds."""
        seconds = self.seconds - since.seconds
        return seconds / (self.step - since.step) if seconds >= least else 0.0


class Program(NamedTuple):
    """The program of several steps, as functions of a stage and a number of steps.

    Attributes:
      exact: whether it can be expected to compute the same bits as so many calls of one step.
      prepare: compiles it.
      seconds: how long the program of a single step took to compile for a stage.
      compiling: the context of what compiles before training goes on, with a title.
    """

    exact: Callable[[Stage, int], bool]
    prepare: Callable[[Stage, int], None]
    seconds: Callable[[Stage], float]
    compiling: Callable[[str], AbstractContextManager]


class Sharing:
    """Tells `calls` how many steps a call takes. `close` waits for what is being compiled."""

    def __init__(self, job: Job, calls: Calls, program: Program):
        self._job, self._calls, self._program = job, calls, program
        self._thread = Precompile(self._compile)
        self._pending: Stage | None = None  # for which a program is being compiled
        self._size, self._refused = 0, False
        self._before = 0.0  # seconds of a step before several shared a call
        self._on_trial = False  # whether it may still turn out that steps are slower than before
        self._since: Pace | None = None  # from where on steps are timed
        self.close = self._thread.__exit__

    def given(self, stage: Stage, step: int) -> int:
        """How many steps of a stage share a call after `step` because the job says so; 1: none do,
        0: it does not say."""
        size = self._job.steps_per_call
        if size > 1 and not (
            self._calls.fits(size, stage, step) and self._program.exact(stage, size)
        ):
            return 1
        return size

    def begin(self, stage: Stage, step: int, seconds: float) -> None:
        """The first step of a stage in this process has been made; arguments as for `Pace`."""
        self._since, self._on_trial = Pace(step, seconds), False
        wanted = self._job.steps_per_call
        if not wanted or self._calls.size(stage) is not None:
            return
        if step + wanted > stage.end:
            return  # too few are left to say anything of a later stage of the same shape
        size = self.given(stage, step)
        if size > 1:
            with self._program.compiling(f"{size} training steps as one program"):
                self._program.prepare(stage, size)
        elif wanted > 1:
            why = "convolutions would be slow and rounded otherwise on a CPU"
            if not self._calls.fits(wanted, stage, step):
                why = "something is due more often"
            logger.info(
                f"config.run.steps_per_call={wanted}: {why}, so every step is a call of its own"
            )
        self._calls.decide(stage, size)

    def consider(self, index: int, step: int, seconds: float) -> None:
        """Decides, with a row of the log, how many steps a call of stage number `index` takes, if
        the job leaves it open; the rest as for `Pace`.

        The program is compiled in a thread while training goes on, unless the job forbids that, and
        is taken with the first row after that. It is left again if steps have become slower.
        """
        stage, pace = self._job.system.stages[index], Pace(step, seconds)
        if self._job.steps_per_call or step >= stage.end:
            return
        if self._calls.size(stage) is None and self._pending is None:
            self._choose(index, pace)
        if self._pending is not None:
            there = cluster.decided("whether several steps are compiled", self._is_there)
            if there or not self._job.compile_ahead:
                self._on_trial, self._since = self.settle(), pace
        elif self._since is None:
            self._since = pace
        elif self._on_trial:
            self._judge(stage, pace)

    def settle(self) -> bool:
        """Waits for a program that is being compiled. Returns whether one is taken from now on."""
        if self._pending is None:
            return False
        self._thread.wait()
        failure, self._thread.failure = self._thread.failure, None
        if failure is not None and cluster.count() > 1:
            raise failure  # others have their program and would not wait for this process
        if failure is not None:
            logger.warning(f"note: every step remains a call of its own ({files.reason(failure)})")
        taken = failure is None and not self._refused
        if taken:
            logger.info(f"steps are short here: {self._size} of them share a call from now on")
        self._calls.decide(self._pending, self._size if taken else 1)
        self._pending = None
        return taken

    def rehearsed(self, stage: Stage, alike: bool) -> None:
        """The first call of several steps has been made: `alike` says whether more may be."""
        self._since = None  # what that took says nothing about other calls
        if not cluster.decided("whether several steps may share a call", lambda: alike):
            logger.info(
                "several steps in a call would be rounded otherwise here: each is a call of its own"
            )
            self._calls.decide(stage, 1)
            self._on_trial = False

    def _choose(self, index: int, pace: Pace) -> None:
        """Begins to compile a program of several steps, if that is worth it."""
        stages = self._job.system.stages
        stage = stages[index]
        left = sum(s.end - max(s.start, pace.step) for s in stages[index:] if s == stage)

        def chosen() -> int:
            each = pace.each(self._since, TIMED)
            size = self._calls.best(stage, pace.step, each) if each else 0
            worth = left * each * SAVED >= WORTH * self._program.seconds(stage)
            return size if worth else min(size, 1)

        size = cluster.decided("how many steps a call takes", chosen)
        if size == 1:
            self._calls.decide(stage, 1)
        if size > 1:
            self._pending, self._size, self._before = stage, size, pace.each(self._since, 0.0)
            self._thread.begin(stage)

    def _compile(self, stage: Stage) -> None:
        self._refused = not self._program.exact(stage, self._size)
        if not self._refused:
            self._program.prepare(stage, self._size)

    def _is_there(self) -> bool:
        return not self._thread.busy()

    def _judge(self, stage: Stage, pace: Pace) -> None:
        """Lets every step be a call of its own again if several in a call have been slower."""

        def judged() -> str:
            each = pace.each(self._since, TRIED)
            return ("slower" if each > SLOWER * self._before else "as fast") if each else ""

        verdict = cluster.decided("whether steps have become slower", judged)
        if verdict == "slower":
            logger.info("steps were faster one by one: each is a call of its own again")
            self._calls.decide(stage, 1)
        self._on_trial = not verdict


def has_convolution(jaxpr: jax.extend.core.Jaxpr) -> bool:
    """Whether a traced program, or one that it calls, has a convolution, XLA's or oneDNN's."""
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("conv_general_dilated", "ffi_call"):
            return True
        for value in jax.tree.leaves(equation.params, is_leaf=_is_program):
            if _is_program(value) and has_convolution(getattr(value, "jaxpr", value)):
                return True
    return False


def _is_program(value: object) -> bool:
    return isinstance(value, jax.extend.core.Jaxpr | jax.extend.core.ClosedJaxpr)


def rounds_alike(jaxpr: jax.extend.core.Jaxpr) -> bool:
    """Whether the steps of a traced program can be expected to be rounded as those of a program of
    one step.

    XLA for CPUs gives convolutions another form, and a slow one, where they are inside of a loop.
    """
    return backend.kind() != "cpu" or not has_convolution(jaxpr)
