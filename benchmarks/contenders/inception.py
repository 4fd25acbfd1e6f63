"""The Inception network of the metrics in plain PyTorch."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.contenders.place import Place, places
from gan_jax.models import inception


def features(params, pixels: np.ndarray, channels_last: bool):
    """A call for the features: convolution, batch norm and ReLU as modules, in evaluation mode."""
    places()
    place = Place(channels_last=channels_last)

    def conv(name: str, stride: int = 1, padding=0) -> nn.Module:
        kernel = params[name]["kernel"]
        layer = nn.Conv2d(*kernel.shape[2:], kernel.shape[:2], stride, padding, bias=False)
        with torch.no_grad():
            layer.weight.copy_(torch.tensor(kernel.transpose(3, 2, 0, 1).copy()))
        norm = nn.BatchNorm2d(kernel.shape[3], eps=inception.EPSILON)
        norm.running_var.fill_(1 - inception.EPSILON)  # ours has the norm in the kernel already
        return nn.Sequential(layer, norm)

    modules = nn.ModuleDict()

    def run(name: str, x, stride: int = 1, padding=0):
        key = name.replace(".", "/")
        if key not in modules:
            modules[key] = place.net(conv(name, stride, padding)).eval()
        return functional.relu(modules[key](x))

    def mean(x):
        return functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)

    def block_a(n, x):
        five = run(f"{n}.branch5x5_2", run(f"{n}.branch5x5_1", x), padding=2)
        double = run(f"{n}.branch3x3dbl_2", run(f"{n}.branch3x3dbl_1", x), padding=1)
        double = run(f"{n}.branch3x3dbl_3", double, padding=1)
        return [run(f"{n}.branch1x1", x), five, double, run(f"{n}.branch_pool", mean(x))]

    def block_b(n, x):
        double = run(f"{n}.branch3x3dbl_2", run(f"{n}.branch3x3dbl_1", x), padding=1)
        double = run(f"{n}.branch3x3dbl_3", double, 2)
        return [run(f"{n}.branch3x3", x, 2), double, functional.max_pool2d(x, 3, 2)]

    def block_c(n, x):
        seven = run(f"{n}.branch7x7_2", run(f"{n}.branch7x7_1", x), padding=(0, 3))
        seven = run(f"{n}.branch7x7_3", seven, padding=(3, 0))
        double = run(f"{n}.branch7x7dbl_1", x)
        for place, padding in ((2, (3, 0)), (3, (0, 3)), (4, (3, 0)), (5, (0, 3))):
            double = run(f"{n}.branch7x7dbl_{place}", double, padding=padding)
        return [run(f"{n}.branch1x1", x), seven, double, run(f"{n}.branch_pool", mean(x))]

    def block_d(n, x):
        three = run(f"{n}.branch3x3_2", run(f"{n}.branch3x3_1", x), 2)
        seven = run(f"{n}.branch7x7x3_2", run(f"{n}.branch7x7x3_1", x), padding=(0, 3))
        seven = run(f"{n}.branch7x7x3_4", run(f"{n}.branch7x7x3_3", seven, padding=(3, 0)), 2)
        return [three, seven, functional.max_pool2d(x, 3, 2)]

    def block_e(n, x):
        three = run(f"{n}.branch3x3_1", x)
        double = run(f"{n}.branch3x3dbl_2", run(f"{n}.branch3x3dbl_1", x), padding=1)
        pairs = [
            run(f"{n}.{branch}{side}", y, padding=padding)
            for branch, y in (("branch3x3_2", three), ("branch3x3dbl_3", double))
            for side, padding in (("a", (0, 1)), ("b", (1, 0)))
        ]
        pool = mean(x) if n == "Mixed_7b" else functional.max_pool2d(x, 3, 1, 1)
        return [run(f"{n}.branch1x1", x), *pairs, run(f"{n}.branch_pool", pool)]

    blocks = {"5": block_a, "6a": block_b, "6": block_c, "7a": block_d, "7": block_e}
    images = place.array(pixels)

    @torch.inference_mode()
    def call():
        x = run("Conv2d_1a_3x3", (images.float() - 128) / 128, 2)
        x = run("Conv2d_2b_3x3", run("Conv2d_2a_3x3", x), padding=1)
        x = run("Conv2d_3b_1x1", functional.max_pool2d(x, 3, 2))
        x = functional.max_pool2d(run("Conv2d_4a_3x3", x), 3, 2)
        for name in ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c"):
            x = torch.cat(blocks.get(name, blocks[name[0]])(f"Mixed_{name}", x), 1)
        return x.mean((2, 3)).numpy()

    return call
