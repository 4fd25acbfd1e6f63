"""A trained model, as code that wants images sees it."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from gan_jax import config as configs
from gan_jax.core import checkpoint, loop, optim
from gan_jax.core.mesh import fetch
from gan_jax.core.sampler import Sampler
from gan_jax.core.system import Batch, Facts, Stage, System, TrainState
from gan_jax.data import config as config_data
from gan_jax.data import pairs
from gan_jax.errors import UserError
from gan_jax.interop import guided_diffusion, pix2pix, progan_file, restore, warpgan
from gan_jax.interop.formats import tf_checkpoint
from gan_jax.run import folder as folders
from gan_jax.run.experiment import Experiment


class Model:
    """A trained model. `config`, `step`, `experiment` and `state` are there to look at."""

    def __init__(
        self, experiment: Experiment, state: TrainState, step: int, stage: Stage | None = None
    ):
        """`stage`: the one that the state is of; the last one where none is given."""
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
        """One image per seed, uint8 [N, H, W, C]; the same seed is the same image in any batch.

        A model that translates makes them of the inputs of its validation images, in order.

        Args:
          seeds: integers ≥ 0.
          classes: class of each image, by number or name, cycled over the seeds; when empty, seed n
            draws the class n modulo the number of classes.
          truncation: latents beyond ± this value are drawn again; 0 for none.
          weights: "ema" or "raw"; averaged ones where there are any when empty.

        Raises UserError for classes or weights this model does not have.
        """
        if self.experiment.system.sample_step is None:
            raise UserError(f"config.system={self.config.system!r} makes no images")
        batch = self.experiment.sample_batch(seeds, classes)
        if truncation and self.experiment.facts.input_channels:
            raise UserError(f"--truncation={truncation}: this model translates, it has no latents")
        if truncation < 0:
            raise UserError(f"--truncation={truncation}: must be above 0, or 0 for none")
        if truncation:
            batch["truncation"] = np.full(len(batch["seed"]), truncation, np.float32)
        return self.images(self.experiment.system.sample_step, batch, weights, len(batch["seed"]))

    def images(self, step: Callable, batch: Batch, weights: str, chunk: int) -> np.ndarray:
        """What `step`, like a system's sample_step, draws for a batch with `seed` [N]: uint8
        [N, H, W, C], at most 64 and about `chunk` at a time."""
        sampler = self._sampler(step, min(chunk, 64))
        names = sampler.names(self.state, batch, self.stage)
        weights = weights or ("ema" if "ema" in names else names[0])
        if weights not in names:
            raise UserError(f"--weights={weights}: this model has {', '.join(names)}")
        return sampler(self.state, batch, self.stage, (weights,))[weights]

    def standing_statistics(self, batches: int, size: int = 64) -> "Model":
        """A model that samples with batch statistics measured over `batches` batches of samples."""
        task = self.experiment.system.tasks.get("standing_statistics")
        if batches < 1:
            raise UserError(f"--standing_stats={batches}: give a number of batches above 0")
        if task is None:
            raise UserError("--standing_stats: this system has no batch statistics to measure")
        # seeds far from those people ask for
        batch = self.experiment.sample_batch(range(10**9, 10**9 + batches * size))
        parts = {k: v.reshape(batches, size) for k, v in batch.items()}
        run = jax.jit(task.run, static_argnums=3)
        state = run(self.state, parts, jax.random.key(0), self.stage)
        return Model(self.experiment, state, self.step, self.stage)

    def evaluate(self) -> dict[str, float]:
        """Validation losses of this state."""
        experiment = self.experiment
        key = jax.random.fold_in(experiment.key, loop.EVALUATION)
        return loop.Validator(experiment.system, experiment.mesh, experiment.data, key)(
            self.state, self.stage
        )

    def features(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Logits [B, K] and features [B, D] of uint8 images, for a classifier."""
        if not hasattr(self, "_features"):
            run = self.experiment.system.tasks["features"].run
            self._features = jax.jit(run, static_argnums=3)
        out = self._features(self.state, {"image": pixels}, self.experiment.key, self.stage)
        return np.asarray(out["logits"]), np.asarray(out["features"])

    def _sampler(self, step: Callable, chunk: int) -> Sampler:
        # powers of two: a handful of compilations serve every number of seeds
        size = 1 << (chunk - 1).bit_length()
        if (step, size) not in self._samplers:
            self._samplers[step, size] = self.experiment.sampler(size, step)
        return self._samplers[step, size]


