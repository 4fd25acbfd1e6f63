"""What a person looks at: grids of images, curves, one page per run."""
