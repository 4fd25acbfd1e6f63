"""PyTorch's attention, forward and backward."""

from collections.abc import Callable

import numpy as np
import torch

from benchmarks.contenders.place import places
from benchmarks.contenders.unet import attention


def call(qkv: np.ndarray, heads: int, pull: np.ndarray, backward: bool) -> Callable:
    """A call for the output [B, T, C] of tokens [B, T, 3C] in guided-diffusion's old order, with
    `backward` also for the gradient."""
    places()
    x, pull = torch.tensor(qkv).requires_grad_(), torch.tensor(pull)

    def forward() -> tuple[torch.Tensor, ...]:
        return (attention(x, heads, "legacy"),)

    def both() -> tuple[torch.Tensor, ...]:
        (y,) = forward()
        return y, *torch.autograd.grad(y, x, pull)

    return both if backward else torch.no_grad()(forward)
