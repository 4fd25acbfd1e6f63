"""The metrics of two sets of images: one row for each, with what has to be kept of either set."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from gan_jax.metrics.features import Network

INCEPTION, CLASSIFIER, PIXELS = "inception", "classifier", "pixels"


@dataclass(frozen=True)
class Settings:
    """What the figures depend on beside the images, and is said with them."""

    seed: int = 2020  # KID's subsets, the Inception Score's order, SWD's patches and directions
    kid_subsets: int = 100
    kid_subset_size: int = 1000  # at most; smaller sets are taken whole
    splits: int = 10  # of the Inception Score
    few: bool = False  # a Fréchet distance of fewer images than features is given, and marked

    def said(self) -> dict[str, int]:
        """What is written beside figures; of few images there is a note."""
        return {name: value for name, value in asdict(self).items() if name != "few"}


class Metric(NamedTuple):
    """One name of `--metrics`: the figures it gives and what must be kept for them."""

    network: str
    figures: tuple[str, ...]
    moments: tuple[str, ...] = ()  # taps
    features: tuple[str, ...] = ()
    of_real: bool = True  # whether real images matter
    by_class: bool = False
    patches: bool = False
    pairs: bool = False


def _metrics() -> dict[str, Metric]:
    found = {}
    for network, end, frechet, kernel in (
        (INCEPTION, "", "fid", "kid"),
        (CLASSIFIER, "_classifier", "fd", "kd"),
    ):
        one = {"features": ("features",)}
        found |= {
            f"{frechet}{end}": Metric(network, (f"{frechet}{end}",), moments=("features",)),
            f"{kernel}{end}": Metric(network, (f"{kernel}{end}", f"{kernel}{end}_std"), **one),
            f"{kernel}_rbf{end}": Metric(
                network, (f"{kernel}_rbf{end}", f"{kernel}_rbf{end}_std"), **one
            ),
            f"is{end}": Metric(
                network, (f"is{end}", f"is{end}_std"), features=("logits",), of_real=False
            ),
            f"pr{end}": Metric(
                network, (f"precision{end}", f"recall{end}", f"f_score{end}"), **one
            ),
            f"pr_strict{end}": Metric(
                network, (f"precision_strict{end}", f"recall_strict{end}"), **one
            ),
            f"dc{end}": Metric(network, (f"density{end}", f"coverage{end}"), **one),
            f"{frechet}_by_class{end}": Metric(
                network, (f"{frechet}_by_class{end}",), moments=("features",), by_class=True
            ),
        }
    for tap in ("64", "192", "768"):
        found[f"fid_{tap}"] = Metric(INCEPTION, (f"fid_{tap}",), moments=(tap,))
    found["sfid"] = Metric(INCEPTION, ("sfid",), moments=("spatial",))
    found["classes"] = Metric(
        CLASSIFIER, ("class_entropy", "class_confidence"), features=("logits",), of_real=False
    )
    found["swd"] = Metric(PIXELS, ("swd",), patches=True)
    found["ms_ssim"] = Metric(PIXELS, ("ms_ssim",), pairs=True)
    return found


METRICS = _metrics()
"""Every metric of two sets that need not be paired."""


def chosen(names: Sequence[str], network: str) -> dict[str, Metric]:
    """The metrics among `names` that are of this network (INCEPTION, CLASSIFIER or PIXELS)."""
    known = [name for name in names if name in METRICS]  # the rest is of pairs
    return {name: METRICS[name] for name in known if METRICS[name].network == network}


def describe(network: Network, names: Sequence[str] = ()) -> dict[str, Any]:
    """What identifies a network, as it is written beside the figures of the metrics `names`."""
    found = {"network": network.name, "weights": network.fingerprint, "resize": network.resize}
    scored = any(m.features == ("logits",) for m in chosen(names, INCEPTION).values())
    return found | ({"logits": network.logits} if scored and network.logits else {})
