"""The families of metrics for a run; each is a module like `measure.Family`."""

from gan_jax.evaluation import caricatures, paired_metrics, segmentation, set_metrics

FAMILIES = (set_metrics, caricatures, paired_metrics, segmentation)
"""In the order in which a report shows their values."""
