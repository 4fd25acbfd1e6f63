"""The networks. flax.linen is imported here and nowhere else."""
