"""Metrics of sets of images, and the statistics from which they are computed."""
