"""A trained model: loading it, and making images and scores with it."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from gan_jax import config as configs
from gan_jax.buckets import syncing
from gan_jax.core import job, saved_states
from gan_jax.core.sampler import Sampler
from gan_jax.core.system import Batch, Facts, PyTree, Stage, TrainState
from gan_jax.core.train_step import TrainCarry
from gan_jax.core.validation import EVALUATION, Validator
from gan_jax.errors import ArgumentError, UserError
from gan_jax.run import at_once, latent_walk, memory
from gan_jax.run import folder as folders
from gan_jax.run.experiment import Experiment

Seeds = int | Iterable[int] | None  # how many images, or their numbers
Progress = Callable[[int], None]  # called with the number of images so far
BYTES = 2**26  # of images made at a time
SHOWN = 16  # images that are made if nobody says how many


def unseen(count: int) -> None:
    """A `Progress` that shows nothing."""


def seed_numbers(seeds: int | Iterable[int]) -> Sequence[int]:
    """The seeds themselves: 0, 1, … if only their number is given."""
    return range(seeds) if isinstance(seeds, int | np.integer) else list(seeds)


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
        self._encode: Callable | None = None
        self._samplers: dict[tuple[Callable, int], Sampler] = {}

    def sample(
        self,
        seeds: Seeds = None,
        classes: Sequence[int | str] = (),
        truncation: float = 0.0,
        weights: str = "",
        z: np.ndarray | None = None,
        progress: Progress = unseen,
    ) -> np.ndarray:
        """One image per seed, uint8 [N, H, W, C]; a seed gives the same image in any batch.

        A model that translates makes image n from the input of validation pair n.

        Args:
          seeds: whole numbers ≥ 0, or how many images to make, with seeds 0, 1, …; by default 16
            images, or one for each latent in `z`.
          classes: class of each image, by number or name, cycled over the seeds; when empty, seed n
            has the class n modulo the number of classes.
          truncation: latents beyond ± this value are sampled again; 0 for no truncation.
          weights: "ema", "raw" or such as "ema_0.999"; when empty, the average if there is one.
          z: latents [N, length] in place of those that the seeds draw; `latents` says how many
            numbers one has.
          progress: if there are many images, it is called now and then with the number of those
            that have been made.

        Raises UserError for classes, weights or latents that this model does not have.
        """
        if self.experiment.system.sample_step is None:
            raise UserError(f"config.system={self.config.system!r} makes no images")
        z = None if z is None else self._checked(np.asarray(z))
        if seeds is None:
            seeds = SHOWN if z is None else len(z)
        batch = self.experiment.sample_batch(seed_numbers(seeds), classes)
        if z is not None:
            if len(z) != len(batch["seed"]):
                raise ArgumentError("z", f": {len(z)} latents for {len(batch['seed'])} seeds")
            batch["z"] = z
        if truncation and self.experiment.facts.input_channels:
            raise ArgumentError(
                "truncation", f"={truncation}: this model translates images and has no latents"
            )
        if truncation < 0:
            raise ArgumentError("truncation", f"={truncation}: must be above 0, or 0 for none")
        if truncation:
            batch["truncation"] = np.full(len(batch["seed"]), truncation, np.float32)
        step = self.experiment.system.sample_step
        return self.images(step, batch, weights, len(batch["seed"]), progress)

    @property
    def latents(self) -> int:
        """How many numbers a latent of this model has; 0: it has none."""
        return self.experiment.system.latents

    def _without_latents(self) -> str:
        return f"this model (config.system={self.config.system!r}) has no latents"

    def _checked(self, z: np.ndarray) -> np.ndarray:
        """Latents of a caller as float32 [N, length]; ArgumentError unless they fit the model."""
        if not self.latents:
            raise ArgumentError("z", f": {self._without_latents()}")
        if z.ndim != 2 or z.shape[1] != self.latents or not len(z):
            raise ArgumentError(
                "z", f": has the shape {z.shape}; this model takes [N, {self.latents}]"
            )
        return z.astype(np.float32)

    def images(
        self,
        step: Callable,
        batch: Batch,
        weights: str,
        chunk: int,
        progress: Progress = unseen,
    ) -> np.ndarray:
        """The images that `step` makes for a batch with `seed` [N]: uint8 [N, H, W, C].

        `step` is a system's sample_step or a task like it. About `chunk` images are made at a time,
        as far as memory allows. `weights` and `progress` are as in `sample`.
        """
        of_call = (self.experiment, step, self.state, batch, self.stage)
        sampler = self._sampler(step, at_once.images(*of_call, wanted=chunk))
        if len(batch["seed"]) <= sampler.chunk:
            progress = unseen
        names = sampler.names(self.state, batch, self.stage)
        weights = weights or ("ema" if "ema" in names else names[0])
        if weights not in names:
            raise ArgumentError("weights", f"={weights}: this model has {', '.join(names)}")
        with memory.explained(self.config, memory.of_model):
            return sampler(self.state, batch, self.stage, (weights,), progress)[weights]

    def along(self, cells: Batch, z: np.ndarray, weights: str = "") -> Iterator[np.ndarray]:
        """The images of latents z [frames, N, length], one after the other: uint8 [H, W, C].

        `cells` is a batch of N rows with what else an image is made from, such as its `label`. Many
        images are made at a time.
        """
        facts, (frames, count) = self.experiment.facts, z.shape[:2]
        flat, total = z.reshape(frames * count, -1), frames * count
        chunks = max(BYTES // (64 * facts.resolution**2 * facts.channels), 1)
        size = min(64 * chunks, total)
        for start in range(0, total, size):
            rows = np.arange(start, min(start + size, total))
            batch = {k: v[rows % count] for k, v in cells.items()} | {"z": flat[rows]}
            yield from self.images(self.experiment.system.sample_step, batch, weights, size)

    def interpolate(
        self,
        seeds: Seeds = None,
        frames: int = 60,
        smoothing: float | None = None,
        classes: Sequence[int | str] = (),
        weights: str = "",
    ) -> np.ndarray:
        """A walk through the latents that ends where it began: uint8 [frames, N, H, W, C].

        Args:
          seeds: as in `sample`; each of the N images moves by itself.
          frames: how many steps the walk has.
          smoothing: standard deviation, in frames, of the Gaussian that smooths the latents, at
            most a third of the frames. The higher it is, the more slowly they move. None is 6, or a
            sixth of the frames if that is less.
          classes: as in `sample`.
          weights: as in `sample`.

        Raises UserError for a model without latents and for values that are not accepted.
        """
        if not self.latents:
            raise UserError(self._without_latents())
        smoothing = min(6.0, frames / 6) if smoothing is None else smoothing
        if frames < 1 or not 0 <= smoothing <= frames / 3:
            raise ArgumentError(
                "smoothing",
                f"={smoothing:g} with frames={frames}: give at least 1 frame, and a smoothing from "
                "0 to a third of the frames",
            )
        numbers = seed_numbers(SHOWN if seeds is None else seeds)
        cells = self.experiment.sample_batch(numbers, classes)
        z = latent_walk.latents(cells["seed"], frames, self.latents, smoothing)
        images = np.stack(list(self.along(cells, z, weights)))
        return images.reshape(frames, -1, *images.shape[1:])

    def translate(
        self,
        images: np.ndarray,
        first_seed: int = 0,
        classes: Sequence[int | str] = (),
        weights: str = "",
    ) -> np.ndarray:
        """What the model makes of images uint8 [N, h, w, c]: uint8 [N, H, W, C].

        Pix2pix and WarpGAN translate them, a super-resolution model enlarges them. They must have
        the size and channels that the model takes; `--mode=translate` also resizes whole folders.

        Args:
          images: the inputs.
          first_seed: image i has the seed `first_seed` + i, for what the model draws at random.
          classes: as in `sample`.
          weights: as in `sample`.

        Raises UserError for a model that makes nothing of images, and for inputs that do not fit.
        """
        tasks = self.experiment.system.tasks
        task = next((tasks[name] for name in ("translate", "upsample") if name in tasks), None)
        if task is None:
            raise UserError(
                f"this model (config.system={self.config.system!r}) cannot translate images; use a "
                "run of pix2pix or warpgan, or one that enlarges images"
            )
        batch = self._read(images, task.reads, classes)
        batch["seed"] = np.arange(first_seed, first_seed + len(images), dtype=np.int32)
        return self.images(task.run, batch, weights, len(images))

    def encode(
        self, images: np.ndarray, classes: Sequence[int | str] = (), weights: str = ""
    ) -> np.ndarray:
        """The latents of images uint8 [N, H, W, C], float32 [N, length], for `sample(z=…)`.

        A diffusion model encodes an image as noise by DDIM (Song et al. 2021), from which the
        sampler ddim makes the image again. WarpGAN encodes the style of a drawing.

        Raises UserError for a model that encodes nothing, and for images that do not fit.
        """
        task = self.experiment.system.tasks.get("encode")
        if task is None:
            raise UserError(
                f"this model (config.system={self.config.system!r}) has no encoder; diffusion "
                "models and warpgan have one"
            )
        name = "input" if self.experiment.facts.input_channels else "image"
        batch = self._read(images, name, classes)
        if self._encode is None:
            self._encode = jax.jit(task.run, static_argnums=3)
        made = self._encode(self.state, batch, self.experiment.key, self.stage)
        weights = weights or ("ema" if "ema" in made else next(iter(made)))
        if weights not in made:
            raise ArgumentError("weights", f"={weights}: this model has {', '.join(made)}")
        return np.asarray(made[weights])

    def _read(self, images: np.ndarray, name: str, classes: Sequence[int | str]) -> dict:
        """The batch of a task that reads `images` under `name`. UserError if they do not fit."""
        wanted, images = self.experiment.batch()[name].shape[1:], np.asarray(images)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != wanted:
            raise ArgumentError(
                "images",
                f": {images.dtype} of shape {images.shape}; this model takes uint8 "
                f"[N, {', '.join(map(str, wanted))}]",
            )
        batch = {name: images}
        if self.experiment.system.labelled:
            if not len(classes):
                raise ArgumentError("classes", " are missing: this model makes images of a class")
            batch["label"] = self.experiment.labels(len(images), classes)
        return batch

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

    def evaluate(self, progress: Progress = unseen) -> dict[str, float]:
        """Validation losses of this state by name, such as "val/gen".

        `progress` is called with the number of images that have been taken so far.
        """
        experiment = self.experiment
        key = jax.random.fold_in(experiment.key, EVALUATION)
        validate = Validator(experiment.system, experiment.mesh, experiment.data, key)
        with memory.explained(self.config, memory.of_model):
            return validate(self.state, self.stage, progress)

    def features(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Logits [B, K] and features [B, D] of uint8 images [B, H, W, C]; for classifiers only."""
        if not hasattr(self, "_features"):
            run = self.experiment.system.tasks["features"].run
            self._features = jax.jit(run, static_argnums=3)
        out = self._features(self.state, {"image": pixels}, self.experiment.key, self.stage)
        return np.asarray(out["logits"]), np.asarray(out["features"])

    def _sampler(self, step: Callable, chunk: int) -> Sampler:
        # powers of two, so that a handful of compilations serve every number of seeds
        many = chunk > at_once.few(self.experiment, chunk)
        size = chunk if many else 1 << (chunk - 1).bit_length()
        if (step, size) not in self._samplers:
            self._samplers[step, size] = self.experiment.sampler(size, step, many)
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
      workdir: the run's folder, or its address in a bucket, gs://… or s3://…
      state: "newest" checkpoint, "best" state, or a step as text.
      data: where the run's data are now, by keys of config.data such as {"path": "faces.zip"};
        when empty, they are where the run's config says.

    Raises UserError when there is no such run or state.
    """
    folder = Path(syncing.fetched(workdir))
    stored = folders.read_config(folder)
    config = configs.typed(stored["config"])
    facts = Facts.read(stored["data"]) if "data" in stored else None
    configs.move_data(config, dict(data or {}))
    config.run.devices = _devices(config, facts)
    config.mesh.update(data=0, fsdp=1)  # one device is enough for what a model is used for
    # an imported run has seen no data, and runs of the first revision stored no facts
    home = folder if facts and facts.train_size else None
    experiment = Experiment(config, facts, home, begun=True)
    shapes = experiment.shapes()
    with memory.explained(config, memory.of_model):
        path, (tree, meta) = folders.read_state(folder, state, lambda path: _read(path, shapes))
    stage = job.Progress(**meta).stage_of(experiment.system.stages)
    return Model(experiment, TrainCarry(**tree).state, int(path.name), stage)


def _read(path: Path, shapes: PyTree) -> tuple[PyTree, dict]:
    """(state, meta) from the folder of a state, see `saved_states.read`."""
    try:
        return saved_states.read(path, shapes)
    except saved_states.Damaged as error:
        others = {*saved_states.states_in(path.parent)} - {int(path.name)}
        remedy = f"; name another state, such as {max(others)}" if others else ""
        raise UserError(f"{path} is damaged ({error}){remedy}") from error


def _devices(config: ConfigDict, facts: Facts | None) -> int:
    """The largest number of devices, up to what the run asks for and what there is here, that
    divides its batches, and is the same of each process. If there is none, one of each process."""
    here, processes = len(jax.devices()), jax.process_count()
    wanted = min(config.run.devices or here, here)
    sizes = [config.batch_size]
    if facts:
        stages = configs.SYSTEMS[config.system].make(configs.as_built(config), facts).stages
        sizes = [stage.batch_size for stage in stages]
    numbers = range(wanted - wanted % processes, 0, -processes)
    return next((n for n in numbers if not any(size % n for size in sizes)), processes)
