"""The options of a comparison of two sets, and their checks."""

from dataclasses import dataclass

from gan_jax.data.sources.decode import DEEP_BITS
from gan_jax.errors import ArgumentError, argument, at_least, one_of, within
from gan_jax.files import check_file
from gan_jax.metrics.features import RESIZES
from gan_jax.metrics.metric import MetricOptions


@dataclass(frozen=True)
class Options(MetricOptions):
    """How two sets are compared. The options of the metrics themselves are inherited."""

    inception: str = ""  # file with the weights of the Inception network; "": those in the cache
    resize: str = "tf1"  # how images are resized for it, a name in metrics.features.RESIZES
    feature_classifier: str = ""  # the run of a classifier, for metrics that use its features
    lpips: str = ""  # file with the weights of LPIPS; "": those in the cache
    count: int = 0  # at most this many images of each set, spread evenly; 0 for all
    deep_bits: int = DEEP_BITS  # how many bits grey files of 16 bits use, 9 to 16
    save_stats: str = ""  # file for the statistics of the real set
    out: str = ""  # file for the result as JSON

    def check(self) -> None:
        """Raises ArgumentError for a value that is not accepted, or a file that cannot be
        written."""
        for name in ("out", "save_stats"):
            if path := getattr(self, name):
                check_file(path, name)
        with argument("resize"):
            one_of("resize", self.resize, RESIZES)
        if self.seed >= 2**32:
            raise ArgumentError("seed", f"={self.seed}: must be below {2**32}")
        for name, lowest in (
            ("count", 0),
            ("kid_subsets", 1),
            ("kid_subset_size", 2),
            ("splits", 1),
            ("seed", 0),
        ):
            with argument(name):
                at_least(name, getattr(self, name), lowest)
        with argument("deep_bits"):
            within("deep_bits", self.deep_bits, 9, DEEP_BITS)