Adjust = Callable[[Model], Model]  # what a mode does to a model before it uses it


def as_it_is(model: Model) -> Model:
    """The same model: no adjustment."""
    return model


def load(
    workdir: str | Path, which: str = "newest", places: Mapping[str, str] | None = None
) -> Model:
    """The model that a run has trained.

    Args:
      workdir: the run's folder.
      which: "newest" checkpoint, "best" state, or a step as text.
      places: where the run's data are now, by keys of config.data such as {"path": "faces.zip"};
        where it recorded them when empty.

    Raises UserError when there is no such run or state.
    """
    folder = Path(workdir)
    stored = folders.read_config(folder)
    config = configs.typed(stored["config"])
    facts = Facts.read(stored["data"]) if "data" in stored else None
    configs.move_data(config, dict(places or {}))
    config.run.devices = _devices(config, facts)
    # an imported run has seen no data, and of one from before facts were kept nothing is known
    home = folder if facts and facts.train_size else None
    experiment = Experiment(config, facts, home, begun=True)
    path = folders.state_path(folder, which)
    try:
        tree, meta = checkpoint.read(path, experiment.shapes())
    except checkpoint.Damaged as error:
        others = {*checkpoint.states_in(folder / "checkpoints")} - {int(path.name)}
        remedy = f"; name another, such as --state={max(others)}" if others else ""
        raise UserError(f"{path} is damaged ({error}){remedy}") from error
    stage = experiment.system.stages[max(loop.Progress(**meta).stage, 0)]
    return Model(experiment, loop.Carry(**tree).state, int(path.name), stage)


