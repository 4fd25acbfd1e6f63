"""Batch statistics measured over many batches, in place of running ones (Brock et al. 2019).

Training moves a running statistic a little at every step, while the weights go on changing.
Standing statistics are those of the weights as they are now.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from gan_jax.core import ema, loss_scale
from gan_jax.core.system import Net, PyTree
from gan_jax.errors import ArgumentError
from gan_jax.models.layers import BatchNorm

Forward = Callable[[PyTree, PyTree, Any], PyTree]


def standing(net: Net, forward: Forward, batches: PyTree) -> Net:
    """The net with batch statistics that are means over n batches.

    If the net has averaged weights, their statistics are measured as well.

    Args:
      net: a net with batch statistics; raises ArgumentError if it has none.
      forward: (params, stats, batch) → the statistics after one pass in training mode.
      batches: arrays [n, ...], n batches of what `forward` reads.
    """
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(net.stats)]
    if not any(_name(path) == "mean" for path in paths):
        raise ArgumentError("standing_stats", ": this model's generator has no batch statistics")
    opt = net.opt
    if ema.has_average(net):
        average = loss_scale.links(opt)["ema"]
        measured = tuple(
            _measured(params, stats, forward, batches)
            for params, stats in zip(average.params, average.stats, strict=True)
        )
        opt = loss_scale.with_links(opt, ema=average._replace(stats=measured))
    return net.replace(stats=_measured(net.params, net.stats, forward, batches), opt=opt)


def _measured(params: PyTree, stats: PyTree, forward: Forward, batches: PyTree) -> PyTree:
    """`stats` with the mean over all batches of each batch's own statistics."""

    def one(_, batch):
        new = forward(params, stats, batch)
        # one pass moves a running value by the momentum towards the batch's own value, so that can
        # be computed from how far it moved
        return None, jax.tree.map(lambda a, b: a + (b - a) / BatchNorm.momentum, stats, new)

    def mean(path, old, found):
        # other statistics (spectral norm's vectors) stay as they are
        return jnp.mean(found, axis=0) if _name(path) in ("mean", "var") else old

    _, found = jax.lax.scan(one, None, batches)
    return jax.tree_util.tree_map_with_path(mean, stats, found)


def _name(path: tuple) -> Any:
    return getattr(path[-1], "key", None)
