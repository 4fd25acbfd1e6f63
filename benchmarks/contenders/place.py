"""Where and how PyTorch computes: its device, the layout of images, precision and compilation."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks import machine


@dataclass(frozen=True)
class Place:
    """A way to run a step. `compiled`: networks go through torch.compile; `half`: they compute in
    bfloat16 by autocast."""

    device: str = "cpu"
    channels_last: bool = False
    half: bool = False
    compiled: bool = False

    @property
    def name(self) -> str:
        """In words, such as "PyTorch, channels last"."""
        words = {"channels last": self.channels_last, "bfloat16": self.half}
        words["compiled"] = self.compiled
        return ", ".join(["PyTorch", *(word for word, on in words.items() if on)])

    @property
    def order(self) -> torch.memory_format:
        """The layout of images and kernels in memory."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def array(self, values: np.ndarray) -> torch.Tensor:
        """A tensor of any shape; images [B, H, W, C] become [B, C, H, W] in this place's layout."""
        if values.ndim != 4:
            return torch.tensor(values, device=self.device)
        found = torch.tensor(np.ascontiguousarray(values.transpose(0, 3, 1, 2)))
        return found.to(self.device).contiguous(memory_format=self.order)

    def unit(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels 0..255 as floats in [-1, 1]."""
        return (pixels.float() / 127.5 - 1).contiguous(memory_format=self.order)

    def net(self, module: torch.nn.Module) -> torch.nn.Module:
        """The module on the device, its kernels in this place's layout."""
        return module.to(self.device, memory_format=self.order).train()

    def applied(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A network's function in this place's precision, compiled if that is asked for."""
        call = torch.compile(function) if self.compiled else function
        if not self.half:
            return call

        def lower(*inputs: Any) -> Any:
            with torch.autocast(self.device, torch.bfloat16):
                found = call(*inputs)
            return found.float() if torch.is_tensor(found) else tuple(v.float() for v in found)

        return lower

    def wait(self, _: Any = None) -> None:
        """Returns when the device has nothing more to do."""
        if self.device == "cuda":
            torch.cuda.synchronize()


def places() -> tuple[Place, ...]:
    """All places on this machine, those without compilation and bfloat16 first.

    On a CPU there are two layouts. With CUDA, float32 uses TF32 as JAX does there.
    """
    if not (machine.accelerated() and torch.cuda.is_available()):
        torch.set_num_threads(machine.cores())
        return Place(), Place(channels_last=True)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    found = [Place("cuda"), Place("cuda", channels_last=True)]
    found += [Place("cuda", channels_last=True, half=True)]
    found += [Place("cuda", channels_last=True, half=half, compiled=True) for half in (False, True)]
    return tuple(found)


def quiet(net: torch.nn.Module) -> None:
    """Switches dropout off, in place."""
    for module in net.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
