"""The warp of contenders/warp.py as calls that are timed."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.contenders.place import Place, places
from benchmarks.contenders.warp import warp


def call(
    backward: bool,
    regularization: float,
    image: np.ndarray,
    cotangent: np.ndarray,
    points: np.ndarray,
    displacements: np.ndarray,
) -> Callable[[], tuple[torch.Tensor, ...]]:
    """A call for the warped image [B, C, H, W], with `backward` also for the gradients of image and
    displacements."""
    places()
    place = Place()
    image, cotangent = place.array(image), place.array(cotangent)
    points, displacements = place.array(points), place.array(displacements)

    def forward() -> tuple[torch.Tensor, ...]:
        with torch.no_grad():
            return (warp(image, points, displacements, regularization),)

    def both() -> tuple[torch.Tensor, ...]:
        given = [a.clone().requires_grad_() for a in (image, displacements)]
        made = warp(given[0], points, given[1], regularization)
        return made, *torch.autograd.grad(made, given, cotangent)

    return both if backward else forward


def arrays(found: tuple[torch.Tensor, ...]) -> list[Any]:
    """What a call returns; images with their channels last."""
    made = [v.detach().numpy() for v in found]
    return [v.transpose(0, 2, 3, 1) if v.ndim == 4 else v for v in made]
