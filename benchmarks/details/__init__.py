"""Single layers and other parts that decisions rest on, each beside other ways to compute it.

A detail makes its contenders, which agree on their results before they are timed. PyTorch's are
those of benchmarks.contenders, where it is installed and computes on a CPU; they are made in a
process apart, which makes ours as well to compare them.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from benchmarks import apart
from benchmarks.apart import Made
from benchmarks.timing import Contender
from gan_jax.models import convolution


class Detail(NamedTuple):
    """A row of the second table.

    `make(small)` gives the contenders by name. `system` is the word by which --system finds it;
    `images` is how many images a call takes, 0 where that says nothing. `torch`: it has contenders
    in PyTorch.
    """

    name: str
    system: str
    title: str
    make: Callable[[bool], dict[str, Contender]]
    images: int = 0
    torch: bool = False


def beside_torch() -> bool:
    """Whether PyTorch's contenders are to be made: this is their process."""
    return apart.inside()


def theirs(make: Callable[[bool], dict[str, Contender]], small: bool) -> Made:
    """PyTorch's contenders of a detail, for `apart.Apart`."""
    return {name: call for name, call in make(small).items() if name.startswith("PyTorch")}, None


def timed(call: Callable[[], object]) -> Contender:
    """A call of JAX, whose result may still be computed when it returns."""
    return Contender(call, jax.block_until_ready)


def trained(function: Callable, backward: bool, given: Sequence[np.ndarray], pull: np.ndarray):
    """A call, compiled like a training step, for the output (y,) of `function(*given)`, with
    `backward` also for the gradients: (y, *gradients), where `pull` is that of y."""

    def forward(pull, *inputs):
        return (function(*inputs),)

    def both(pull, *inputs):
        y, back = jax.vjp(function, *inputs)
        return y, *back(pull)

    options = convolution.compiler_options(products=True)
    run = jax.jit(both if backward else forward, compiler_options=options)
    return functools.partial(run, *jax.device_put((pull, *given)))
