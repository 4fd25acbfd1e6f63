"""A trained model: loading it, and making images and scores with it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from gan_jax import config as configs
from gan_jax.core import saved_states
from gan_jax.core.job import Progress
from gan_jax.core.sampler import Sampler
from gan_jax.core.system import Batch, Facts, Stage, TrainState
from gan_jax.core.train_step import TrainCarry
from gan_jax.core.validation import EVALUATION, Validator
from gan_jax.errors import ArgumentError, UserError
from gan_jax.run import folder as folders
from gan_jax.run.experiment import Experiment


class Model:
    """A trained model.

    Its `config`, `experiment`, `state`, `step` (of training) and `stage` may be read.
    """

    def __init__(
        self, experiment: Experiment, state: TrainState, step: int, stage: Stage | None = None
    ):
        """`stage` is the one that the state belongs to, by default the last."""
        self.experiment, self.state, self.step = experiment, state, step
        self.stage = stage or experiment.last
        self.config = experiment.config
        self._samplers: dict[tuple[Callable, int], Sampler] = {}

    def sample(
        self,
        seeds: Iterable[int],
        classes: Sequence[int | str] = (),
        truncation: float = 0.0,
        weights: str = "",
    ) -> np.ndarray:
        """One image per seed, uint8 [N, H, W, C]; a seed gives the same image in any batch.

        A model that translates makes image n from the input of validation pair n.

        Args:
          seeds: integers ≥ 0.
          classes: class of each image, by number or name, cycled over the seeds; when empty, seed n
            has the class n modulo the number of classes.
          truncation: latents beyond ± this value are sampled again; 0 for no truncation.
          weights: "ema" or "raw"; when empty, the average of the weights if there is one.

        Raises UserError for classes or weights that this model does not have.
        """
        if self.experiment.system.sample_step is None:
            raise UserError(f"config.system={self.config.system!r} makes no images")
        batch = self.experiment.sample_batch(seeds, classes)
        if truncation and self.experiment.facts.input_channels:
            raise ArgumentError(
                "truncation", f"={truncation}: this model translates, it has no latents"
            )
        if truncation < 0:
            raise ArgumentError("truncation", f"={truncation}: must be above 0, or 0 for none")
        if truncation:
            batch["truncation"] = np.full(len(batch["seed"]), truncation, np.float32)
        return self.images(self.experiment.system.sample_step, batch, weights, len(batch["seed"]))

    def images(self, step: Callable, batch: Batch, weights: str, chunk: int) -> np.ndarray:
        """The images that `step` makes for a batch with `seed` [N]: uint8 [N, H, W, C].

        `step` is a system's sample_step or a task like it. About `chunk` images are made at a time,
        at most 64. `weights` is as in `sample`.
        """
        sampler = self._sampler(step, min(chunk, 64))
        names = sampler.names(self.state, batch, self.stage)
        weights = weights or ("ema" if "ema" in names else names[0])
        if weights not in names:
            raise ArgumentError("weights", f"={weights}: this model has {', '.join(names)}")
        return sampler(self.state, batch, self.stage, (weights,))[weights]

    def standing_statistics(self, batches: int, size: int = 64) -> "Model":
        """A model that samples with batch statistics measured over `batches` batches of `size`
        samples each (Brock et al. 2019).

        Raises UserError for a system without batch statistics.
        """
        task = self.experiment.system.tasks.get("standing_statistics")
        if batches < 1:
            raise ArgumentError("standing_stats", f"={batches}: give a number of batches above 0")
        if task is None:
            raise ArgumentError(
                "standing_stats", ": this system has no batch statistics to measure"
            )
        # seeds far away from those that people ask for, so that these are independent samples
        batch = self.experiment.sample_batch(range(10**9, 10**9 + batches * size))
        parts = {k: v.reshape(batches, size) for k, v in batch.items()}
        run = jax.jit(task.run, static_argnums=3)
        state = run(self.state, parts, jax.random.key(0), self.stage)
        return Model(self.experiment, state, self.step, self.stage)

    def evaluate(self) -> dict[str, float]:
        """Validation losses of this state by name, such as "val/gen"."""
        experiment = self.experiment
        key = jax.random.fold_in(experiment.key, EVALUATION)
        return Validator(experiment.system, experiment.mesh, experiment.data, key)(
            self.state, self.stage
        )

    def features(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Logits [B, K] and features [B, D] of uint8 images [B, H, W, C]; for classifiers only."""
        if not hasattr(self, "_features"):
            run = self.experiment.system.tasks["features"].run
            self._features = jax.jit(run, static_argnums=3)
        out = self._features(self.state, {"image": pixels}, self.experiment.key, self.stage)
        return np.asarray(out["logits"]), np.asarray(out["features"])

    def _sampler(self, step: Callable, chunk: int) -> Sampler:
        # powers of two, so that a handful of compilations serve every number of seeds
        size = 1 << (chunk - 1).bit_length()
        if (step, size) not in self._samplers:
            self._samplers[step, size] = self.experiment.sampler(size, step)
        return self._samplers[step, size]


