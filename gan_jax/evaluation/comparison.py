"""`--mode=metrics`: the figures of any two sets of images.

python launch.py --mode=metrics --real=DIR --fake=samples.npz --metrics=fid,kid
python launch.py --mode=metrics --real=DIR --metrics=fid --save_stats=real.npz
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from gan_jax.core.mesh import Mesh
from gan_jax.core.writer import clock
from gan_jax.data.image_set import ImageSet, open_set
from gan_jax.data.sources.decode import DEEP_BITS
from gan_jax.data.sources.listing import are_numbers
from gan_jax.errors import UserError
from gan_jax.evaluation import networks as judges
from gan_jax.evaluation.networks import CHUNK
from gan_jax.files import check_file, write_bytes, writing
from gan_jax.interop import inception, statistics
from gan_jax.metrics.features import Images
from gan_jax.metrics.gather import Kept, gather
from gan_jax.metrics.paired import PAIRED, paired
from gan_jax.metrics.registry import CLASSIFIER, INCEPTION, METRICS, PIXELS, Settings, describe
from gan_jax.metrics.sets import enough, figures, patched, plan, spread
from gan_jax.metrics.shapes import Shapes, in_words
from gan_jax.ops.frechet import Moments
from gan_jax.run.model import load

DEFAULTS = Settings()
TELL_EVERY = 15.0  # seconds between two lines of progress


def run(
    real: str,
    fake: str,
    names: Sequence[str],
    *,
    file: str = "",
    resize: str = "tf1",
    classifier: str = "",
    lpips: str = "",
    count: int = 0,
    deep_bits: int = DEEP_BITS,
    settings: Settings = DEFAULTS,
    save_stats: str = "",
    out: str = "",
    say=print,
) -> dict[str, Any]:
    """Compares two sets, prints a table and JSON, and returns what the JSON holds.

    Args:
      real, fake: what data/image_set.py opens; `real` also an npz of statistics.
      names: metrics, of METRICS and PAIRED. Pairs are of equal names, or of equal places.
      file, resize: weights of the Inception network, and how images come to its size.
      classifier: the run of a classifier, for metrics that judge by one.
      lpips: its weights.
      count: at most so many images of each set, spread evenly; 0 for all.
      deep_bits: how many bits grey files of 16 bits use, 9 to 16.
      save_stats: a file for what the metrics need of the real set. `fake` may be empty then.
      out: a file for the JSON.

    Raises UserError for everything a user can get wrong.
    """
    names = tuple(names)
    for file_out, key in ((out, "--out"), (save_stats, "--save_stats")):
        if file_out:
            check_file(file_out, key)
    judges.check_names(names, "--metrics", PAIRED)
    judges.check_resize(resize, "--resize")
    _check_settings(settings, count)
    if not 9 <= deep_bits <= DEEP_BITS:
        raise UserError(f"--deep_bits={deep_bits}: must be 9..{DEEP_BITS}")
    sides = _open(real, fake, names, count, save_stats, deep_bits)
    perceptual, lpips_name = judges.perceptual(names, lpips, "--lpips")
    networks = judges.networks(
        names, Mesh(), file, "--inception", resize, lambda: _classifier(classifier),
        max(len(images) for images in (sides.real, sides.fake) if images is not None),
    )  # fmt: skip
    for key, images in (("--real", sides.real), ("--fake", sides.fake)):
        for remark in images.remarks if images else ():
            say(f"{key}: {remark}")
    about = {key: describe(network, names) for key, network in networks.items()}
    with judges.complaints("--metrics", few="; --few gives it nevertheless"):
        n_real, values, notes = _measure(
            sides, names, networks, about, settings, perceptual, save_stats, say
        )
    if not sides.fake:
        return {}
    result = {
        "figures": values,
        "n_real": n_real or None,
        "n_fake": len(sides.fake),
        "real": real,
        "fake": fake,
        **({"networks": about} if about else {}),
        **({"lpips": lpips_name} if lpips_name else {}),
        **settings.said(),
        "dtype": "float32 features, float64 statistics",
        "notes": notes,
    }
    if jax.process_index() > 0:
        return result
    _show(result, say)
    say(json.dumps(result))
    if out:
        with writing(Path(out), kind="file"):
            write_bytes(out, (json.dumps(result, indent=2) + "\n").encode())
    return result


class _Sides(NamedTuple):
    """What is compared: sets of images, or on the real side a file of statistics."""

    real: ImageSet | None
    fake: ImageSet | None
    stored: str


def _open(
    real: str, fake: str, names: tuple[str, ...], count: int, save_stats: str, bits: int
) -> _Sides:
    if not fake and not save_stats:
        raise UserError("--fake is missing: name a folder, a .zip, an .npz or tfds:NAME")
    by_pairs = [name for name in names if name in PAIRED]
    needed = by_pairs or save_stats or any(METRICS[name].of_real for name in names)
    stored = bool(real) and statistics.holds_statistics(real)
    if stored and (by_pairs or save_stats):
        need = f"--metrics={','.join(by_pairs)}" if by_pairs else "--save_stats"
        raise UserError(f"--real={real} holds statistics: {need} needs images")
    if save_stats and not any(METRICS[n].of_real for n in names if n in METRICS):
        raise UserError("--save_stats: these metrics keep nothing of the real images")
    read = needed and not stored
    real_set = open_set(real, "--real", count, bits) if read else None
    fake_set = open_set(fake, "--fake", count, bits) if fake else None
    by_class = any(METRICS[name].by_class for name in names if name in METRICS)
    for title, images in (("real", real_set), ("fake", fake_set)):
        if by_class and images and images.labels is None:
            raise UserError(
                f"--{title}={images.title}: has no labels, which a metric by class needs"
                + (f" ({images.unlabelled})" if images.unlabelled else "")
            )
    if real_set and fake_set and by_class:
        _check_classes(real_set, fake_set)
    if real_set and fake_set and by_pairs:
        _check_pairs(real_set, fake_set)
    return _Sides(real_set, fake_set, real if stored else "")


def _measure(
    sides: _Sides,
    names,
    networks,
    about: dict,
    settings: Settings,
    perceptual,
    save_stats: str,
    say,
) -> tuple[int, dict[str, float], list[str]]:
    """Number of real images, figures and notes; keeps the statistics that were asked for."""
    real, fake, stored = sides
    by_sets = [name for name in names if name in METRICS]
    by_pairs = [name for name in names if name in PAIRED]
    shapes = Shapes(by_sets, networks)
    shapes.look_ahead(real, fake)
    if by_pairs and fake:
        next(_pairs(fake, real))
    values, notes = {}, []
    kept_real: dict[str, Kept] = {}
    n_real = len(real) if real else 0
    if by_sets:
        if stored:
            kept_real, n_real, notes = _stored(stored, by_sets, networks, about)
        class_names = (real or fake).class_names
        if fake:
            labels = (real.labels if real else None, fake.labels)
            notes += plan(by_sets, n_real, len(fake), networks, settings, labels, class_names)
        else:
            enough(by_sets, n_real, 0, settings)
        rows = patched(n_real, len(fake) if fake else n_real)
        if not stored:
            kept_real = _gathered(real, by_sets, networks, settings, rows, shapes, True, say)
        if save_stats:
            _save(save_stats, kept_real, about, n_real, settings, say)
        if fake:
            kept_fake = _gathered(fake, by_sets, networks, settings, rows, shapes, False, say)
            values, more = figures(by_sets, kept_real, kept_fake, networks, settings, class_names)
            notes = list(dict.fromkeys([*notes, *more]))
    if by_pairs and fake:
        values |= paired(by_pairs, _pairs(fake, real), perceptual)
    return n_real, values, notes


def _check_settings(settings: Settings, count: int) -> None:
    if settings.seed >= 2**32:
        raise UserError(f"--seed={settings.seed}: must be below {2**32}")
    for name, value, lowest in (
        ("count", count, 0),
        ("kid_subsets", settings.kid_subsets, 1),
        ("kid_subset_size", settings.kid_subset_size, 2),
        ("splits", settings.splits, 1),
        ("seed", settings.seed, 0),
    ):
        if value < lowest:
            raise UserError(f"--{name}={value}: must be at least {lowest}")


def _classifier(folder: str):
    if not folder:
        raise UserError(
            "--classifier is missing: these metrics judge by a classifier; name the folder of its "
            "run (configs/classifier_mnist.py trains one)"
        )
    return load(folder)


def _check_classes(real: ImageSet, fake: ImageSet) -> None:
    """UserError where a class has two numbers: sub-folders are numbered by their names, so one
    that only one set has moves the others."""
    a, b = real.class_names, fake.class_names
    moved = sorted(name for name in set(a) & set(b) if a.index(name) != b.index(name))
    # the labels of an npz are numbers, whatever the classes are called elsewhere
    words = not any(are_numbers(s.class_names) and not s.names for s in (real, fake))
    unlike = moved + (sorted(set(a) ^ set(b)) if words else [])
    if unlike:
        more = f" and {len(unlike) - 10} more" if len(unlike) > 10 else ""
        raise UserError(
            "--real and --fake: a metric by class needs the same classes in both, and these are "
            f"not or have other numbers: {', '.join(unlike[:10])}{more}"
        )


def _gathered(
    images: ImageSet | None,
    names,
    networks,
    settings: Settings,
    rows: int,
    shapes: Shapes,
    real: bool,
    say,
) -> dict[str, Kept]:
    title = "real" if real else "fake"
    if real and not any(METRICS[name].of_real for name in names):
        return {}
    batches = _with_classes(images, shapes.of(images, real))
    return gather(
        batches, names, networks, settings.seed, real, spread(len(images), rows),
        _progress(title, len(images), say),
    )  # fmt: skip


def _with_classes(
    images: ImageSet, check: Callable[[int, Images], None]
) -> Iterator[tuple[Images, np.ndarray | None]]:
    start = 0
    for batch in images.batches(CHUNK):
        check(start, batch)
        labels = None if images.labels is None else images.labels[start : start + len(batch)]
        yield batch, labels
        start += len(batch)


def _progress(title: str, total: int, say):
    began = told = time.time()

    def done(count: int) -> None:
        nonlocal told
        now = time.time()
        if now - told >= TELL_EVERY and count < total:
            told = now
            left = (now - began) / count * (total - count)
            rate = count / (now - began)
            say(f"{title}: {count:,} of {total:,} images, {rate:.1f} a second, {clock(left)} left")

    return done


def _check_pairs(real: ImageSet, fake: ImageSet) -> None:
    """UserError where the images of two sets are not pairs: by name where both have names."""
    if real.names and fake.names:
        alone = sorted(set(real.names) ^ set(fake.names))
        if alone:
            more = f" and {len(alone) - 10} more" if len(alone) > 10 else ""
            raise UserError(
                f"--real and --fake are compared in pairs of equal file names, and these have no "
                f"partner: {', '.join(alone[:10])}{more}"
            )
    if len(real) != len(fake):
        raise UserError(
            f"--real and --fake are compared in pairs: {len(real)} and {len(fake)} images"
        )


def _pairs(fake: ImageSet, real: ImageSet) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches of pairs of one shape. UserError that names the first two that are not."""
    start = 0
    for made, wanted in zip(fake.batches(CHUNK), real.batches(CHUNK), strict=True):
        for row, (x, y) in enumerate(zip(made, wanted, strict=True), start):
            if x.shape != y.shape:
                raise UserError(
                    f"--real and --fake are compared in pairs of one shape: {real.file(row)} is "
                    f"{in_words(y.shape)}, {fake.file(row)} is {in_words(x.shape)}; bring both "
                    "sets to one size and as many channels"
                )
        start += len(made)
        if isinstance(made, np.ndarray) and isinstance(wanted, np.ndarray):
            yield made, wanted
        else:
            yield from ((x[None], y[None]) for x, y in zip(made, wanted, strict=True))


