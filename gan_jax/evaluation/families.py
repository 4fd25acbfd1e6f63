"""The families of metrics that a run can be measured by, each a module as in `measure.Family`."""

from gan_jax.evaluation import caricatures, paired_metrics, segmentation, set_metrics

FAMILIES = (set_metrics, caricatures, paired_metrics, segmentation)
"""In the order of their values in a report."""
