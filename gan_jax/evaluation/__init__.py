"""Images of a run, and any two sets of images, measured."""