def _save(path: str, kept: dict[str, Kept], about: dict, count: int, settings: Settings, say):
    moments = {
        (network, tap): (m.mean, m.cov)
        for network, k in kept.items()
        for tap, m in k.moments.items()
        if isinstance(tap, str)
    }
    rows = {(n, tap): array for n, k in kept.items() for tap, array in k.features.items()}
    if not moments and not rows:
        raise UserError("--save_stats: these metrics keep nothing of the real images")
    if jax.process_index() > 0:
        return
    meta = {"n_real": count, "networks": about, "seed": settings.seed}
    with writing(Path(path), "--save_stats", "file"):
        statistics.write(Path(path), moments, rows, meta)
    say(f"statistics of {count:,} real images in {path}")


def _stored(path: str, names, networks, about: dict) -> tuple[dict[str, Kept], int, list[str]]:
    """What --save_stats or another program has kept, if the metrics find what they need."""
    moments, rows, meta = statistics.read(path)
    notes = []
    for network, described in about.items():
        description = {k: v for k, v in described.items() if k != "logits"}
        ours = meta.get("networks", {}).get(network)
        if not meta and network == INCEPTION:
            # other programs do not say; there is only one network that they use
            ours = description | {"network": inception.GENUINE, "weights": inception.FINGERPRINT}
            notes.append(
                f"{path} does not say how it was made: taken as {inception.GENUINE}, resize "
                f"{description['resize']}"
            )
        if {k: v for k, v in (ours or {}).items() if k != "logits"} != description:
            raise UserError(
                f"--real={path} was made with {_words(ours)}, the fakes would be judged with "
                f"{_words(description)}: such figures are not comparable"
            )
    kept = {network: Kept() for network in (INCEPTION, CLASSIFIER, PIXELS)}
    count = int(meta.get("n_real", 0))
    for name in names:
        metric = METRICS[name]
        if not metric.of_real:
            continue
        for tap in metric.moments:
            place = (metric.network, tap)
            if metric.by_class or place not in moments:
                raise _lacking(path, name)
            found, width = moments[place][0].size, networks[metric.network].widths[tap]
            if found != width:
                raise UserError(
                    f"--real={path}: holds moments of {found} features where metric {name!r} "
                    f"compares {width}; keep the statistics again"
                )
            kept[metric.network].moments[tap] = Moments.of(*moments[place], count)
        for tap in metric.features:
            if (metric.network, tap) not in rows:
                raise _lacking(path, name)
            kept[metric.network].features[tap] = rows[metric.network, tap]
        if metric.network == PIXELS:
            raise _lacking(path, name)
    return kept, count, notes


