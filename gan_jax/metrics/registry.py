"""Every metric of two sets of images, one row for each."""

from collections.abc import Iterator, Sequence
from typing import Any

from gan_jax.metrics.coverage import Classes
from gan_jax.metrics.features import Network
from gan_jax.metrics.frechet import Frechet, FrechetByClass
from gan_jax.metrics.inception_score import InceptionScore
from gan_jax.metrics.kid import Kid
from gan_jax.metrics.manifold import Manifold
from gan_jax.metrics.metric import CLASSIFIER, INCEPTION, PIXELS, Metric
from gan_jax.metrics.pixels import MsSsim, SlicedWasserstein


def _of_features(network: str, end: str, frechet: str, kernel: str) -> Iterator[Metric]:
    """The metrics that both feature networks have; their names end in `end`."""
    yield Frechet(f"{frechet}{end}", network)
    yield Kid(f"{kernel}{end}", network)
    yield Kid(f"{kernel}_rbf{end}", network, kernel="rbf")
    yield InceptionScore(f"is{end}", network)
    yield Manifold(f"pr{end}", network, ("precision", "recall", "f_score"), end, k=3)
    yield Manifold(
        f"pr_strict{end}", network, ("precision", "recall"), f"_strict{end}", k=5, strict=True
    )
    yield Manifold(f"dc{end}", network, ("density", "coverage"), end, k=5, strict=True)
    yield FrechetByClass(f"{frechet}_by_class{end}", network)


_ROWS = (
    *_of_features(INCEPTION, "", frechet="fid", kernel="kid"),
    *_of_features(CLASSIFIER, "_classifier", frechet="fd", kernel="kd"),
    Frechet("fid_64", INCEPTION, tap="64"),
    Frechet("fid_192", INCEPTION, tap="192"),
    Frechet("fid_768", INCEPTION, tap="768"),
    Frechet("sfid", INCEPTION, tap="spatial"),
    Classes("classes", CLASSIFIER),
    SlicedWasserstein("swd", PIXELS),
    MsSsim("ms_ssim", PIXELS),
)
METRICS: dict[str, Metric] = {metric.name: metric for metric in _ROWS}
"""Every metric of two sets that need not be paired, by name."""


def chosen(names: Sequence[str], network: str) -> dict[str, Metric]:
    """The metrics among `names` that use this network (INCEPTION, CLASSIFIER or PIXELS)."""
    known = [name for name in names if name in METRICS]  # others are metrics of pairs
    return {name: METRICS[name] for name in known if METRICS[name].network == network}


def describe(network: Network, names: Sequence[str] = ()) -> dict[str, Any]:
    """The identity of a network, as it is written beside the values of the metrics `names`."""
    found = {"network": network.name, "weights": network.fingerprint, "resize": network.resize}
    scored = any(m.features == ("logits",) for m in chosen(names, INCEPTION).values())
    return found | ({"logits": network.logits} if scored and network.logits else {})