Adjust = Callable[[Model], Model]  # how a mode changes a model before it uses it


def as_it_is(model: Model) -> Model:
    """The same model: no adjustment."""
    return model


def load(
    workdir: str | Path, state: str = "newest", data: Mapping[str, str] | None = None
) -> Model:
    """The model that a run has trained.

    Args:
      workdir: the run's folder.
      state: "newest" checkpoint, "best" state, or a step as text.
      data: where the run's data are now, by keys of config.data such as {"path": "faces.zip"};
        when empty, they are where the run's config says.

    Raises UserError when there is no such run or state.
    """
    folder = Path(workdir)
    stored = folders.read_config(folder)
    config = configs.typed(stored["config"])
    facts = Facts.read(stored["data"]) if "data" in stored else None
    configs.move_data(config, dict(data or {}))
    config.run.devices = _devices(config, facts)
    # an imported run has seen no data, and runs of the first revision stored no facts
    home = folder if facts and facts.train_size else None
    experiment = Experiment(config, facts, home, begun=True)
    path = folders.state_path(folder, state)
    try:
        tree, meta = saved_states.read(path, experiment.shapes())
    except saved_states.Damaged as error:
        others = {*saved_states.states_in(folder / "checkpoints")} - {int(path.name)}
        remedy = f"; name another state, such as {max(others)}" if others else ""
        raise UserError(f"{path} is damaged ({error}){remedy}") from error
    stage = Progress(**meta).stage_of(experiment.system.stages)
    return Model(experiment, TrainCarry(**tree).state, int(path.name), stage)


def measured(model: Model, config: ConfigDict | None) -> Model:
    """The model together with its data.

    An imported run has seen no data: it gets the data that `config` names or, if that is None, its
    own config. Raises UserError if they cannot be opened, or are of another kind than the model's.
    """
    if model.experiment.facts.train_size:
        return model
    chosen = model.config.copy_and_resolve_references()
    if config is not None:
        with chosen.unlocked():
            chosen.data, chosen.batch_size = config.data, config.batch_size
    try:
        experiment, old = Experiment(chosen, begun=True), model.experiment.facts
    except UserError as error:
        more = "" if config is not None else "; this run was imported: name a config with its data"
        raise UserError(f"{error}{more}") from None
    for name in ("resolution", "channels", "num_classes", "input_channels"):
        found, wanted = getattr(experiment.facts, name), getattr(old, name)
        if found != wanted and (name != "num_classes" or experiment.system.labelled):
            raise ArgumentError(
                "config", f": its data have {name} {found}, this model has {wanted}"
            )
    return Model(experiment, model.state, model.step, model.stage)


def _devices(config: ConfigDict, facts: Facts | None) -> int:
    """The largest number of devices, up to what the run asks for and what there is here, that
    divides its batches."""
    here = len(jax.devices())
    wanted = min(config.run.devices or here, here)
    sizes = [config.batch_size]
    if facts:
        stages = configs.SYSTEMS[config.system].make(configs.as_built(config), facts).stages
        sizes = [stage.batch_size for stage in stages]
    return next(n for n in range(wanted, 0, -1) if not any(size % n for size in sizes))