def _lacking(path: str, name: str) -> UserError:
    metric = METRICS[name]
    saved = not metric.by_class and metric.network != PIXELS
    again = f", or keep their statistics again with --metrics={name} --save_stats" if saved else ""
    return UserError(
        f"--real={path} does not hold what metric {name!r} needs of the real images; name the "
        f"images{again}"
    )


def _words(description: dict | None) -> str:
    if not description:
        return "no such network"
    return "{network} ({weights}), resize {resize}".format(**description)


def _show(result: dict, say) -> None:
    """The table: a figure and its deviation on one line."""
    values = result["figures"]
    shown = {name: value for name, value in values.items() if not name.endswith("_std")}
    width = max(map(len, shown))
    for name, value in shown.items():
        spread = f" ± {values[f'{name}_std']:.5g}" if f"{name}_std" in values else ""
        say(f"{name:{width}}  {value:.6g}{spread}")
    unknown = "no" if not result["real"] else "an unknown number of"
    counted = unknown if result["n_real"] is None else f"{result['n_real']:,}"
    say(f"{counted} real and {result['n_fake']:,} generated images, seed {result['seed']}")
    for network, description in result.get("networks", {}).items():
        say(f"{network}: {_words(description)}")
    if "lpips" in result:
        say(f"lpips: {result['lpips']}")
    for note in result["notes"]:
        say(f"note: {note}")
