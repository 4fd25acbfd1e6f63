"""What things cost, beside plain PyTorch renditions of the same work."""
