"""Measures the images of a run, and any two sets of images."""
