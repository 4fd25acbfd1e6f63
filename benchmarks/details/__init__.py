"""Single layers and other parts that decisions rest on, each beside other ways to compute it.

A detail makes its contenders, which agree on their results before they are timed. PyTorch's are
those of benchmarks.contenders, where it is installed and computes on a CPU.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax

from benchmarks.cases import torch_is_here
from benchmarks.timing import Contender


class Detail(NamedTuple):
    """A row of the second table.

    `make(small)` gives the contenders by name. `system` is the word by which --system finds it;
    `images` is how many images a call takes, 0 where that says nothing.
    """

    name: str
    system: str
    title: str
    make: Callable[[bool], dict[str, Contender]]
    images: int = 0


def beside_torch() -> bool:
    """Whether PyTorch's contenders run: their code here is for a CPU."""
    return torch_is_here() and jax.default_backend() == "cpu"


def timed(call: Callable[[], object]) -> Contender:
    """A call of JAX, whose result may still be computed when it returns."""
    return Contender(call, jax.block_until_ready)
