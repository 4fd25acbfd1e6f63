"""The group norm of the U-Net, beside means over groups as JAX differentiates them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.details import Detail, beside_torch, timed, trained
from benchmarks.timing import Contender
from gan_jax.models.unet_blocks import normalized

SIZE = (32, 32 * 32, 64)  # [B, H·W, C] of the larger maps of a step
GROUPS = 32


def by_groups(x, scale, bias, groups: int):
    """Group norm of [B, P, C] by its definition: means over a group's pixels and channels."""
    h = x.reshape(*x.shape[:2], groups, -1)
    h = h - jnp.mean(h, (1, 3), keepdims=True)
    h = h * jax.lax.rsqrt(jnp.mean(jnp.square(h), (1, 3), keepdims=True) + 1e-5)
    return h.reshape(x.shape) * scale + bias


def make(backward: bool, small: bool) -> dict[str, Contender]:
    """The output, or with `backward` also the gradients of input, scale and bias."""
    size, random = (4, *SIZE[1:]) if small else SIZE, np.random.default_rng(0)
    given = tuple(random.normal(size=s).astype(np.float32) for s in (size, size[2:], size[2:]))
    pull = random.normal(size=size).astype(np.float32)
    calls = {
        "gan_jax": trained(partial(normalized, groups=GROUPS), backward, given, pull),
        "by groups": trained(partial(by_groups, groups=GROUPS), backward, given, pull),
    }
    found = {name: timed(call) for name, call in calls.items()}
    expected = [np.asarray(a) for a in jax.tree.leaves(calls["gan_jax"]())]
    results = {"by groups": jax.tree.leaves(calls["by groups"]())}
    if beside_torch():
        from benchmarks.contenders import norm

        call = norm.call(GROUPS, backward, given, pull)
        found["PyTorch"], results["PyTorch"] = Contender(call), norm.arrays(call())
    for name, result in results.items():
        for here, there in zip(expected, result, strict=True):
            np.testing.assert_allclose(there, here, rtol=1e-3, atol=1e-2, err_msg=name)
    return found


DETAILS = tuple(
    Detail(
        f"norm_{name}",
        "norm",
        f"group norm of {list(SIZE)}, {title}",
        partial(make, backward),
        torch=True,
    )
    for name, title, backward in (
        ("forward", "forward", False),
        ("both", "forward and backward", True),
    )
)
