"""The mathematics of diffusion."""
