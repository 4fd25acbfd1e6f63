"""The table of values: aligned, and with what is better where anything is."""

from gan_jax.evaluation import caricatures, segmentation, table
from gan_jax.metrics.paired import PAIRED
from gan_jax.metrics.registry import METRICS


def test_of_every_metric_it_is_known_what_is_better():
    """A new metric has to be put into one of the lists, or here."""
    neither = {"class_confidence", "ms_ssim"}
    values = {value for metric in METRICS.values() for value in metric.values}
    values |= {*PAIRED, *segmentation.values("segmentation"), *caricatures.values("rank1")}
    values = {value for value in values if not value.endswith("_std")}
    assert {value for value in values if not table.better(value)} == neither
    for name, expected in {
        "fid": "lower", "kid_rbf": "lower", "fd_by_class_classifier/cat": "lower",
        "swd/16": "lower", "precision_strict_classifier": "higher", "is_classifier": "higher",
        "val/accuracy": "higher", "val/loss": "lower", "val/bits_per_dim": "lower",
        "val/gen": "", "val/disc": "", "val/accuracy_real": "", "class_fraction/3": "",
        "rank1_photo": "", "exaggeration/slope": "",
    }.items():  # fmt: skip
        assert table.better(name) == expected, name


def test_columns_are_aligned():
    values = {"val/gen": 0.5, "kid": 0.0123456789, "kid_std": 0.004, "precision": 0.71}
    assert table.rows(values) == [
        "val/gen    0.5",
        "kid        0.0123457 ± 0.004  lower is better",
        "precision  0.71               higher is better",
    ]
    assert table.rows({}) == []


def test_what_values_were_measured_with():
    about = dict(real="validation", n_real=2000, n_fake=500, seed=3, notes=["few images"])
    about["networks"] = {"inception": dict(network="FID Inception", weights="ab12", resize="tf1")}
    about["recogniser"] = "classifier of step 5"
    assert table.measured_with(about) == [
        "2,000 real and 500 generated images, seed 3",
        "inception: FID Inception (ab12), resize tf1",
        "recogniser: classifier of step 5",
        "note: few images",
    ]