def measured(model: Model, config: ConfigDict | None) -> Model:
    """The model beside its data. Those of an imported run, which has seen none, are what `config`
    says, or where there is none the run's own config.

    Raises UserError where there are no such data, or of another kind than the model's.
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
        more = "" if config is not None else "; this run was imported: a --config names its data"
        raise UserError(f"{error}{more}") from None
    for name in ("resolution", "channels", "num_classes", "input_channels"):
        found, wanted = getattr(experiment.facts, name), getattr(old, name)
        if found != wanted and (name != "num_classes" or experiment.system.labelled):
            raise UserError(f"--config: its data have {name} {found}, this model has {wanted}")
    return Model(experiment, model.state, model.step, model.stage)


def _devices(config: ConfigDict, facts: Facts | None) -> int:
    """As many devices as the run asks for, as far as they are here and divide its batches."""
    here = len(jax.devices())
    wanted = min(config.run.devices or here, here)
    sizes = [config.batch_size]
    if facts:
        stages = configs.SYSTEMS[config.system].make(configs.as_built(config), facts).stages
        sizes = [stage.batch_size for stage in stages]
    return next(n for n in range(wanted, 0, -1) if not any(size % n for size in sizes))


def opened(
    workdir: str | Path,
    which: str,
    config: ConfigDict | None,
    uses: Callable[[System], Sequence[str]],
    mode: str,
    say=print,
    places: Mapping[str, str] | None = None,
) -> Model:
    """The model of a run, or without `workdir` that of a config whose `restore` names weights.

    `places`: where the run's data are now, of a model that translates them; see `load`.
    """
    if str(workdir):
        model = load(workdir, which, places)
        if places and not model.experiment.facts.input_channels:
            raise UserError("--data: this model draws images without the run's data; leave it out")
        return model
    if config is None:
        raise UserError(
            f"--workdir is missing: --mode={mode} needs the folder of a run, or a --config whose "
            "config.restore names weights"
        )
    return from_config(config, uses, say)


def from_config(config: ConfigDict, uses: Callable[[System], Sequence[str]], say=print) -> Model:
    """A model that was not trained here: networks of a config, weights that its `restore` names.

    `uses`: which nets of the system must have been named. Raises UserError where one is not, or
    weights do not fit. The config is changed: it has no data of its own any more.
    """
    config.data.update(source="synthetic", path="", name="", path_b="")
    config.data.update(validation_path="", validation_path_b="", validation_split="")
    if config.data.pairs == "folders":
        config.data.pairs = "side_by_side"
    config.run.devices = 1
    configs.prepare(config)
    configs.check(config)
    options = config_data.read(config.data)
    # what the data would tell: here the shapes of images count, nothing else
    channels = 1 if options.channels == "grey" else 3
    inputs = pairs.channels(options, channels)
    size = max(config.batch_size, 1)
    held = [_networks(source) for source, _ in config.restore.values() if source]
    classes = max((found.classes for found in held if found), default=0)
    classes = max([classes, *map(_classes, (source for source, _ in config.restore.values()))])
    facts = Facts(options.resolution, channels, classes, size, input_channels=inputs)
    experiment = Experiment(config, facts)
    for net in uses(experiment.system):
        if not config.restore[net][0]:
            raise UserError(
                "--workdir is missing: name the folder of a run, or a file with weights, such as "
                f"--config.restore.{net}=\"('net.pth', '*')\""
            )
    carry = experiment.fresh()
    state = with_restored(experiment, carry, say).state
    # what depends on the place in training is as after its end, at the full size
    state = state.replace(step=experiment.mesh.copy(np.int32(experiment.last.end + 1)))
    stage = dataclasses.replace(experiment.last, resolution=facts.resolution)
    return Model(experiment, state, 0, stage)


def _networks(source: str) -> progan_file.Networks | None:
    """What a network file of the original ProGAN holds; None for other sources."""
    return progan_file.networks(source) if source.endswith(".pkl") else None


def _classes(source: str) -> int:
    """How many classes a network of guided-diffusion or WarpGAN knows; 0 for other sources."""
    if prefix := tf_checkpoint.find(source):
        return warpgan.identities(warpgan.shapes(prefix))
    if not source.endswith((".pt", ".pth")) or not Path(source).is_file():
        return 0
    tensors = guided_diffusion.state_dict(source)
    if guided_diffusion.identify(tensors) is None:
        return 0
    told = guided_diffusion.architecture(tensors)
    return told["num_classes"] or told.get("outputs", 0)


def _kind(source: str, arrays: Iterable[str]) -> str:
    """Whose network a source holds, as far as that is known."""
    if prefix := tf_checkpoint.find(source):
        return warpgan.identify(warpgan.shapes(prefix))
    return pix2pix.family(arrays)


def _check_networks(
    found: progan_file.Networks, experiment: Experiment, key: str, source: str
) -> None:
    """UserError where a file's networks are others than the config's: layers of some sides would
    fit all the same."""
    wrong = progan_file.differences(found, experiment.facts, experiment.config.model)
    if wrong:
        raise UserError(
            f"{key}: {source} holds networks with {', '.join(wrong)}; set these, or name another "
            "file"
        )


def with_restored(experiment: Experiment, carry: loop.Carry, say) -> loop.Carry:
    """config.restore: weights of a net from another run or file, by globs, at the start."""
    nets = dict(carry.state.nets)
    for name, (source, pattern) in experiment.config.restore.items():
        if not source:
            continue
        key = f"config.restore.{name}"
        if found := _networks(source):
            _check_networks(found, experiment, key, source)
        arrays = folders.arrays(source, name, key)
        params, stats, report = restore.replace(
            arrays, pattern, fetch(nets[name].params), fetch(nets[name].stats), key, source,
            kind=_kind(source, arrays),
        )  # fmt: skip
        for line in report:
            say(line)
        nets[name] = optim.restarted(
            nets[name], experiment.mesh.copy(params), experiment.mesh.copy(stats)
        )
    return carry._replace(state=carry.state.replace(nets=nets))
