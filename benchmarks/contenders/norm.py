"""PyTorch's group norm."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.contenders.place import places


def call(groups: int, backward: bool, given: tuple[np.ndarray, ...], pull: np.ndarray) -> Callable:
    """A call for the output on maps [B, C, P], with `backward` also for the gradients; `given` are
    input [B, P, C], scale and bias."""
    places()
    x, scale, bias, pull = map(torch.tensor, (*given, pull))
    inputs = [v.requires_grad_() for v in (x.mT.contiguous(), scale, bias)]
    pull = pull.mT.contiguous()

    def forward() -> tuple[torch.Tensor, ...]:
        return (torch.nn.functional.group_norm(inputs[0], groups, *inputs[1:]),)

    def both() -> tuple[torch.Tensor, ...]:
        (y,) = forward()
        return y, *torch.autograd.grad(y, inputs, pull)

    return both if backward else torch.no_grad()(forward)


def arrays(found: tuple[torch.Tensor, ...]) -> list[Any]:
    """What a call returns in our order of axes."""
    return [(v.mT if v.ndim == 3 else v).detach().numpy() for v in found]
