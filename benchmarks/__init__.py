"""Times of training steps, layers and samplers, compared with equivalent plain PyTorch code."""
