"""What a config describes, built once: data, system, devices and the root of random keys."""

import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from gan_jax import config as configs
from gan_jax import data as data_room
from gan_jax.core import grads, optim, tracing, train_step
from gan_jax.core.console import ProgressBar
from gan_jax.core.intervals import Every
from gan_jax.core.mesh import Mesh
from gan_jax.core.sampler import Sampler
from gan_jax.core.system import UNCHANGED, Batch, Changes, Facts, Stage, System
from gan_jax.data import config as config_data
from gan_jax.data import pairs
from gan_jax.data.published import places
from gan_jax.errors import ArgumentError, UserError
from gan_jax.ops.images import to_uint8
from gan_jax.run import class_names
from gan_jax.run import folder as folders

MOST_PIXELS = 2**22  # sampled at once on a device: 64 images of 256 px, 4 of 1024 px
MOST_IMAGES = 64  # sampled at once where the memory is not counted
MOST_COLUMNS = 20  # of a grid that has a column for each class
TITLES = ("input", "output", "target")  # columns of a translation's grid


class Experiment:
    """What a config describes: data, system, mesh and key.

    `config` is the resolved config, `facts` is what the system knows about the data, `mesh` holds
    the devices, and `key` is the root of all random keys.
    """

    def __init__(
        self,
        config: ConfigDict,
        facts: Facts | None = None,
        home: Path | None = None,
        begun: bool = False,
        changes: Changes = UNCHANGED,
        data: data_room.Data | None = None,
        mesh: Mesh | None = None,
    ):
        """
        Args:
          config: resolved in place, see `config.resolve`.
          facts: those of a run that was trained before; its data are then opened only when needed.
          home: the folder of a run that was trained before; the data must be those it was trained
            on.
          begun: whether the config is that of an existing run; options that its networks do not
            have are then ignored instead of refused.
          changes: fields of the system's dataclass, such as `gen` or `adversarial` of
            `systems.gan.Gan`, and what takes their place.
          data: the images that `config` describes, where they have been opened already.
          mesh: other devices than those of this process.

        Raises UserError for a config whose values do not fit each other, the data or the devices.
        """
        configs.prepare(config)
        configs.check(config)
        self.config, self.home = config, home
        self.mesh = mesh or Mesh(config.run.devices, **config.mesh)
        configs.resolve(config, self.mesh.size)
        if data is not None:
            self.data = data
        self.facts = facts or self._measured(self.data)
        built = configs.as_built(config) if begun else config
        made = configs.SYSTEMS[config.system].make(built, self.facts, changes)
        self.system: System = tracing.functions_once(made)
        if not facts:
            stages = self.system.stages
            # too few images: an error before anything compiles
            epochs = [self.data.epoch_steps(stage, self._batch_keys(stage)) for stage in stages]
            more = optim.notices(config.optim, stages, epochs)
            self.system = self.system._replace(notices=(*self.system.notices, *more))
        batch = "config.batch_size (times discriminator steps):"
        module = configs.SYSTEMS[config.system]
        self.mesh.check(self.system.stages, getattr(module, "BATCH", batch))
        if not (begun or facts):  # an earlier run may go on, more slowly
            grads.check_shared(self.system.parts, self.system.stages, self.mesh.size)
        self.key = self.mesh.copy(jax.random.key(config.seed))

    def _batch_keys(self, stage: Stage) -> str:
        """The keys of the config that should be lowered if a stage's batch is too large."""
        named = getattr(configs.SYSTEMS[self.config.system], "BATCH", "").partition(":")[0]
        if named:
            return f"{named} or config.batch_size"
        several = stage.batch_size != self.config.batch_size
        return "config.batch_size" + (" or config.loss.disc_steps" if several else "")

    @functools.cached_property
    def data(self) -> data_room.Data:
        """This process's share of the images.

        Raises UserError if they cannot be found, or are not those the run at `home` was trained on.
        """
        try:
            found = data_room.make(
                self.config.data,
                self.mesh.own_rows,
                seed=self.config.seed,
                workers=self.config.run.workers,
                progress=ProgressBar,
                decoding=self.config.run.decoding,
            )
        except UserError as error:
            named = [places.find(self.config.data[name]) for name in configs.DATA_PATHS]
            if self.home is None or all(os.path.exists(place) for place in named if place):
                raise
            raise ArgumentError("data", f": {error}; name where the run's data are now") from None
        if self.home is not None:
            folders.check_facts(
                self.home, self._measured(found), "restore it, or name where it is now"
            )
        return found

    def _measured(self, data: data_room.Data) -> Facts:
        return Facts(
            data.resolution,
            data.channels,
            data.num_classes,
            data.sizes["train"],
            data.sizes["validation"],
            data.input_channels,
            tuple(data.class_names),
            data.empty_classes,
        )

    @property
    def last(self) -> Stage:
        """The stage that training ends with."""
        return self.system.stages[-1]

    @property
    def measures_quality(self) -> bool:
        """Whether samples are scored during training (config.run.quality_every)."""
        every = Every.parse(self.config.run.quality_every, "config.run.quality_every")
        return self.system.sample_step is not None and every.count > 0

    def batch(self, stage: Stage | None = None) -> Batch:
        """Zeros with the shapes of a global batch of `stage`, by default the first stage."""
        facts, size = self.facts, (stage or self.system.stages[0]).batch_size
        label = {"label": np.zeros((size,), np.int32)}
        image = np.zeros((size, facts.resolution, facts.resolution, facts.channels), np.uint8)
        if not facts.input_channels:
            return {"image": image, **label}
        side = pairs.input_side(config_data.read(self.config.data))
        given = np.zeros((size, side, side, facts.input_channels), np.uint8)
        pair = {"input": given, "target": image}
        return pair | (label if self.config.data.pairs in pairs.LABELLED else {})

    @property
    def stage_starts(self) -> list[int]:
        """The steps at which the stages of training begin."""
        return [stage.start for stage in self.system.stages]

    @functools.cached_property
    def carry(self) -> train_step.TrainCarry:
        """The `TrainCarry` as shapes. Tracing a step for it takes seconds for a large network."""
        return train_step.shapes(self.system, self.key, self.batch())

    def shapes(self) -> dict:
        """The tree that a checkpoint holds, as shapes on this mesh."""
        return self.mesh.shape(self.carry._asdict())

    def lowered_step(self, stage: Stage) -> jax.stages.Lowered:
        """The training step of a run at a stage, lowered from shapes: nothing is compiled yet."""
        skips = self.config.run.on_nonfinite == "skip"
        rows = {
            k: self.mesh.rows(len(v), v.shape[1:], v.dtype) for k, v in self.batch(stage).items()
        }
        carry = train_step.TrainCarry(**self.shapes())
        step = train_step.train_function(self.system, self.mesh, skips)
        return step.lower(carry, rows, self.key, stage)

    def fresh(self) -> train_step.TrainCarry:
        """The `TrainCarry` at step 0, with arrays."""
        return train_step.fresh(self.system, self.mesh, self.key, self.batch(), self.carry)

    def evaluated(self) -> list[str]:
        """Names of the values that validation gives, without running it."""
        size = self.system.stages[0].batch_size
        numbers = np.arange(size, dtype=np.int32)
        batch = {**self.batch(), "valid": np.ones(size, np.float32), "seed": numbers}
        state = self.carry.state
        step = self.system.eval_step
        return sorted(
            jax.eval_shape(lambda s, b, k: step(s, b, k, self.last), state, batch, self.key)
        )

    def sampler(self, chunk: int = 64, step: Callable | None = None, fits: bool = False) -> Sampler:
        """A sampler that calls the system's sample_step, or a task like it, in chunks of images.

        Chunks of large images are smaller, so that sampling takes no more memory than training,
        unless `fits` says that the memory has been counted (run.at_once). A chunk that does not fit
        after all is made in the smaller ones.
        """
        most = self.mesh.size * (MOST_PIXELS // self.facts.resolution**2)
        small = max(min(chunk, most, MOST_IMAGES if fits else chunk), 1)
        options = self.system.sampling_options
        step = step or self.system.sample_step
        return Sampler(step, self.mesh, to_uint8, chunk if fits else small, options, small)

    def sample_batch(self, seeds: Sequence[int], classes: Sequence[int | str] = ()) -> Batch:
        """The batch from which images are sampled: `seed` [N], and `label` [N] or pairs of images.

        The labels are `classes`, by number or name, repeated in turn. If none are given, each seed
        has a class of its own, which does not depend on the other seeds: see `seed_labels`.

        A system that translates gets `input` and `target` instead of labels: for seed n the
        validation pair n, or the training pair n if there are no validation pairs; after the last
        pair the numbers start over. If the system is labelled too, the batch also has the pairs'
        own classes, or `classes` in their place.

        Raises ArgumentError for seeds that are not whole numbers from 0 to 2^31 - 1, and for
        classes that the model does not have.
        """
        seeds = list(seeds)
        whole = all(isinstance(seed, int | np.integer) for seed in seeds)
        if not (seeds and whole) or min(seeds) < 0 or max(seeds) >= 2**31:
            raise ArgumentError(
                "seeds", f": give whole numbers from 0 to {2**31 - 1}, such as 0-63"
            )
        seeds = np.asarray(seeds, np.int32)
        if not self.facts.input_channels:
            own = self.labels(len(seeds), classes) if len(classes) else self.seed_labels(seeds)
            return {"seed": seeds, "label": own}
        if len(classes) and self.config.data.pairs not in pairs.LABELLED:
            raise ArgumentError("classes", ": this model translates images and has no classes")
        replaced = {"label": self.labels(len(seeds), classes)} if len(classes) else {}
        split = "validation" if self.facts.validation_size else "train"
        found = self.data.rows(split, seeds % self.data.sizes[split])
        if not self.system.labelled:
            found.pop("label", None)
        return {"seed": seeds, **found, **replaced}

    @property
    def drawn_classes(self) -> np.ndarray:
        """The classes that are sampled if none are asked for: int32 [K], at least one."""
        return np.asarray(self.facts.drawn_classes, np.int32)

    def seed_labels(self, seeds: np.ndarray) -> np.ndarray:
        """The class that each of `seeds` [N] has if none is asked for: int32 [N]."""
        return self.drawn_classes[np.asarray(seeds) % len(self.drawn_classes)]

    def class_title(self, label: int) -> str:
        """What a class is called: its name, or its number where it has none."""
        return class_names.title(int(label), self.facts.class_names)

    def chosen(self, classes: Sequence[int | str], key: str = "classes") -> list[int]:
        """The numbers of classes given by number or by name.

        Raises ArgumentError, with `key` as the argument's name, for one that does not exist.
        """
        names = self.facts.class_names
        # runs of the first revision sorted their folders as text ("10" before "2"), and in them a
        # number means the class of that number, not the folder of that name
        if self.config.data.reading == "first" and class_names.are_numbers(names):
            names = ()
        return class_names.numbers(classes, names, max(self.facts.num_classes, 1), key)

    def labels(self, count: int, classes: Sequence[int | str], key: str = "classes") -> np.ndarray:
        """`classes`, at least one, by number or by name, repeated in turn: int32 [count].

        Raises ArgumentError, with `key` as the argument's name, for classes that this model does
        not have, or of which there was no training image.
        """
        if not self.system.labelled:
            raise ArgumentError(key, ": this model was trained without classes")
        facts = self.facts
        chosen = self.chosen(classes, key)
        unseen = sorted({*chosen} & {*facts.empty_classes})
        if unseen:
            title = self.class_title(unseen[0])
            raise ArgumentError(key, f": no image of class {title} was trained on; choose others")
        return np.resize(np.asarray(chosen, np.int32), count)

    def grid_batch(self) -> tuple[Batch, tuple[str, ...]]:
        """The batch of the sample grid during training, and the titles of the grid's columns.

        The seeds are the same during the whole run. There is a column for each class if there are
        few classes, or one each for input, output and target; () means a square grid, untitled.
        """
        count = self.config.run.sample_count
        if self.facts.input_channels:
            return self.sample_batch(range(count)), TITLES
        titles: tuple[str, ...] = ()
        if self.system.labelled and len(self.drawn_classes) <= MOST_COLUMNS:
            titles = tuple(map(self.class_title, self.drawn_classes))
            count = max(count // len(titles), 1) * len(titles)
        return self.sample_batch(range(count)), titles
