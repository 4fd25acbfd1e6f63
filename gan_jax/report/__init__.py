"""Pictures for people: grids of images, curves, videos, and an HTML page about a run."""
