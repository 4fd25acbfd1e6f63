"""Which arrays a program on several devices may move between them."""

import jax

from benchmarks import scaling
from gan_jax.core.train_step import TrainCarry

PRIME = 11  # a factor of nothing in a tiny network but of a batch that is chosen so
# What steps exchange on purpose, by name: (how, numbers for each image of the batch)
EXCHANGED = {
    # the deviation over each group of four images, which lie a quarter of the batch apart as in the
    # original, at 4 px, where the networks are 8 channels wide
    "progan_mnist": ("all-reduce", 4 * 4 * 8 / 4),
    # every image's loss, and its place in the history of losses by level
    "diffusion_cifar10:vlb,classes": ("all-gather", 2),
}


def strays(name: str, rows: int, program: jax.stages.Compiled, carry: TrainCarry) -> list[str]:
    """The arrays that move between devices and should not: all but sums that do not grow with the
    batch, and what EXCHANGED names.

    Sums are looked at if the `rows` of the batch are a multiple of PRIME: one whose size is too,
    and not that of an array of the `carry`, is no gradient and no statistic of the whole batch.
    """
    weights = {leaf.size for leaf in jax.tree.leaves(carry)}
    kind, numbers = EXCHANGED.get(name, ("", 0))
    return [
        str(moved)
        for moved in scaling.moved(program)
        if not (moved.kind == kind and moved.size <= numbers * rows)
        and not (moved.kind == "all-reduce" and (moved.size % PRIME or moved.size in weights))
    ]


def unwanted(program: jax.stages.Compiled, carry: TrainCarry) -> list[str]:
    """The arrays that move in a step whose state is split, and are neither weights that the devices
    gather, nor sums, nor single numbers such as a metric. Some weights have to be gathered."""
    weights = {leaf.size for leaf in jax.tree.leaves(carry)}
    found = [moved for moved in scaling.moved(program) if moved.size > 1]
    sums = ("all-reduce", "reduce-scatter")
    gathered = [m for m in found if m.kind == "all-gather" and m.size in weights]
    others = [str(m) for m in found if m.kind not in sums and m not in gathered]
    return others if gathered else [*others, "no weights are gathered"]
