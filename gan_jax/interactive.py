"""`gan_jax.experiment`: trains step by step, for notebooks and for one's own loops.

exp = gan_jax.experiment("dcgan_mnist:tiny", optim__gen__lr=1e-4)
for metrics in exp.steps(100):
    print(metrics["loss/gen"])
exp.show()
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from gan_jax import config as configs
from gan_jax.core import loss_scale, train_step
from gan_jax.core.mesh import fetch
from gan_jax.core.system import UNCHANGED, Batch, Changes, Stage, TrainState
from gan_jax.errors import UserError
from gan_jax.report import grids
from gan_jax.run.experiment import Experiment
from gan_jax.run.model import Model, Seeds, seed_numbers

ROWS = 4  # of a translation's grid


def experiment(
    config: str | Path | ConfigDict, changes: Changes = UNCHANGED, **settings: Any
) -> "Interactive":
    """A config as something to train step by step; nothing is written to disk.

    Args:
      config: the name or the file of a config, with its variants after a colon
        ("dcgan_mnist:labels,tiny"), or a config, of which a copy is used.
      changes: parts of the system in place of those that the config describes, by the names of the
        fields of its dataclass. For `gan` (`systems.gan.Gan`) these are for example `gen`, `disc`,
        `adversarial` and `augment`.
      settings: values of the config, with two underscores for each dot: `optim__gen__lr=1e-4`.

    Raises UserError for everything a user can get wrong.
    """
    if isinstance(config, ConfigDict):
        config = config.copy_and_resolve_references()
    else:
        name, _, variant = str(config).partition(":")
        config = configs.load_file(name, variant)
    for name, value in settings.items():
        _set(config, name.replace("__", "."), value)
    return Interactive(Experiment(config, changes=changes))


def _set(config: ConfigDict, key: str, value: Any) -> None:
    """Sets a dotted key. Raises UserError for one that does not exist, or another type."""
    *sections, name = key.split(".")
    section, known = config, "config"
    for part in sections:
        if part not in section or not isinstance(section[part], ConfigDict):
            raise UserError(f"config.{key}: {known} has no section {part!r}")
        section, known = section[part], f"{known}.{part}"
    if name not in section:
        accepted = ", ".join(sorted(section.keys()))
        raise UserError(f"config.{key}: {known} has no {name!r}; accepted are {accepted}")
    try:
        section[name] = value
    except (TypeError, ValueError) as error:
        raise UserError(f"config.{key}={value!r}: {error}") from None


class Interactive:
    """A training that goes on when it is told to.

    `config` and `experiment` say what is trained. `state` holds all arrays; it may be replaced by
    another state of the same shapes. A step takes the arrays of the state before it over, so keep
    a copy (`jax.tree.map(np.array, exp.state)`) of one that is needed later.
    """

    def __init__(self, experiment: Experiment):
        self.experiment, self.config = experiment, experiment.config
        self._train = train_step.train_function(experiment.system, experiment.mesh)
        self._carry = experiment.fresh()
        self._following: tuple = ()  # where the stage of the next batch begins, and its step
        self._batches: Iterator[Batch] = iter(())
        self._model = Model(experiment, self._carry.state, 0, experiment.system.stages[0])

    @property
    def state(self) -> TrainState:
        """The state as it is now: step, networks, averages, optimizers."""
        return self._carry.state

    @state.setter
    def state(self, state: TrainState) -> None:
        self._carry = self._carry._replace(state=self.experiment.mesh.lay(state))

    @property
    def model(self) -> Model:
        """The model of the present state, as `gan_jax.load` gives that of a run.

        At the step between two stages of a growing network it is that of the stage that is over.
        """
        model, stages = self._model, self.experiment.system.stages
        model.state, model.step = self.state, int(self.state.step)
        model.stage = next((s for s in stages if model.step <= s.end), stages[-1])
        return model

    def step(self, batch: Batch | None = None) -> dict[str, float]:
        """One training step; its metrics by name, such as "loss/gen". Of a step whose
        update was skipped, those that are not finite are NaN.

        The batch is the one that a run of the same config would see at this step, or else the given
        one: numpy arrays of the same names and shapes.
        """
        experiment, number = self.experiment, int(self.state.step)
        stage = self._enter(number)
        if batch is None:
            if (stage.start, number) != self._following:
                self._batches = experiment.data("train", stage, number)
            batch, self._following = next(self._batches), (stage.start, number + 1)
        self._carry, metrics = self._train(
            self._carry, experiment.mesh.put(dict(batch)), experiment.key, stage
        )
        found = loss_scale.unmasked(fetch(metrics))
        return {name: float(value) for name, value in found.items()}

    def steps(self, count: int | None = None) -> Iterator[dict[str, float]]:
        """The metrics of `count` steps, each made when it is asked for.

        Without a count it ends where the run of this config would end (`config.run.steps`).
        """
        made = 0
        while int(self.state.step) < self.experiment.last.end if count is None else made < count:
            yield self.step()
            made += 1

    def sample(self, seeds: Seeds = None, **options: Any) -> np.ndarray:
        """Images by the present weights, uint8 [N, H, W, C]; arguments as in `Model.sample`."""
        return self.model.sample(seeds, **options)

    def evaluate(self) -> dict[str, float]:
        """Validation losses by name, such as "val/gen"."""
        return self.model.evaluate()

    def show(self, seeds: Seeds = None, **options: Any) -> Image.Image:
        """A grid of images, which a notebook displays. The arguments are those of `sample`.

        A model that translates is shown with input, output and target in a row.
        """
        if not self.experiment.facts.input_channels:
            return Image.fromarray(grids.grid(self.sample(seeds, **options)))
        numbers = seed_numbers(ROWS if seeds is None else seeds)
        pairs = self.experiment.sample_batch(numbers)
        rows = grids.triples(pairs["input"], self.sample(numbers, **options), pairs["target"])
        return Image.fromarray(grids.grid(rows, columns=3))

    def _enter(self, step: int) -> Stage:
        """The stage of the step after `step`, entered as the training loop does where it begins.

        The last stage goes on for as long as it is asked to. A state that was put back in the
        middle of a stage has entered it before.
        """
        stages = self.experiment.system.stages
        stage = next((s for s in stages if step < s.end), stages[-1])
        if step == stage.start:
            state = self.experiment.system.enter_stage(self.state, stage)
            self._carry = train_step.new_epoch(self._carry._replace(state=state))
        return stage
