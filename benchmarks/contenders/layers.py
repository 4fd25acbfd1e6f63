"""Our trees of weights as PyTorch modules of the same names, with copies of the weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

Tree = Mapping[str, Any]


@dataclass(frozen=True)
class Reading:
    """What a tree of weights does not say about its layers.

    `transposed`: beginnings of the names of transposed convolutions. `mapped`: dense layers whose
    output is a map [size, size, C], by name, with that size. `groups`: of group norm; 0: norms with
    statistics are batch norms of `eps`.
    """

    transposed: tuple[str, ...] = ()
    mapped: Mapping[str, int] = field(default_factory=dict)
    groups: int = 0
    eps: float = 1e-5


class Conv(nn.Module):
    """A convolution, whose stride and padding are given where it is called."""

    def __init__(self, kernel: np.ndarray, bias: np.ndarray | None):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(np.ascontiguousarray(kernel)))
        self.bias = None if bias is None else nn.Parameter(torch.tensor(bias))

    def forward(self, x: torch.Tensor, stride: int = 1, padding: int = 0) -> torch.Tensor:
        """x [B, C, H, W]."""
        return nn.functional.conv2d(x, self.weight, self.bias, stride, padding)


class Doubling(Conv):
    """A transposed convolution of kernel 4 that doubles the size."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [B, C, H, W] → [B, O, 2H, 2W]."""
        return nn.functional.conv_transpose2d(x, self.weight, self.bias, 2, 1)


class BatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm of maps and of vectors."""

    def _check_input_dim(self, input: torch.Tensor) -> None:
        pass


class ClassNorm(nn.Module):
    """Batch norm with a scale and a bias for each class."""

    def __init__(self, scale: np.ndarray, bias: np.ndarray, eps: float):
        super().__init__()
        self.norm = BatchNorm(scale.shape[1], eps=eps, affine=False)
        self.scale = nn.Parameter(torch.tensor(scale))
        self.bias = nn.Parameter(torch.tensor(bias))

    def forward(self, x: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """x [B, C, H, W] and classes [B]."""
        scale, bias = self.scale[label][:, :, None, None], self.bias[label][:, :, None, None]
        return self.norm(x) * scale + bias


class Scale(nn.Module):
    """`scale` and `bias` of a norm that is computed where the layer is used."""

    def __init__(self, scale: np.ndarray, bias: np.ndarray):
        super().__init__()
        self.scale, self.bias = (nn.Parameter(torch.tensor(v)) for v in (scale, bias))


PLAIN = Reading()


def network(params: Tree, stats: Tree, reading: Reading = PLAIN) -> nn.ModuleDict:
    """The layers of a network by our names, nested as our tree is.

    Parameters that belong to no layer, such as a position embedding, become parameters of the same
    name. Raises ValueError if the modules do not hold as many weights as the tree.
    """
    found = _modules(params, stats, reading)
    here = sum(p.numel() for p in found.parameters())
    there = _count(params)
    if here != there:
        raise ValueError(f"ours has {there} parameters, its PyTorch twin {here}")
    return found


def _count(tree: Any) -> int:
    if isinstance(tree, Mapping):
        return sum(_count(value) for value in tree.values())
    return int(np.size(tree))


def _modules(params: Tree, stats: Tree, reading: Reading) -> nn.ModuleDict:
    found = nn.ModuleDict()
    for name, tree in params.items():
        if not isinstance(tree, Mapping):
            found.register_parameter(name, nn.Parameter(torch.tensor(np.array(tree))))
        elif "kernel" in tree:
            found[name] = _weighted(name, tree, stats.get(name, {}), reading)
        elif "scale" in tree and not isinstance(tree["scale"], Mapping):
            found[name] = _norm(tree, stats.get(name, {}), reading)
        else:
            found[name] = _modules(tree, stats.get(name, {}), reading)
    return found


def _weighted(name: str, tree: Tree, stats: Tree, reading: Reading) -> nn.Module:
    """A convolution, a linear layer or a table of vectors."""
    kernel, bias = np.array(tree["kernel"]), tree.get("bias")
    bias = None if bias is None else np.array(bias)
    if name in reading.mapped:
        size = reading.mapped[name]
        kernel, bias = _channels_first(kernel, size), _channels_first(bias[None], size)[0]
    if kernel.ndim == 4 and name.startswith(reading.transposed or ("\0",)):
        layer = Doubling(kernel.transpose(2, 3, 0, 1), bias)
    elif kernel.ndim == 4:
        layer = Conv(kernel.transpose(3, 2, 0, 1), bias)
    elif name == "embed":
        layer = nn.Embedding(*kernel.shape)
        layer.weight.data.copy_(torch.tensor(kernel))
    else:
        layer = nn.Linear(*kernel.shape, bias=bias is not None)
        layer.weight.data.copy_(torch.tensor(kernel.T.copy()))
        if bias is not None:
            layer.bias.data.copy_(torch.tensor(bias))
    return _normalised(layer, stats["u"]) if "u" in stats else layer


def _channels_first(values: np.ndarray, size: int) -> np.ndarray:
    """[N, size * size * C] → [N, C * size * size]."""
    maps = values.reshape(len(values), size * size, -1)
    return np.ascontiguousarray(maps.swapaxes(1, 2)).reshape(len(values), -1)


def _normalised(layer: nn.Module, vector: np.ndarray) -> nn.Module:
    """The layer with spectral norm, whose power iteration begins at our vector."""
    # a table's vectors are columns for us
    found = nn.utils.spectral_norm(layer, dim=1 if isinstance(layer, nn.Embedding) else None)
    found.weight_u.copy_(torch.tensor(np.array(vector)))
    return found


def _norm(tree: Tree, stats: Tree, reading: Reading) -> nn.Module:
    scale, bias = np.array(tree["scale"]), np.array(tree["bias"])
    if scale.ndim == 2:
        return ClassNorm(scale, bias, reading.eps)
    if not stats and not reading.groups:
        return Scale(scale, bias)
    if stats:
        layer = BatchNorm(len(scale), eps=reading.eps)
    else:
        layer = nn.GroupNorm(reading.groups, len(scale))
    layer.weight.data.copy_(torch.tensor(scale))
    layer.bias.data.copy_(torch.tensor(bias))
    return layer
