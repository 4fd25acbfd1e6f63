"""Two sets of images for comparisons, and feature networks that need no weights."""

import numpy as np
from PIL import Image

from gan_jax import log
from gan_jax.evaluation import comparison, table
from gan_jax.evaluation.options import Options
from gan_jax.interop import inception
from gan_jax.metrics.features import Network
from gan_jax.metrics.metric import CLASSIFIER, INCEPTION
from gan_jax.metrics.registry import chosen
from tests.helpers.one_line import refused_argument

WIDTH = 4
FEW_KID = dict(kid_subsets=5, kid_subset_size=10)
TAPS = ("features", "logits", "spatial", "64", "192", "768")
PHOTOS = np.random.default_rng(0).integers(0, 256, (40, 8, 6, 3)).astype(np.uint8)
OTHERS = np.random.default_rng(1).integers(0, 200, (30, 8, 6, 3)).astype(np.uint8)
LARGE = np.random.default_rng(2).integers(0, 256, (12, 16, 16, 3)).astype(np.uint8)


def mean_colours(images):
    """Mean red, green and blue and the contrast of each image: [n, 4]."""
    rows = [[*image.reshape(-1, image.shape[2]).mean(axis=0), image.std()] for image in images]
    return np.array(rows, np.float32)


def features(images, taps):
    colours = mean_colours(images)
    found = {"features": colours, "spatial": colours[:, :2], "64": 2 * colours}
    found |= {"logits": colours / 10, "192": colours[:, 1:], "768": colours}
    return {tap: found[tap] for tap in taps}


def stand_in(names, mesh, file, file_key, resize, classifier, count):
    """`networks.feature_networks` without weights; `file` is a fingerprint, "" that of the genuine
    ones."""
    widths = {tap: rows.shape[1] for tap, rows in features(PHOTOS[:1], TAPS).items()}
    name, mark = ("unknown", file) if file else (inception.GENUINE, inception.FINGERPRINT)
    made = {INCEPTION: (name, mark, resize), CLASSIFIER: ("classifier of step 3", "c1a5", "none")}
    return {
        kind: Network(*about, widths, features)
        for kind, about in made.items()
        if chosen(names, kind)
    }


def never(*args):
    raise AssertionError("features were computed")


def stand_in_of_known_widths(names, mesh, file, file_key, resize, classifier, count):
    """Networks that may be asked for nothing."""
    widths = dict.fromkeys(TAPS, WIDTH)
    return {
        kind: Network(kind, "c1a5", "none", widths, never, shape=shape)
        for kind, shape in ((INCEPTION, ()), (CLASSIFIER, (8, 6, 3)))
        if chosen(names, kind)
    }


def npz(path, images, **more):
    np.savez(path, images=images, **more)
    return str(path)


def folder(path, images, names=None, ending="png"):
    path.mkdir(parents=True)
    for index, image in enumerate(images):
        name = names[index] if names else f"{index:03}"
        (path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(image.squeeze()).save(path / f"{name}.{ending}")
    return str(path)


def run(real, fake, names="fid", **options):
    """(the result, the lines that are said and those of the table)."""
    lines = []
    with log.sent_to(lines.append):
        result = comparison.compare(real, fake, names.split(","), Options(**options))
    return result, lines + (table.lines(result) if result else [])


def complaint(argument, real, fake, names="fid", **options):
    """The one line with which a comparison refuses the argument."""
    return refused_argument(argument, "", run, real, fake, names, **options)
