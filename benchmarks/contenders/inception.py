"""The Inception network of the metrics in plain PyTorch."""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.contenders.place import Place, places
from gan_jax.models import inception

Tensor = torch.Tensor


def mean(x: Tensor) -> Tensor:
    """Means of 3x3 pixels, borders left out of the count."""
    return functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


class Inception:
    """Convolutions, batch norms and ReLUs as modules, in evaluation mode; each block gives the maps
    of its branches."""

    def __init__(self, params, place: Place):
        self.params, self.place, self.modules = params, place, {}

    def layer(self, name: str, stride: int, padding) -> nn.Module:
        """A convolution with our kernel, and the norm that ours has in its kernel already."""
        kernel = self.params[name]["kernel"]
        conv = nn.Conv2d(*kernel.shape[2:], kernel.shape[:2], stride, padding, bias=False)
        with torch.no_grad():
            conv.weight.copy_(torch.tensor(kernel.transpose(3, 2, 0, 1).copy()))
        norm = nn.BatchNorm2d(kernel.shape[3], eps=inception.EPSILON)
        norm.running_var.fill_(1 - inception.EPSILON)
        return self.place.net(nn.Sequential(conv, norm)).eval()

    def run(self, name: str, x: Tensor, stride: int = 1, padding=0) -> Tensor:
        """The layer of that name."""
        if name not in self.modules:
            self.modules[name] = self.layer(name, stride, padding)
        return functional.relu(self.modules[name](x))

    def block_a(self, n: str, x: Tensor) -> list[Tensor]:
        """Mixed_5b to 5d."""
        five = self.run(f"{n}.branch5x5_2", self.run(f"{n}.branch5x5_1", x), padding=2)
        double = self.run(f"{n}.branch3x3dbl_2", self.run(f"{n}.branch3x3dbl_1", x), padding=1)
        double = self.run(f"{n}.branch3x3dbl_3", double, padding=1)
        return [
            self.run(f"{n}.branch1x1", x), five, double, self.run(f"{n}.branch_pool", mean(x)),
        ]  # fmt: skip

    def block_b(self, n: str, x: Tensor) -> list[Tensor]:
        """Mixed_6a."""
        double = self.run(f"{n}.branch3x3dbl_2", self.run(f"{n}.branch3x3dbl_1", x), padding=1)
        double = self.run(f"{n}.branch3x3dbl_3", double, 2)
        return [self.run(f"{n}.branch3x3", x, 2), double, functional.max_pool2d(x, 3, 2)]

    def block_c(self, n: str, x: Tensor) -> list[Tensor]:
        """Mixed_6b to 6e."""
        seven = self.run(f"{n}.branch7x7_2", self.run(f"{n}.branch7x7_1", x), padding=(0, 3))
        seven = self.run(f"{n}.branch7x7_3", seven, padding=(3, 0))
        double = self.run(f"{n}.branch7x7dbl_1", x)
        for number, padding in ((2, (3, 0)), (3, (0, 3)), (4, (3, 0)), (5, (0, 3))):
            double = self.run(f"{n}.branch7x7dbl_{number}", double, padding=padding)
        return [
            self.run(f"{n}.branch1x1", x), seven, double, self.run(f"{n}.branch_pool", mean(x)),
        ]  # fmt: skip

    def block_d(self, n: str, x: Tensor) -> list[Tensor]:
        """Mixed_7a."""
        three = self.run(f"{n}.branch3x3_2", self.run(f"{n}.branch3x3_1", x), 2)
        seven = self.run(f"{n}.branch7x7x3_1", x)
        seven = self.run(f"{n}.branch7x7x3_2", seven, padding=(0, 3))
        seven = self.run(f"{n}.branch7x7x3_3", seven, padding=(3, 0))
        return [three, self.run(f"{n}.branch7x7x3_4", seven, 2), functional.max_pool2d(x, 3, 2)]

    def block_e(self, n: str, x: Tensor) -> list[Tensor]:
        """Mixed_7b and 7c."""
        three = self.run(f"{n}.branch3x3_1", x)
        double = self.run(f"{n}.branch3x3dbl_2", self.run(f"{n}.branch3x3dbl_1", x), padding=1)
        pairs = [
            self.run(f"{n}.{branch}{side}", y, padding=padding)
            for branch, y in (("branch3x3_2", three), ("branch3x3dbl_3", double))
            for side, padding in (("a", (0, 1)), ("b", (1, 0)))
        ]
        pool = mean(x) if n == "Mixed_7b" else functional.max_pool2d(x, 3, 1, 1)
        return [self.run(f"{n}.branch1x1", x), *pairs, self.run(f"{n}.branch_pool", pool)]

    def __call__(self, pixels: Tensor) -> Tensor:
        """Pixels [B, 3, 299, 299] → features [B, 2048]."""
        blocks = {"5": self.block_a, "6a": self.block_b, "6": self.block_c}
        blocks |= {"7a": self.block_d, "7": self.block_e}
        x = self.run("Conv2d_1a_3x3", (pixels.float() - 128) / 128, 2)
        x = self.run("Conv2d_2b_3x3", self.run("Conv2d_2a_3x3", x), padding=1)
        x = self.run("Conv2d_3b_1x1", functional.max_pool2d(x, 3, 2))
        x = functional.max_pool2d(self.run("Conv2d_4a_3x3", x), 3, 2)
        for name in ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c"):
            x = torch.cat(blocks.get(name, blocks[name[0]])(f"Mixed_{name}", x), 1)
        return x.mean((2, 3))


def features(params, pixels: np.ndarray, channels_last: bool) -> Callable[[], np.ndarray]:
    """A call for the features [B, 2048] of pixels uint8 [B, 299, 299, 3], on the host."""
    places()
    place = Place(channels_last=channels_last)
    net, images = Inception(params, place), place.array(pixels)

    @torch.inference_mode()
    def call() -> np.ndarray:
        return net(images).numpy()

    return call
