"""guided-diffusion's U-Net, and its encoder as a classifier, in plain PyTorch with our weights.

The structure follows from the names of our layers, such as "input_blocks_3_0".
"""

import math
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.contenders import layers
from benchmarks.contenders.gan_networks import double

Tensor = torch.Tensor


def embed(net: nn.ModuleDict, time: Tensor, width: int) -> Tensor:
    """The embedding of times [B] that all residual blocks read."""
    half = width // 2
    rates = torch.exp(torch.arange(half, device=time.device) * (-math.log(10000) / half))
    angles = time[:, None].float() * rates
    h = net["time_embed_0"](torch.cat((angles.cos(), angles.sin()), 1))
    return net["time_embed_2"](functional.silu(h))


def residual(part: nn.ModuleDict, x: Tensor, embedding: Tensor, resize: Any, drop: Any) -> Tensor:
    """Two convolutions; between them the embedding of the time scales and shifts the maps."""
    silu = functional.silu
    h = part["in_layers_2"](resize(silu(part["in_layers_0"](x))), 1, 1)
    scale, shift = part["emb_layers_1"](silu(embedding))[:, :, None, None].chunk(2, 1)
    h = part["out_layers_0"](h) * (1 + scale) + shift
    h = part["out_layers_3"](drop(silu(h)), 1, 1)
    x = resize(x)
    return h + (part["skip_connection"](x) if "skip_connection" in part else x)


def attention(qkv: Tensor, heads: int, order: str) -> Tensor:
    """Softmax attention of tokens [B, T, 3C] → [B, T, C]."""
    batch, tokens, wide = qkv.shape
    depth = wide // 3 // heads
    if order == "legacy":
        q, k, v = qkv.view(batch, tokens, heads, 3, depth).permute(3, 0, 2, 1, 4)
    else:
        q, k, v = qkv.view(batch, tokens, 3, heads, depth).permute(2, 0, 3, 1, 4)
    found = functional.scaled_dot_product_attention(q, k, v)  # [B, heads, T, depth]
    return found.transpose(1, 2).reshape(batch, tokens, wide // 3)


def attend(part: nn.ModuleDict, x: Tensor, model: Any) -> Tensor:
    """Attention over all pixels, added to the map."""
    tokens = part["norm"](x).flatten(2).mT
    h = attention(part["qkv"](tokens), heads(model, x.shape[1]), order(model))
    return x + part["proj_out"](h).mT.reshape(x.shape)


def heads(model: Any, channels: int) -> int:
    """The number of heads of a section `model` for so many channels."""
    return channels // model.num_head_channels if model.num_head_channels else model.num_heads


def order(model: Any) -> str:
    """The order of queries, keys and values among the channels."""
    return model.get("attention_order", "legacy")


def same(x: Tensor) -> Tensor:
    """No change of size."""
    return x


def half(x: Tensor) -> Tensor:
    """Half the size, by means."""
    return functional.avg_pool2d(x, 2)


class Network(nn.Module):
    """A U-Net, or its encoder with a head of classes, as a section `model` describes it."""

    def __init__(self, params: dict[str, Any], model: Any):
        super().__init__()
        self.layers = layers.network(params, {}, layers.Reading(groups=model.norm_groups))
        self.model, self.drop = model, nn.Dropout(model.get("dropout", 0.0))
        self.encoder, self.decoder = (
            self._blocks(params, kind) for kind in ("input_blocks", "output_blocks")
        )

    @staticmethod
    def _blocks(params: dict[str, Any], kind: str) -> list[list[str]]:
        """The names of the parts of each block, in order."""
        found: list[list[str]] = []
        while f"{kind}_{len(found)}_0" in params:
            names = [f"{kind}_{len(found)}_{part}" for part in range(3)]
            found.append([name for name in names if name in params])
        return found

    def _part(self, name: str, x: Tensor, embedding: Tensor, resize: Any = same) -> Tensor:
        part = self.layers[name]
        if not isinstance(part, nn.ModuleDict):
            return part(x, 1, 1)
        if "qkv" in part:
            return attend(part, x, self.model)
        if "op" in part:
            return part["op"](x, 2, 1)
        if "conv" in part:
            return part["conv"](double(x), 1, 1)
        return residual(part, x, embedding, resize, self.drop)

    def encode(self, x: Tensor, embedding: Tensor) -> list[Tensor]:
        """The maps of all blocks of the encoder."""
        maps = []
        for number, names in enumerate(self.encoder):
            shrinks = number and number % (self.model.num_res_blocks + 1) == 0
            for name in names:
                x = self._part(name, x, embedding, half if shrinks else same)
            maps.append(x)
        return maps

    def middle(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Residual block, attention, residual block."""
        for part in range(3):
            x = self._part(f"middle_block_{part}", x, embedding)
        return x

    def denoise(self, x: Tensor, time: Tensor) -> Tensor:
        """The output of the U-Net."""
        embedding = embed(self.layers, time, self.model.num_channels)
        maps = self.encode(x, embedding)
        x = self.middle(maps[-1], embedding)
        for names in self.decoder:
            x = torch.cat((x, maps.pop()), 1)
            for place, name in enumerate(names):
                x = self._part(name, x, embedding, double if place else same)
        out = self.layers
        return out["out_2"](functional.silu(out["out_0"](x)), 1, 1)

    def classify(self, x: Tensor, time: Tensor) -> Tensor:
        """Logits [B, K] of the encoder with an attention pool."""
        embedding = embed(self.layers, time, self.model.num_channels)
        x = self.middle(self.encode(x, embedding)[-1], embedding)
        tokens = functional.silu(self.layers["out_0"](x)).flatten(2).mT
        tokens = torch.cat((tokens.mean(1, keepdim=True), tokens), 1)
        pool = self.layers["out_2"]
        qkv = pool["qkv_proj"](tokens + pool.positional_embedding.mT)
        return pool["c_proj"](attention(qkv, heads(self.model, x.shape[1]), "new")[:, 0])


def tables(**values: np.ndarray) -> dict[str, Tensor]:
    """Tables over the chain as float32."""
    return {name: torch.tensor(np.asarray(v), dtype=torch.float32) for name, v in values.items()}
