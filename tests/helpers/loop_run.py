"""A run of the training loop on a system with one weight, with everything recorded."""

import copy
import itertools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.core import loop
from gan_jax.core.best_states import Best
from gan_jax.core.console import Console
from gan_jax.core.intervals import Every, Intervals
from gan_jax.core.job import Job, Probes, Progress
from gan_jax.core.mesh import Mesh, fetch
from gan_jax.core.recorder import Recorder
from gan_jax.core.system import Net, Stage, System, new_state
from gan_jax.core.train_step import continued, fresh

MESH = Mesh(1)
KEY = MESH.copy(jax.random.key(0))
NEVER = Every(0)
LENGTH = 4  # steps per epoch


class Run:
    """A run of the loop with everything recorded in `events`.

    The system has one weight. A step adds 1 to it and logs `loss/a`, by default the mean of the
    images, which are all as bright as the number of their step. Scores come from `scores`, one per
    evaluation.
    """

    def __init__(self, stages=((0, 8),), intervals=None, scores=(), loss=None, **options):
        self.events: list[tuple] = []
        self.rows: list[dict] = []
        self.saved: dict[int, tuple] = {}
        self.kept: dict[int, dict] = {}  # stage → best carry
        self.entered: list[int] = []
        self.scores = itertools.chain(scores, itertools.repeat(1.0))
        self.loss = loss or (lambda state, mean: mean)
        self.stages = tuple(Stage(*side or (2,), 4, start, steps) for start, steps, *side in stages)
        self.system = System(self.stages, self.init, self.step, self.evaluate, None, self.enter)
        chosen = dict.fromkeys(("log", "sample", "evaluate", "quality", "save"), NEVER)
        self.intervals = Intervals(**{**chosen, **(intervals or {})})
        self.options = options

    # the system

    def init(self, key, batch, stage):
        return new_state({"net": Net({"w": jnp.zeros(())}, {}, {})}, {"entered": jnp.zeros(())})

    def step(self, state, batch, key, stage):
        net = state.nets["net"]
        net = net.replace(params={"w": net.params["w"] + 1})
        mean = jnp.mean(batch["image"].astype(jnp.float32))
        metrics = {"loss/a": self.loss(state, mean), "loss/b": mean}
        return state.replace(step=state.step + 1, nets={"net": net}), metrics

    def evaluate(self, state, batch, key, stage):
        return {"score": jnp.broadcast_to(state.nets["net"].params["w"], batch["label"].shape)}

    def enter(self, state, stage):
        assert int(state.step) == stage.start
        self.entered.append(stage.start)
        return state.replace(extra={"entered": state.extra["entered"] + 1})

    # what the loop is given

    def data(self, split, stage, step):
        if split == "validation":
            self.events.append(("validate",))
            yield {**self.batch(0), "valid": np.ones(4, np.float32)}
            return
        for number in itertools.count(step + 1):
            yield self.batch(number)

    @staticmethod
    def batch(number):
        return {
            "image": np.full((4, 2, 2, 1), number, np.uint8),
            "label": np.zeros(4, np.int32),
        }

    def write_scalars(self, step, scalars, kind="train"):
        self.events.append((kind, step))
        self.rows.append({"step": step, "kind": kind, **{k: float(v) for k, v in scalars.items()}})

    def save(self, step, tree, meta):
        self.events.append(("save", step))
        self.saved[step] = copy.deepcopy((fetch(tree), meta))

    def keep(self, stage, step, tree, meta):
        self.events.append(("best", step))
        self.kept[stage] = fetch(tree)

    def quality(self, state, stage):
        self.events.append(("quality",))
        return {"quality": next(self.scores)}

    def go(self, carry=None, progress=None):
        """The outcome; with `carry` and `progress`, of a resumption."""
        if carry is None:
            carry = fresh(self.system, MESH, KEY, self.batch(0))
        writer = SimpleNamespace(
            write_scalars=self.write_scalars,
            write_images=lambda step, images: self.events.append(("sample", step)),
            flush=lambda: None,
            rows=0,
        )
        checkpoints = SimpleNamespace(
            save=self.save,
            saved_step=max(self.saved, default=None),
            minutes_since_save=lambda: 0.0,
            wait=lambda: None,
            raise_failure=self.options.pop("raise_failure", lambda: None),
        )
        best = SimpleNamespace(
            save=self.keep,
            path=lambda stage: stage if stage in self.kept else None,
            wait=lambda: None,
            raise_failure=lambda: None,
            rule=self.options.pop("rule", Best("quality")),
        )
        measured = self.intervals.quality.count > 0
        progress = progress or Progress()
        console = Console(0, self.stages[-1].end, quiet=True)
        job = Job(
            self.system,
            self.data,
            lambda stage: LENGTH,
            MESH,
            KEY,
            self.intervals,
            Recorder(writer, console, seconds=progress.seconds),
            checkpoints,
            best,
            Probes(lambda state, stage: {}, self.quality if measured else None),
            **self.options,
        )
        return loop.run(job, carry, progress)

    def resume(self, other: "Run", step: int):
        """Goes on from the state that `other` saved at `step`."""
        tree, meta = other.saved[step]
        carry = continued(tree, self.options.get("on_nonfinite", "stop"))
        return self.go(MESH.copy(carry), Progress(**meta))

    def of_kind(self, kind):
        return {row["step"]: row for row in self.rows if row["kind"] == kind}
