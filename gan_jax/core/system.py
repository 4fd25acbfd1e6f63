"""The contract between the engine and a system, in types.

A system is a handful of pure functions over arrays. The engine folds the step into the random key
before it calls them, so what happens at a step is a function of (seed, step) and no system ever
sees a seed.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from flax import struct

from gan_jax.errors import one_of

PyTree = Any
Model = TypeVar("Model")  # the frozen dataclass of a system
Array = jax.Array
# "image" uint8 [B, H, W, C], "label" int32 [B], "seed" int32 [N]; of pairs "input" and "target"
Batch = Mapping[str, Any]
Metrics = dict[str, Array]  # flat, scalars, global means: "loss/gen", "grad_norm/disc"
Images = dict[str, Array]  # [N, H, W, C] in [-1, 1]
Scores = dict[str, float]  # by name, such as "val/loss"


@dataclass(frozen=True)
class Stage:
    """A static jit argument: one compilation per (resolution, batch_size).

    `batch_size` is the number of training images that one step takes, over all devices; a system
    with n critic steps per generator step takes n times its mini-batch. The other fields do not
    take part in comparison, so stages that differ only in them share one compilation: a step reads
    its place from `state.step` alone. `start` and `steps` are in training steps; `ticks` numbers
    from 1 the steps at which a system with a rhythm of its own asks for an evaluation.
    """

    resolution: int
    batch_size: int
    start: int = field(compare=False)
    steps: int = field(compare=False)
    ticks: Mapping[int, int] = field(compare=False, default_factory=dict)

    @property
    def end(self) -> int:
        """The step at which the stage is over."""
        return self.start + self.steps


# (split, stage, step) → the batches of that stage that come after `step`
Data = Callable[[str, Stage, int], Iterator[Batch]]


@struct.dataclass
class Net:
    """One trainable network: parameters, batch statistics ({} when none), optimizer arrays."""

    params: PyTree
    stats: PyTree
    opt: PyTree


@struct.dataclass
class TrainState:
    """What a training step takes and returns. Arrays only: no functions, config or random keys."""

    step: Array  # int32 []
    nets: dict[str, Net]
    extra: PyTree  # a system's own arrays
    validation: Array  # float32 [2]: last value of the best metric, number of values seen so far


class Task(NamedTuple):
    """Something that only some systems can do; `launch.py --mode=<name>` finds it by its name.

    `run(state, batch, key, stage)` takes arrays and returns a dict of arrays or, if `transforms` is
    true, a TrainState to sample from in place of the given one. If `reads` is not empty, the batch
    holds the images of --input under that name and also `seed`, and the task returns images. `uses`
    names the nets that the task needs.
    """

    run: Callable[..., Any]
    description: str
    options: Mapping[str, Any] = {}
    transforms: bool = False
    reads: str = ""
    uses: tuple[str, ...] = ()


class System(NamedTuple):
    """Pure functions; every one takes the stage as its last, static argument.

    init:        (key, batch, stage) → TrainState
    train_step:  (state, batch, key, stage) → (TrainState, Metrics)
    eval_step:   (state, batch, key, stage) → dict of per-example values [B]; the batch holds
                 `valid` [B], 0 for rows that only pad it, and `seed` [B], each image's number in
                 the validation set: random values for an image are functions of that number
    sample_step: (state, batch, key, stage) → Images; the batch holds `seed` [N] and whatever else
                 the system makes its samples from (`label`, `input`, …)
    enter_stage: (state, stage) → TrainState
    tasks:       what only this system can do
    """

    stages: tuple[Stage, ...]
    init: Callable[..., TrainState]
    train_step: Callable[..., tuple[TrainState, Metrics]]
    eval_step: Callable[..., dict[str, Array]]
    sample_step: Callable[..., Images] | None  # None: a system that makes no images
    enter_stage: Callable[[TrainState, Stage], TrainState] = lambda state, stage: state
    tasks: Mapping[str, Task] = {}
    rates: Mapping[str, Callable[[Array], Array]] = {}  # learning rate of each net at a step
    labelled: bool = False  # whether samples are made for a class, given as `label` [N]
    latents: int = 0  # length of `z` [N, latents], which a sampling batch may bring; 0: none
    parts: int = 1  # that a training step computes its batch in; devices share each of them
    notices: tuple[str, ...] = ()  # lines a person should read before training starts
    compiler_options: Mapping[str, str] | None = None  # of XLA, for the training step
    sampling_options: Mapping[str, str] | None = None  # of XLA, for sampling


class Facts(NamedTuple):
    """What a system needs to know about the data: sizes and class names, but no images."""

    resolution: int
    channels: int
    num_classes: int  # 0: no labels
    train_size: int
    validation_size: int = 0
    input_channels: int = 0  # of pairs; 0: single images
    class_names: tuple[str, ...] = ()  # (): not known, as for runs of earlier revisions
    empty_classes: tuple[int, ...] = ()  # classes without training images; they are not sampled

    @property
    def drawn_classes(self) -> tuple[int, ...]:
        """The classes that have training images; (0,) without labels."""
        known = range(max(self.num_classes, 1))
        return tuple(label for label in known if label not in self.empty_classes)

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> "Facts":
        """Facts from JSON values, in which tuples are lists; missing values are the defaults."""
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


Changes = Mapping[str, Any]  # fields of a system's dataclass and their new values
UNCHANGED: Changes = MappingProxyType({})


def changed(model: Model, changes: Changes) -> Model:
    """A system's dataclass, such as `systems.gan.Gan`, with other values for some of its fields.

    So a loss or a network can be exchanged from outside. Raises UserError for a name that is no
    field.
    """
    accepted = [field.name for field in dataclasses.fields(model)]
    for name in changes:
        one_of("changes", name, accepted)
    return dataclasses.replace(model, **changes)


def new_state(nets: dict[str, Net], extra: PyTree | None = None) -> TrainState:
    """The state at step 0. No validation value has been seen: (inf, 0)."""
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        nets=nets,
        extra={} if extra is None else extra,
        validation=jnp.array([jnp.inf, 0.0], jnp.float32),
    )
