"""A convolution of padding 1 in PyTorch, forward and backward."""

from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional

from benchmarks.contenders.place import Place, places


def call(
    transposed: bool, given: tuple[np.ndarray, ...], channels_last: bool, strides: int = 2
) -> Callable[[], tuple[torch.Tensor, ...]]:
    """A call for (output, gradients of input and kernel) of `given`: input, kernel and the gradient
    of the output, as ours have them."""
    places()
    place, (x, kernel, pull) = Place(channels_last=channels_last), given
    # as PyTorch keeps kernels: [O, C, kh, kw], transposed convolutions [C, O, kh, kw]
    order = (2, 3, 0, 1) if transposed else (3, 2, 0, 1)
    weight = torch.tensor(kernel.transpose(order).copy()).contiguous(memory_format=place.order)
    weight.requires_grad_()
    x, pull = place.array(x).requires_grad_(), place.array(pull)
    forward = functional.conv_transpose2d if transposed else functional.conv2d

    def both() -> tuple[torch.Tensor, ...]:
        y = forward(x, weight, None, strides, 1)
        return y, *torch.autograd.grad(y, (x, weight), pull)

    return both


def output(found: tuple[torch.Tensor, ...]) -> np.ndarray:
    """The output of a call, [B, H, W, O]."""
    return found[0].detach().numpy().transpose(0, 2, 3, 1)
