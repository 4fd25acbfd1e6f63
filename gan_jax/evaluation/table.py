"""The values of metrics, and what they were measured with, as lines of text."""

from collections.abc import Mapping
from typing import Any

from gan_jax.evaluation.real_statistics import in_words

HIGHER = (
    "is", "precision", "recall", "f_score", "density", "coverage", "class_entropy", "psnr", "ssim",
    "accuracy", "pixel_accuracy", "class_accuracy", "class_iou", "rank1", "rank1_generated",
    "identity_cosine",
)  # fmt: skip
LOWER = (
    "fid", "fid_64", "fid_192", "fid_768", "sfid", "fid_by_class", "fd", "fd_by_class", "kid",
    "kid_rbf", "kd", "kd_rbf", "swd", "l1", "lpips", "loss", "mse", "vb", "bits_per_dim",
)  # fmt: skip
"""Values of which a higher one, or a lower one, is better; of all others neither is."""
ENDS = ("_classifier", "_strict")  # of the names of values that differ in how they are measured


def better(name: str) -> str:
    """Whether a "higher" or a "lower" value is better, or "" where neither is, as with the losses
    of two networks that compete."""
    base = name.removeprefix("val/").partition("/")[0]
    for end in ENDS:
        base = base.removesuffix(end)
    return "higher" if base in HIGHER else "lower" if base in LOWER else ""


def rows(values: Mapping[str, float]) -> list[str]:
    """A line for each value: its name, the value with its standard deviation, what is better."""
    found = {}
    for name, value in values.items():
        if not name.endswith("_std"):
            deviation = f" ± {values[f'{name}_std']:.5g}" if f"{name}_std" in values else ""
            found[name] = f"{value:.6g}{deviation}"
    width, room = (max(map(len, column), default=0) for column in (found, found.values()))
    return [
        f"{name:{width}}  {shown:{room}}  {f'{better(name)} is better' if better(name) else ''}"
        .rstrip()
        for name, shown in found.items()
    ]  # fmt: skip


def lines(result: Mapping[str, Any]) -> list[str]:
    """The lines for a result of `comparison.compare`: its values, then what they were measured
    with."""
    return [*rows(result["figures"]), *measured_with(result)]


def measured_with(about: Mapping[str, Any]) -> list[str]:
    """The lines on sets, networks and notes of a comparison's result, or of `quality.Quality`."""
    unknown = "no" if not about["real"] else "an unknown number of"
    counted = unknown if about["n_real"] is None else f"{about['n_real']:,}"
    found = [f"{counted} real and {about['n_fake']:,} generated images, seed {about['seed']}"]
    for network, description in about.get("networks", {}).items():
        found.append(f"{network}: {in_words(description)}")
    for name in ("lpips", "recogniser", "segmenter"):
        if name in about:
            found.append(f"{name}: {about[name]}")
    if "ms_ssim_pairs" in about:
        found.append(f"ms_ssim: images {about['ms_ssim_pairs']} are compared")
    return found + [f"note: {note}" for note in about["notes"]]
